//! GGUF metadata as a [`DecoderConfig`].

use fireside_formats::Gguf;

use super::{DecoderConfig, Experts, LayerKind, MAX_LAYERS, Scales, but, embedding_scale};
use crate::error::ModelError;
use crate::family::{self, Caps, Family};
use crate::rope::{Rope, RopeScaling};

impl DecoderConfig {
    /// Reads GGUF metadata. Whether the head is the embedding table only the file's tensors tell: it counts as tied.
    /// So do they tell which layers have experts: where there are any, all count as having them.
    ///
    /// # Errors
    ///
    /// An unknown architecture (the known ones are named), a key that is missing or of another
    /// type, sizes that contradict each other.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
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
        let rope = Rope {
            theta: find("rope.freq_base")?.map_or(family.theta, f64::from),
            rotary: gguf
                .find::<u32>(&key("rope.dimension_count"))?
                .map_or(head_dim, |v| v as usize),
            scaling,
        };
        let local_rope = match family.local_theta {
            None => None,
            Some(theta) => Some(Rope {
                theta: find("rope.freq_base_swa")?.map_or(theta, f64::from),
                rotary: rope.rotary,
                scaling: RopeScaling::None,
            }),
        };
        let mut scales = Scales {
            embedding: find("embedding_scale")?.unwrap_or_else(|| embedding_scale(family, hidden)),
            residual: find("residual_scale")?.unwrap_or(1.0),
            attention: find("attention.scale")?,
            logits: find("logit_scale")?.unwrap_or(1.0),
        };
        if family.gguf_wide_scores == Some(layers) && scales.attention.is_none() {
            scales.attention = Some((heads as f32 / hidden as f32).sqrt());
        }
        let vocab = match gguf.find::<u32>(&key("vocab_size"))? {
            Some(vocab) => vocab as usize,
            None => gguf.str_array("tokenizer.ggml.tokens")?.len(),
        };
        let intermediate = size("feed_forward_length")?;
        let experts = experts_from_gguf(gguf, arch, family, intermediate)?;
        let config = Self {
            family,
            hidden,
            intermediate,
            layers,
            kinds: (0..layers.min(MAX_LAYERS))
                .map(|layer| LayerKind {
                    window: if but(family.windows_but_every, layer) {
                        window
                    } else {
                        0
                    },
                    rotates: but(family.rotates_but_every, layer),
                    experts: experts.is_some(),
                })
                .collect(),
            experts,
            scales,
            caps: Caps {
                attention: find("attn_logit_softcapping")?.or(family.caps.attention),
                logits: find("final_logit_softcapping")?.or(family.caps.logits),
            },
            heads,
            kv_heads: gguf
                .find::<u32>(&key("attention.head_count_kv"))?
                .map_or(heads, |v| v as usize),
            head_dim,
            vocab,
            types: 0,
            context,
            norm_eps: gguf.f32(&key(if family.layer_norms {
                "attention.layer_norm_epsilon"
            } else {
                "attention.layer_norm_rms_epsilon"
            }))?,
            activation: family.activation,
            rope,
            local_rope,
            tied: true,
            parallel: gguf
                .find::<bool>(&key("use_parallel_residual"))?
                .unwrap_or(family.parallel),
        };
        config.check()?;
        Ok(config)
    }
}

/// What a file says of experts; `intermediate` is their width where it does not say.
fn experts_from_gguf(
    gguf: &Gguf,
    arch: &str,
    family: &Family,
    intermediate: usize,
) -> Result<Option<Experts>, ModelError> {
    let key = |name: &str| format!("{arch}.{name}");
    let size = |name: &str| -> Result<Option<usize>, ModelError> {
        Ok(gguf.find::<u32>(&key(name))?.map(|size| size as usize))
    };
    let Some(count) = size("expert_count")?.filter(|count| *count > 0) else {
        return Ok(None);
    };
    // What the numbers stand for is llama.cpp's.
    if let Some(function) = size("expert_gating_func")?.filter(|function| *function > 1) {
        return Err(ModelError::ConfigField {
            field: key("expert_gating_func"),
            found: function.to_string(),
            wanted: "1, a softmax",
        });
    }
    Ok(Some(Experts {
        count,
        chosen: gguf.u32(&key("expert_used_count"))? as usize,
        width: size("expert_feed_forward_length")?.unwrap_or(intermediate),
        normalized: gguf
            .find::<bool>(&key("expert_weights_norm"))?
            .unwrap_or(family.gguf_normalizes_experts),
    }))
}
