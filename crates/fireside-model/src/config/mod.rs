//! The shape of a decoder, read from config.json or from GGUF metadata.

use fireside_formats::Gguf;
use fireside_kernels::params::Activation;
use serde_json::Value;

use crate::error::ModelError;
use crate::family::{self, Family};
use crate::rope::{Rope, RopeScaling};

/// Everything about a decoder that is not a weight.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// The family: names and switches.
    pub family: &'static Family,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Positions the model can attend to.
    pub context: usize,
    /// Added to the mean square of norms.
    pub norm_eps: f32,
    /// The gate of the feed-forward layer.
    pub activation: Activation,
    /// The rotary embedding.
    pub rope: Rope,
    /// The head is the embedding table.
    pub tied: bool,
    /// What differs from layer to layer, one for each.
    pub kinds: Vec<LayerKind>,
    /// Factors on what goes in, on, and out.
    pub scales: Scales,
}

/// What differs from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerKind {
    /// Positions that a query sees, its own included; 0 for all before it.
    pub window: usize,
    /// Queries and keys have a rotary embedding.
    pub rotates: bool,
}

/// Factors of a decoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scales {
    /// On embeddings.
    pub embedding: f32,
    /// On what a layer adds to the residual stream.
    pub residual: f32,
    /// On scores, in place of one over the square root of the head's size.
    pub attention: Option<f32>,
    /// Divides logits.
    pub logits: f32,
}

impl Default for Scales {
    fn default() -> Self {
        Self {
            embedding: 1.0,
            residual: 1.0,
            attention: None,
            logits: 1.0,
        }
    }
}

/// Most layers of a decoder.
const MAX_LAYERS: usize = 1 << 12;

/// A JSON object whose fields are read with errors that name them.
struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn invalid(field: &str, found: &Value, wanted: &'static str) -> ModelError {
        ModelError::ConfigField {
            field: field.to_string(),
            found: found.to_string().chars().take(60).collect(),
            wanted,
        }
    }

    fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|v| !v.is_null())
    }

    fn size(&self, field: &str) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        value
            .as_u64()
            .and_then(|v| usize::try_from(v).ok())
            .filter(|v| *v > 0 && *v <= 1 << 28)
            .map(Some)
            .ok_or_else(|| Self::invalid(field, value, "a positive whole number below 2^28"))
    }

    fn need(&self, field: &'static str) -> Result<usize, ModelError> {
        self.size(field)?.ok_or(ModelError::ConfigMissing { field })
    }

    fn float(&self, field: &str) -> Result<Option<f64>, ModelError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        value
            .as_f64()
            .filter(|v| v.is_finite() && *v >= 0.0)
            .map(Some)
            .ok_or_else(|| Self::invalid(field, value, "a number that is not negative"))
    }

    fn flag(&self, field: &str) -> Result<Option<bool>, ModelError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        let wanted = "true or false";
        value
            .as_bool()
            .map(Some)
            .ok_or_else(|| Self::invalid(field, value, wanted))
    }

    /// A whole number that may be 0.
    fn count(&self, field: &str) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        let count = value.as_u64().and_then(|v| usize::try_from(v).ok());
        let wanted = "a whole number that is not negative";
        count
            .map(Some)
            .ok_or_else(|| Self::invalid(field, value, wanted))
    }

    /// A list with an entry for each layer.
    fn list(&self, field: &str, layers: usize) -> Result<Option<&[Value]>, ModelError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        let list = value.as_array().filter(|list| list.len() == layers);
        let wanted = "a list with an entry for each layer";
        list.map(|list| Some(list.as_slice()))
            .ok_or_else(|| Self::invalid(field, value, wanted))
    }

    /// A list of numbers above zero.
    fn floats(&self, field: &'static str) -> Result<Vec<f64>, ModelError> {
        let value = self.get(field).ok_or(ModelError::ConfigMissing { field })?;
        let number = |v: &Value| v.as_f64().filter(|v| v.is_finite() && *v > 0.0);
        value
            .as_array()
            .and_then(|list| list.iter().map(number).collect())
            .ok_or_else(|| Self::invalid(field, value, "a list of numbers above zero"))
    }

    fn text(&self, field: &str) -> Result<Option<&str>, ModelError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        value
            .as_str()
            .map(Some)
            .ok_or_else(|| Self::invalid(field, value, "a string"))
    }
}

