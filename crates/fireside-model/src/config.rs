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
}

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
        let rotary_share = fields.float("partial_rotary_factor")?.unwrap_or(1.0);
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
        let config = Self {
            family,
            hidden,
            intermediate: fields.need("intermediate_size")?,
            layers: fields.need("num_hidden_layers")?,
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
            Some("none") => RopeScaling::None,
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
                    wanted: "none, linear or yarn",
                });
            }
        };
        let vocab = match gguf.find::<u32>(&key("vocab_size"))? {
            Some(vocab) => vocab as usize,
            None => gguf.str_array("tokenizer.ggml.tokens")?.len(),
        };
        let config = Self {
            family,
            hidden,
            intermediate: size("feed_forward_length")?,
            layers: size("block_count")?,
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
            ("layer count", self.layers, 1 << 12),
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
        let theta = self.rope.theta;
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0 && theta > 1.0 && theta.is_finite())
        {
            return wrong("the norm epsilon or the rope base is out of range".into());
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

    /// Elements of a head as they are stored: a multiple of 4.
    pub fn stored_head_dim(&self) -> usize {
        self.head_dim.next_multiple_of(4)
    }
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
    let original = scaling
        .float("original_max_position_embeddings")?
        .unwrap_or(context as f64);
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
        other => {
            return Err(ModelError::ConfigField {
                field: "rope_scaling.rope_type".into(),
                found: other.into(),
                wanted: "default, linear, dynamic, llama3 or yarn",
            });
        }
    };
    Ok(Rope {
        theta,
        rotary,
        scaling,
    })
}
