//! A config.json as a [`DecoderConfig`].

mod experts;

use fireside_kernels::params::Activation;
use serde_json::Value;

use super::{DecoderConfig, LayerKind, MAX_LAYERS, Scales, but, embedding_scale, long_attention};
use crate::error::ModelError;
use crate::family::{self, Caps, Family};
use crate::rope::{Rope, RopeScaling};

/// A JSON object whose fields are read with errors that name them, and the names that differ from the usual
/// ones.
struct Fields<'a>(&'a Value, &'static [(&'static str, &'static str)]);

impl Fields<'_> {
    fn invalid(field: &str, found: &Value, wanted: &'static str) -> ModelError {
        ModelError::ConfigField {
            field: field.to_string(),
            found: found.to_string().chars().take(60).collect(),
            wanted,
        }
    }

    /// What the file calls a field: of the names that it may have the first one that is there.
    fn name<'f>(&self, field: &'f str) -> &'f str {
        let own = || self.1.iter().filter(|(usual, _)| *usual == field);
        let there = own().find(|(_, own)| self.0.get(own).is_some());
        match (there, self.0.get(field)) {
            (Some((_, own)), _) => own,
            (None, Some(_)) => field,
            (None, None) => own().next().map_or(field, |(_, own)| own),
        }
    }

    /// Whether there is a field, null or not.
    fn contains(&self, field: &str) -> bool {
        self.0.get(self.name(field)).is_some()
    }

    fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(self.name(field)).filter(|v| !v.is_null())
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
        let missing = ModelError::ConfigMissing {
            field: self.name(field),
        };
        self.size(field)?.ok_or(missing)
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
        let fields = Fields(&json, &[]);
        let model_type = fields
            .text("model_type")?
            .ok_or(ModelError::ConfigMissing {
                field: "model_type",
            })?;
        let family = family::by_model_type(model_type)?;
        let fields = Fields(&json, family.fields);
        if let Some(other) = fields
            .text("position_embedding_type")?
            .filter(|kind| *kind != "absolute")
        {
            let found = Value::from(other);
            return Err(Fields::invalid(
                "position_embedding_type",
                &found,
                "absolute",
            ));
        }
        let hidden = fields.need("hidden_size")?;
        let heads = fields.need("num_attention_heads")?;
        let context = fields.need("max_position_embeddings")?;
        let head_dim = fields.size("head_dim")?.unwrap_or(hidden / heads);
        let named = match fields.text("hidden_activation")? {
            Some(named) => Some(named),
            None => fields.text("hidden_act")?,
        };
        let activation = match named {
            None => family.activation,
            Some("silu" | "swish" | "swiglu") => Activation::Silu,
            Some("gelu") if !family.gelu_is_tanh => Activation::Gelu,
            Some("gelu" | "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Activation::GeluTanh,
            Some("relu") => Activation::Relu,
            Some(other) => {
                return Err(ModelError::ConfigField {
                    field: fields.name("hidden_act").into(),
                    found: other.into(),
                    wanted: "silu, gelu, gelu_pytorch_tanh or relu",
                });
            }
        };
        for (field, usual) in [
            ("use_bidirectional_attention", false),
            ("qk_layernorm", false),
            ("prenorm", false),
            ("rotary_emb_interleaved", false),
            ("use_rms_norm", false),
            ("parallel_block", false),
            ("scale_attn_by_inverse_layer_idx", false),
            ("scale_attn_weights", true),
        ] {
            if let Some(found) = fields.flag(field)?.filter(|found| *found != usual) {
                let wanted = if usual { "true" } else { "false" };
                return Err(Fields::invalid(field, &Value::from(found), wanted));
            }
        }
        for field in ["clip_qkv", "rotary_scaling_factor"] {
            if let Some(found) = fields.get(field) {
                return Err(Fields::invalid(field, found, "null"));
            }
        }
        for field in ["is_decoder", "causal"] {
            let found = fields.flag(field)?.filter(|found| *found && family.encoder);
            if let Some(found) = found {
                return Err(Fields::invalid(field, &Value::from(found), "false"));
            }
        }
        let (rope, local_rope) = ropes_from_json(&fields, family, head_dim, context)?;
        // Dynamic scaling is what lets a model run past the length it was trained on.
        let context = match rope.scaling {
            RopeScaling::Dynamic { factor, .. } => (context as f64 * factor) as usize,
            _ => context,
        };
        let layers = fields.need("num_hidden_layers")?;
        let intermediate = match (fields.size("intermediate_size")?, family.widens) {
            (Some(width), _) => width,
            (None, Some(times)) => hidden * times,
            (None, None) => fields.need("intermediate_size")?,
        };
        let mut kinds = kinds_from_json(&fields, family, layers)?;
        let config = Self {
            family,
            hidden,
            intermediate,
            experts: experts::from_json(&fields, family, intermediate, &mut kinds)?,
            kinds,
            scales: scales_from_json(&fields, family, hidden)?,
            caps: Caps {
                attention: cap_from_json(&fields, "attn_logit_softcapping", family.caps.attention)?,
                logits: cap_from_json(&fields, "final_logit_softcapping", family.caps.logits)?,
            },
            layers,
            heads,
            kv_heads: fields.size("num_key_value_heads")?.unwrap_or(heads),
            head_dim,
            vocab: fields.need("vocab_size")?,
            types: fields.size("type_vocab_size")?.unwrap_or(0),
            context,
            norm_eps: fields.float("rms_norm_eps")?.unwrap_or(family.eps) as f32,
            parallel: fields
                .flag("use_parallel_residual")?
                .unwrap_or(family.parallel),
            activation,
            rope,
            local_rope,
            tied: fields
                .flag("tie_word_embeddings")?
                .unwrap_or(family.tied_by_default),
        };
        config.check()?;
        Ok(config)
    }
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
    let every = match fields.size("sliding_window_pattern")? {
        Some(every) => Some(every),
        None => family.windows_but_every,
    };
    let mut kinds: Vec<LayerKind> = (0..layers)
        .map(|layer| LayerKind {
            window: if layer >= from && but(every, layer) {
                window
            } else {
                0
            },
            rotates: but(family.rotates_but_every, layer),
            experts: false,
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

/// Granite's multipliers, which other families leave out, and Gemma's.
fn scales_from_json(
    fields: &Fields<'_>,
    family: &Family,
    hidden: usize,
) -> Result<Scales, ModelError> {
    let scale = |field: &str| -> Result<Option<f32>, ModelError> {
        Ok(fields.float(field)?.map(|scale| scale as f32))
    };
    let attention = match scale("query_pre_attn_scalar")? {
        Some(width) => Some(1.0 / width.sqrt()),
        None => scale("attention_multiplier")?,
    };
    Ok(Scales {
        embedding: scale("embedding_multiplier")?
            .unwrap_or_else(|| embedding_scale(family, hidden)),
        residual: scale("residual_multiplier")?.unwrap_or(1.0),
        attention,
        logits: scale("logits_scaling")?.unwrap_or(1.0),
    })
}

/// A soft cap: the file's, none where it says so, or the family's where it does not say.
fn cap_from_json(
    fields: &Fields<'_>,
    field: &str,
    usual: Option<f32>,
) -> Result<Option<f32>, ModelError> {
    if !fields.contains(field) {
        return Ok(usual);
    }
    Ok(fields.float(field)?.map(|cap| cap as f32))
}

/// The rotary embedding, and that of layers with a window where it is another. Their parameters stand in
/// `rope_parameters` (transformers 5), for each type of layer where there are two, or in `rope_theta`,
/// `rope_scaling` and `rope_local_base_freq` (before).
fn ropes_from_json(
    fields: &Fields<'_>,
    family: &Family,
    head_dim: usize,
    context: usize,
) -> Result<(Rope, Option<Rope>), ModelError> {
    let nothing = Value::Null;
    let parameters = fields.get("rope_parameters").or(fields.get("rope_scaling"));
    let all = Fields(parameters.unwrap_or(&nothing), &[]);
    let global = all.get("full_attention").map_or(all.0, |own| own);
    let local = all.get("sliding_attention").unwrap_or(&nothing);
    let (global, local) = (Fields(global, &[]), Fields(local, &[]));
    let rotary_share = match global.float("partial_rotary_factor")? {
        Some(share) => share,
        None => fields
            .float("partial_rotary_factor")?
            .unwrap_or(family.rotary_share),
    };
    let rotary = (head_dim as f64 * rotary_share) as usize & !1;
    let theta = fields.float("rope_theta")?.unwrap_or(family.theta);
    let rope = rope_from_json(fields, &global, theta, rotary, context)?;
    let local = match family.local_theta {
        None => None,
        Some(usual) => {
            let theta = fields.float("rope_local_base_freq")?.unwrap_or(usual);
            Some(rope_from_json(fields, &local, theta, rotary, context)?)
        }
    };
    Ok((rope, local))
}

/// A rotary embedding from its parameters; `theta` is the base where they do not say.
fn rope_from_json(
    fields: &Fields<'_>,
    scaling: &Fields<'_>,
    theta: f64,
    rotary: usize,
    context: usize,
) -> Result<Rope, ModelError> {
    let theta = scaling.float("rope_theta")?.unwrap_or(theta);
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
    fn windows_that_the_file_leaves_unsaid_are_the_familys_own() {
        let gemma3 = |more: Value| {
            let mut all = json!({ "model_type": "gemma3_text", "sliding_window": 7 });
            for (key, value) in more.as_object().unwrap() {
                all[key] = value.clone();
            }
            windows(all)
        };
        let six = gemma3(json!({ "num_hidden_layers": 6 }));
        assert_eq!(six, [7, 7, 7, 7, 7, 0]);
        let pattern = json!({ "sliding_window_pattern": 2 });
        assert_eq!(gemma3(pattern), [7, 0, 7]);
        assert_eq!(gemma3(json!({ "sliding_window": null })), [0, 0, 0]);
        let gemma2 = json!({ "model_type": "gemma2", "sliding_window": 7 });
        assert_eq!(windows(gemma2), [7, 0, 7]);
    }

    #[test]
    fn a_cap_that_the_file_leaves_unsaid_is_the_familys_own_and_null_is_none() {
        let caps = |more: Value| read(more).unwrap().caps;
        assert_eq!(caps(json!({})).attention, None);
        let own = caps(json!({ "model_type": "gemma2" }));
        assert_eq!((own.attention, own.logits), (Some(50.0), Some(30.0)));
        let said = caps(json!({
            "model_type": "gemma2", "attn_logit_softcapping": null, "final_logit_softcapping": 4,
        }));
        assert_eq!((said.attention, said.logits), (None, Some(4.0)));
    }

    #[test]
    fn gelu_is_the_tanh_form_in_the_first_gemma_only() {
        let activation = |kind: &str, field: &str| {
            let config = json!({ "model_type": kind, field: "gelu" });
            read(config).unwrap().activation
        };
        assert_eq!(activation("gemma", "hidden_act"), Activation::GeluTanh);
        assert_eq!(activation("gemma2", "hidden_activation"), Activation::Gelu);
        assert_eq!(activation("llama", "hidden_act"), Activation::Gelu);
    }

    #[test]
    fn models_of_other_names_are_read_as_the_family_that_they_say() {
        let distill = json!({ "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3" });
        for (more, family, head_dim, window) in [
            // Falcon 3 1B.
            (
                json!({ "model_type": "llama", "architectures": ["LlamaForCausalLM"], "head_dim": 256,
                    "hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 8,
                    "num_key_value_heads": 4, "rope_theta": 1_000_042, "vocab_size": 131_072 }),
                "llama",
                256,
                0,
            ),
            // DeepSeek-R1-Distill-Llama-8B.
            (
                json!({ "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096,
                    "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8,
                    "rope_scaling": distill, "rope_theta": 500_000.0, "vocab_size": 128_256 }),
                "llama",
                128,
                0,
            ),
            // DeepSeek-R1-Distill-Qwen-1.5B.
            (
                json!({ "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 1536,
                    "intermediate_size": 8960, "max_window_layers": 21, "num_attention_heads": 12,
                    "num_key_value_heads": 2, "sliding_window": 4096, "use_mrope": false,
                    "use_sliding_window": false, "vocab_size": 151_936 }),
                "qwen2",
                128,
                0,
            ),
            // Ministral 8B.
            (
                json!({ "model_type": "mistral", "architectures": ["MistralForCausalLM"], "head_dim": 128,
                    "hidden_size": 4096, "intermediate_size": 12288, "num_attention_heads": 32,
                    "num_key_value_heads": 8, "rope_theta": 1e8, "sliding_window": 32768,
                    "vocab_size": 131_072 }),
                "mistral",
                128,
                32768,
            ),
            // OLMo 2 1B.
            (
                json!({ "model_type": "olmo2", "architectures": ["Olmo2ForCausalLM"], "hidden_size": 2048,
                    "intermediate_size": 8192, "num_attention_heads": 16, "num_key_value_heads": 16,
                    "rope_scaling": null, "rope_theta": 500_000, "vocab_size": 100_352 }),
                "olmo2",
                128,
                0,
            ),
            // Gemma 3 270M.
            (
                json!({ "model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"],
                    "_sliding_window_pattern": 6, "attn_logit_softcapping": null, "head_dim": 256,
                    "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 640,
                    "intermediate_size": 2048, "num_attention_heads": 4, "num_key_value_heads": 1,
                    "query_pre_attn_scalar": 256, "rope_local_base_freq": 10000.0, "rope_scaling": null,
                    "rope_theta": 1e6, "sliding_window": 512, "use_bidirectional_attention": false,
                    "vocab_size": 262_144 }),
                "gemma3",
                256,
                512,
            ),
        ] {
            let config = read(more).unwrap();
            assert_eq!(config.family.name, family);
            assert_eq!(config.head_dim, head_dim, "{family}");
            assert_eq!(config.kinds[0].window, window, "{family}");
        }
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
            (json!({ "attn_logit_softcapping": 0 }), "cap of scores"),
            (
                json!({ "use_bidirectional_attention": true }),
                "use_bidirectional_attention",
            ),
            (
                json!({ "model_type": "stablelm", "qk_layernorm": true }),
                "qk_layernorm",
            ),
            (
                json!({ "model_type": "nomic_bert", "rotary_emb_interleaved": true }),
                "rotary_emb_interleaved",
            ),
            (
                json!({ "model_type": "nomic_bert", "rotary_scaling_factor": 2 }),
                "rotary_scaling_factor",
            ),
            (
                json!({ "model_type": "bert", "is_decoder": true }),
                "is_decoder",
            ),
            (
                json!({ "model_type": "stablelm", "use_parallel_residual": 1 }),
                "use_parallel_residual",
            ),
            (
                json!({ "model_type": "olmo2", "residual_multiplier": 0.5 }),
                "residual multiplier",
            ),
            (
                json!({ "model_type": "gemma3_text", "rope_local_base_freq": 0.5 }),
                "rope base",
            ),
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