impl DecoderConfig {
    /// Reads a config.json.
    ///
    /// # Errors
    ///
    /// Broken JSON, an unknown architecture (the known ones are named), a field that is missing
    /// or out of range, sizes that contradict each other.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ModelError> {
        let json: Value = serde_json::from_slice(bytes).map_err(|e| ModelError::Json {
            file: "config.json",
            reason: e.to_string(),
        })?;
        let fields = Fields(&json);
        let model_type = fields
            .text("model_type")?
            .ok_or(ModelError::ConfigMissing {
                field: "model_type",
            })?;
        let family = family::by_model_type(model_type)?;
        let hidden = fields.need("hidden_size")?;
        let heads = fields.need("num_attention_heads")?;
        let context = fields.need("max_position_embeddings")?;
        let head_dim = fields.size("head_dim")?.unwrap_or(hidden / heads);
        let activation = match fields
            .text("hidden_act")?
            .or(fields.text("hidden_activation")?)
            .unwrap_or("silu")
        {
            "silu" | "swish" => Activation::Silu,
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => {
                return Err(ModelError::ConfigField {
                    field: "hidden_act".into(),
                    found: other.into(),
                    wanted: "silu, gelu, gelu_pytorch_tanh or relu",
                });
            }
        };
        // transformers 5 keeps it with the rotary embedding's other parameters.
        let nothing = Value::Null;
        let nested = Fields(fields.get("rope_parameters").unwrap_or(&nothing));
        let rotary_share = match nested.float("partial_rotary_factor")? {
            Some(share) => share,
            None => fields.float("partial_rotary_factor")?.unwrap_or(1.0),
        };
        let rope = rope_from_json(
            &fields,
            (head_dim as f64 * rotary_share) as usize & !1,
            context,
        )?;
        // Dynamic scaling is what lets a model run past the length it was trained on.
        let context = match rope.scaling {
            RopeScaling::Dynamic { factor, .. } => (context as f64 * factor) as usize,
            _ => context,
        };
        let layers = fields.need("num_hidden_layers")?;
        let config = Self {
            family,
            hidden,
            intermediate: fields.need("intermediate_size")?,
            kinds: kinds_from_json(&fields, family, layers)?,
            scales: scales_from_json(&fields)?,
            layers,
            heads,
            kv_heads: fields.size("num_key_value_heads")?.unwrap_or(heads),
            head_dim,
            vocab: fields.need("vocab_size")?,
            context,
            norm_eps: fields.float("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            activation,
            rope,
            tied: fields
                .flag("tie_word_embeddings")?
                .unwrap_or(family.tied_by_default),
        };
        config.check()?;
        Ok(config)
    }

    /// Reads GGUF metadata. `has_head` tells whether the file has a head of its own.
    ///
    /// # Errors
    ///
    /// An unknown architecture (the known ones are named), a key that is missing or of another
    /// type, sizes that contradict each other.
    pub fn from_gguf(gguf: &Gguf, has_head: bool) -> Result<Self, ModelError> {
        let arch = gguf.str("general.architecture")?;
        let family = family::by_gguf_architecture(arch)?;
        let key = |name: &str| format!("{arch}.{name}");
        let size = |name: &str| -> Result<usize, ModelError> { Ok(gguf.u32(&key(name))? as usize) };
        let layers = size("block_count")?;
        let heads = size("attention.head_count")?;
        let hidden = size("embedding_length")?;
        let context = size("context_length")?;
        let head_dim = match gguf.find::<u32>(&key("attention.key_length"))? {
            Some(length) => length as usize,
            None => hidden.checked_div(heads).unwrap_or(0),
        };
        let find = |name: &str| gguf.find::<f32>(&key(name));
        let original = gguf
            .find::<u32>(&key("rope.scaling.original_context_length"))?
            .map_or(context as f64, f64::from);
        let factor = match find("rope.scaling.factor")? {
            Some(factor) => f64::from(factor),
            None => find("rope.scale_linear")?.map_or(1.0, f64::from),
        };
        let scaling = match gguf.find::<&str>(&key("rope.scaling.type"))? {
            None | Some("none") if factor == 1.0 || factor == 0.0 => RopeScaling::None,
            // The divisors of long rope are tensors, which the loader reads.
            Some("none" | "longrope") => RopeScaling::None,
            None | Some("linear") => RopeScaling::Linear { factor },
            Some("yarn") => RopeScaling::Yarn {
                factor,
                original,
                beta_fast: find("rope.scaling.yarn_beta_fast")?.map_or(32.0, f64::from),
                beta_slow: find("rope.scaling.yarn_beta_slow")?.map_or(1.0, f64::from),
                attention: find("rope.scaling.attn_factor")?.map_or(1.0, f64::from)
                    * (0.1 * factor.max(1.0).ln() + 1.0),
                truncate: true,
            },
            Some(other) => {
                return Err(ModelError::ConfigField {
                    field: key("rope.scaling.type"),
                    found: other.into(),
                    wanted: "none, linear, yarn or longrope",
                });
            }
        };
        let window = gguf.find::<u32>(&key("attention.sliding_window"))?;
        let window = window.map_or(0, |window| window as usize);
        let vocab = match gguf.find::<u32>(&key("vocab_size"))? {
            Some(vocab) => vocab as usize,
            None => gguf.str_array("tokenizer.ggml.tokens")?.len(),
        };
        let config = Self {
            family,
            hidden,
            intermediate: size("feed_forward_length")?,
            layers,
            kinds: (0..layers.min(MAX_LAYERS))
                .map(|layer| LayerKind {
                    window,
                    rotates: rotates(family, layer),
                })
                .collect(),
            scales: Scales {
                embedding: find("embedding_scale")?.unwrap_or(1.0),
                residual: find("residual_scale")?.unwrap_or(1.0),
                attention: find("attention.scale")?,
                logits: find("logit_scale")?.unwrap_or(1.0),
            },
            heads,
            kv_heads: gguf
                .find::<u32>(&key("attention.head_count_kv"))?
                .map_or(heads, |v| v as usize),
            head_dim,
            vocab,
            context,
            norm_eps: gguf.f32(&key("attention.layer_norm_rms_epsilon"))?,
            activation: family.gguf_activation,
            rope: Rope {
                theta: find("rope.freq_base")?.map_or(10000.0, f64::from),
                rotary: gguf
                    .find::<u32>(&key("rope.dimension_count"))?
                    .map_or(head_dim, |v| v as usize),
                scaling,
            },
            tied: !has_head,
        };
        config.check()?;
        Ok(config)
    }

    /// Refuses sizes that contradict each other or that no device could hold.
    fn check(&self) -> Result<(), ModelError> {
        let wrong = |what: String| Err(ModelError::Contradiction { what });
        let sizes = [
            ("hidden size", self.hidden, 1 << 18),
            ("intermediate size", self.intermediate, 1 << 20),
            ("layer count", self.layers, MAX_LAYERS),
            ("head count", self.heads, 1 << 12),
            ("kv head count", self.kv_heads, 1 << 12),
            ("head size", self.head_dim, 1 << 10),
            ("vocabulary", self.vocab, 1 << 24),
            ("context length", self.context, 1 << 28),
        ];
        for (what, value, most) in sizes {
            if value == 0 || value > most {
                return wrong(format!(
                    "the {what} is {value}, it must be from 1 to {most}"
                ));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return wrong(format!(
                "{} heads cannot share {} kv heads evenly",
                self.heads, self.kv_heads
            ));
        }
        if self.heads / self.kv_heads > 16 {
            return wrong(format!(
                "{} heads share one kv head, the kernels take at most 16",
                self.heads / self.kv_heads
            ));
        }
        if self.rope.rotary > self.head_dim || self.rope.rotary % 2 == 1 || self.rope.rotary < 2 {
            return wrong(format!(
                "{} rotary dimensions do not fit a head of {}: an even number from 2 up to it would",
                self.rope.rotary, self.head_dim
            ));
        }
        if self.kinds.len() != self.layers {
            return wrong(format!(
                "{} layers are described, the model has {}",
                self.kinds.len(),
                self.layers
            ));
        }
        let scales = self.scales;
        let attention = scales.attention.unwrap_or(1.0);
        for (what, scale) in [
            ("embedding multiplier", scales.embedding),
            ("residual multiplier", scales.residual),
            ("attention multiplier", attention),
            ("logits scaling", scales.logits),
        ] {
            if !(scale > 0.0 && scale.is_finite()) {
                return wrong(format!("the {what} is {scale}, it must be above zero"));
            }
        }
        let theta = self.rope.theta;
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0 && theta > 1.0 && theta.is_finite())
        {
            return wrong("the norm epsilon or the rope base is out of range".into());
        }
        if let RopeScaling::Long {
            original,
            attention,
            ..
        } = self.rope.scaling
            && !(original > 1.0 && attention > 0.0 && attention.is_finite())
        {
            return wrong(format!(
                "long rope has a trained length of {original} and an attention factor of {attention}; \
                 they must be above one and above zero"
            ));
        }
        if let RopeScaling::Linear { factor } | RopeScaling::Yarn { factor, .. } = self.rope.scaling
            && !(factor > 0.0 && factor.is_finite())
        {
            return wrong(format!(
                "the rope scaling factor is {factor}, it must be above zero"
            ));
        }
        Ok(())
    }

    /// What differs in a layer.
    pub fn kind(&self, layer: usize) -> LayerKind {
        self.kinds.get(layer).copied().unwrap_or(LayerKind {
            window: 0,
            rotates: true,
        })
    }

    /// Factor on the scores of attention.
    pub fn score_scale(&self) -> f32 {
        let usual = 1.0 / (self.head_dim as f32).sqrt();
        self.scales.attention.unwrap_or(usual)
    }

    /// Elements of a head as they are stored: a multiple of 4.
    pub fn stored_head_dim(&self) -> usize {
        self.head_dim.next_multiple_of(4)
    }
}

/// Whether a layer has a rotary embedding where the file does not say.
fn rotates(family: &Family, layer: usize) -> bool {
    family
        .rotates_but_every
        .is_none_or(|every| !(layer + 1).is_multiple_of(every))
}

/// What differs from layer to layer: `layer_types` where it is there, else `sliding_window` with what
/// says which layers it is for; `no_rope_layers` has a 1 for each layer that rotates.
fn kinds_from_json(
    fields: &Fields<'_>,
    family: &Family,
    layers: usize,
) -> Result<Vec<LayerKind>, ModelError> {
    if layers > MAX_LAYERS {
        let found = Value::from(layers);
        return Err(Fields::invalid("num_hidden_layers", &found, "at most 4096"));
    }
    let window = fields.size("sliding_window")?.unwrap_or(0);
    let from = match fields.flag("use_sliding_window")? {
        None => 0,
        Some(false) => layers,
        Some(true) => fields.count("max_window_layers")?.unwrap_or(0),
    };
    let mut kinds: Vec<LayerKind> = (0..layers)
        .map(|layer| LayerKind {
            window: if layer >= from { window } else { 0 },
            rotates: rotates(family, layer),
        })
        .collect();
    if let Some(types) = fields.list("layer_types", layers)? {
        for (kind, found) in kinds.iter_mut().zip(types) {
            kind.window = match found.as_str() {
                Some("full_attention") => 0,
                Some("sliding_attention") if window > 0 => window,
                _ => {
                    let wanted = "full_attention, or sliding_attention with a sliding_window";
                    return Err(Fields::invalid("layer_types", found, wanted));
                }
            };
        }
    }
    if let Some(rotating) = fields.list("no_rope_layers", layers)? {
        for (kind, found) in kinds.iter_mut().zip(rotating) {
            let number = found.as_u64().filter(|number| *number <= 1);
            kind.rotates = number
                .ok_or_else(|| Fields::invalid("no_rope_layers", found, "0 or 1 for each layer"))?
                == 1;
        }
    }
    Ok(kinds)
}

/// Granite's multipliers, which other families leave out.
fn scales_from_json(fields: &Fields<'_>) -> Result<Scales, ModelError> {
    let scale = |field: &str| -> Result<Option<f32>, ModelError> {
        Ok(fields.float(field)?.map(|scale| scale as f32))
    };
    Ok(Scales {
        embedding: scale("embedding_multiplier")?.unwrap_or(1.0),
        residual: scale("residual_multiplier")?.unwrap_or(1.0),
        attention: scale("attention_multiplier")?,
        logits: scale("logits_scaling")?.unwrap_or(1.0),
    })
}

/// The rotary embedding from `rope_parameters` (transformers 5) or `rope_theta` with
/// `rope_scaling` (before).
fn rope_from_json(fields: &Fields<'_>, rotary: usize, context: usize) -> Result<Rope, ModelError> {
    let parameters = fields.get("rope_parameters").or(fields.get("rope_scaling"));
    let nothing = Value::Null;
    let scaling = Fields(parameters.unwrap_or(&nothing));
    let theta = match scaling.float("rope_theta")? {
        Some(theta) => theta,
        None => fields.float("rope_theta")?.unwrap_or(10000.0),
    };
    let kind = scaling
        .text("rope_type")?
        .or(scaling.text("type")?)
        .unwrap_or("default");
    let need = |field: &'static str| -> Result<f64, ModelError> {
        scaling
            .float(field)?
            .ok_or(ModelError::ConfigMissing { field })
    };
    let factor = || -> Result<f64, ModelError> {
        let factor = need("factor")?;
        if factor >= 1.0 {
            return Ok(factor);
        }
        Err(ModelError::ConfigField {
            field: "rope_scaling.factor".into(),
            found: factor.to_string(),
            wanted: "a number of at least 1",
        })
    };
    let original = match scaling.float("original_max_position_embeddings")? {
        Some(original) => Some(original),
        None => fields.float("original_max_position_embeddings")?,
    };
    let original = original.unwrap_or(context as f64);
    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: factor()? },
        "dynamic" => RopeScaling::Dynamic {
            factor: factor()?,
            original: context as f64,
        },
        "llama3" => RopeScaling::Llama3 {
            factor: factor()?,
            low: need("low_freq_factor")?,
            high: need("high_freq_factor")?,
            original,
        },
        "yarn" => {
            let factor = factor()?;
            let scale = |mscale: f64| {
                if factor <= 1.0 {
                    1.0
                } else {
                    0.1 * mscale * factor.ln() + 1.0
                }
            };
            let attention = match scaling.float("attention_factor")? {
                Some(attention) => attention,
                None => match (scaling.float("mscale")?, scaling.float("mscale_all_dim")?) {
                    (Some(a), Some(b)) if a > 0.0 && b > 0.0 => scale(a) / scale(b),
                    _ => scale(1.0),
                },
            };
            RopeScaling::Yarn {
                factor,
                original,
                beta_fast: scaling.float("beta_fast")?.unwrap_or(32.0),
                beta_slow: scaling.float("beta_slow")?.unwrap_or(1.0),
                attention,
                truncate: scaling.flag("truncate")?.unwrap_or(true),
            }
        }
        "longrope" | "su" => {
            let divisors = |field: &'static str| -> Result<Vec<f64>, ModelError> {
                let divisors = scaling.floats(field)?;
                if divisors.len() == rotary / 2 {
                    return Ok(divisors);
                }
                Err(ModelError::ConfigField {
                    field: field.into(),
                    found: format!("{} numbers", divisors.len()),
                    wanted: "a number for each rotary pair",
                })
            };
            let stretch = match scaling.float("factor")? {
                Some(factor) => factor,
                None => context as f64 / original,
            };
            let usual = || long_attention(stretch, original);
            RopeScaling::Long {
                short: divisors("short_factor")?,
                long: divisors("long_factor")?,
                original,
                attention: scaling.float("attention_factor")?.unwrap_or_else(usual),
            }
        }
        other => {
            return Err(ModelError::ConfigField {
                field: "rope_scaling.rope_type".into(),
                found: other.into(),
                wanted: "default, linear, dynamic, llama3, yarn or longrope",
            });
        }
    };
    Ok(Rope {
        theta,
        rotary,
        scaling,
    })
}

/// The factor on attention of a context stretched by `stretch`, where no file says it.
pub(crate) fn long_attention(stretch: f64, original: f64) -> f64 {
    if stretch <= 1.0 {
        1.0
    } else {
        (1.0 + stretch.ln() / original.ln()).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(more: Value) -> Result<DecoderConfig, ModelError> {
        let mut config = json!({
            "model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2,
            "num_hidden_layers": 3, "vocab_size": 9, "max_position_embeddings": 64,
        });
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        DecoderConfig::from_json(config.to_string().as_bytes())
    }

    fn windows(more: Value) -> Vec<usize> {
        let kinds = read(more).unwrap().kinds;
        kinds.iter().map(|kind| kind.window).collect()
    }

    #[test]
    fn a_window_is_for_the_layers_that_the_file_says() {
        assert_eq!(windows(json!({})), [0, 0, 0]);
        assert_eq!(windows(json!({ "sliding_window": 7 })), [7, 7, 7]);
        let off = json!({ "sliding_window": 7, "use_sliding_window": false });
        assert_eq!(windows(off), [0, 0, 0]);
        let later =
            json!({ "sliding_window": 7, "use_sliding_window": true, "max_window_layers": 2 });
        assert_eq!(windows(later), [0, 0, 7]);
        let types = ["sliding_attention", "full_attention", "sliding_attention"];
        let listed = json!({ "sliding_window": 7, "layer_types": types });
        assert_eq!(windows(listed), [7, 0, 7]);
    }

    #[test]
    fn layers_without_rotation_are_listed_or_the_familys_own() {
        let rotating = |more: Value| -> Vec<bool> {
            let kinds = read(more).unwrap().kinds;
            kinds.iter().map(|kind| kind.rotates).collect()
        };
        assert_eq!(
            rotating(json!({ "no_rope_layers": [1, 0, 1] })),
            [true, false, true]
        );
        let own = json!({ "model_type": "smollm3", "num_hidden_layers": 4 });
        assert_eq!(rotating(own), [true, true, true, false]);
    }

    #[test]
    fn a_part_of_a_head_rotates_where_either_spelling_says_so() {
        for more in [
            json!({ "partial_rotary_factor": 0.5 }),
            json!({ "rope_parameters": { "rope_theta": 1e4, "partial_rotary_factor": 0.5 } }),
        ] {
            assert_eq!(read(more).unwrap().rope.rotary, 2);
        }
    }

    #[test]
    fn a_field_of_no_use_is_named() {
        for (more, field) in [
            (json!({ "sliding_window": 0 }), "sliding_window"),
            (json!({ "layer_types": ["full_attention"] }), "layer_types"),
            (
                json!({ "layer_types": ["sliding_attention", "full_attention", "full_attention"] }),
                "layer_types",
            ),
            (json!({ "no_rope_layers": [1, 2, 1] }), "no_rope_layers"),
            (json!({ "num_hidden_layers": 100_000 }), "num_hidden_layers"),
            (json!({ "residual_multiplier": 0 }), "residual multiplier"),
            (
                json!({
                    "original_max_position_embeddings": 1,
                    "rope_scaling": { "type": "longrope", "short_factor": [1, 1], "long_factor": [1, 1] },
                }),
                "trained length",
            ),
            (
                json!({ "rope_scaling": { "type": "longrope", "short_factor": [1, 1] } }),
                "long_factor",
            ),
            (
                json!({ "rope_scaling": { "type": "longrope", "short_factor": [1, 1], "long_factor": [1, 0] } }),
                "long_factor",
            ),
        ] {
            let error = read(more.clone()).unwrap_err().to_string();
            assert!(error.contains(field), "{more}: {error}");
        }
    }
}
