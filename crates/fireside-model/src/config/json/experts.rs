//! What a config.json says of experts.

use serde_json::Value;

use super::Fields;
use crate::config::{Experts, LayerKind};
use crate::error::ModelError;
use crate::family::Family;

/// The experts, and which layers have them: every `decoder_sparse_step`-th but those of `mlp_only_layers`.
/// `intermediate` is an expert's width where the file does not say.
pub(super) fn from_json(
    fields: &Fields<'_>,
    family: &Family,
    intermediate: usize,
    kinds: &mut [LayerKind],
) -> Result<Option<Experts>, ModelError> {
    let count = match fields.count("num_experts")? {
        Some(count) => Some(count),
        None => fields.count("num_local_experts")?,
    };
    let Some(count) = count.filter(|count| *count > 0) else {
        return Ok(None);
    };
    let every = fields.size("decoder_sparse_step")?.unwrap_or(1);
    for (layer, kind) in kinds.iter_mut().enumerate() {
        kind.experts = (layer + 1).is_multiple_of(every);
    }
    if let Some(listed) = fields.get("mlp_only_layers") {
        let wanted = "a list of layer numbers";
        let wrong = |found: &Value| Fields::invalid("mlp_only_layers", found, wanted);
        for found in listed.as_array().ok_or_else(|| wrong(listed))? {
            let layer = found.as_u64().and_then(|layer| usize::try_from(layer).ok());
            let kind = layer.and_then(|layer| kinds.get_mut(layer));
            kind.ok_or_else(|| wrong(found))?.experts = false;
        }
    }
    Ok(Some(Experts {
        count,
        chosen: fields.need("num_experts_per_tok")?,
        width: fields
            .size("moe_intermediate_size")?
            .unwrap_or(intermediate),
        normalized: fields
            .flag("norm_topk_prob")?
            .unwrap_or(family.normalizes_experts),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DecoderConfig;
    use serde_json::json;

    fn read(more: Value) -> Result<DecoderConfig, ModelError> {
        let mut config = json!({
            "model_type": "qwen3_moe", "hidden_size": 8, "intermediate_size": 24,
            "num_attention_heads": 2, "num_hidden_layers": 4, "vocab_size": 9,
            "max_position_embeddings": 64, "num_experts": 6, "num_experts_per_tok": 2,
        });
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        DecoderConfig::from_json(config.to_string().as_bytes())
    }

    fn refused(more: Value) -> String {
        read(more).unwrap_err().to_string()
    }

    #[test]
    fn the_layers_with_experts_are_those_that_the_file_says() {
        let having = |more: Value| -> Vec<bool> {
            let config = read(more).unwrap();
            (0..4)
                .map(|layer| config.experts(layer).is_some())
                .collect()
        };
        assert_eq!(having(json!({})), [true; 4]);
        assert_eq!(
            having(json!({ "decoder_sparse_step": 2 })),
            [false, true, false, true]
        );
        assert_eq!(
            having(json!({ "decoder_sparse_step": 2, "mlp_only_layers": [3, 0] })),
            [false, true, false, false]
        );
        assert_eq!(having(json!({ "num_experts": 0 })), [false; 4]);
        assert_eq!(having(json!({ "num_experts": null })), [false; 4]);
    }

    #[test]
    fn what_the_file_leaves_unsaid_is_the_familys_own() {
        let own = read(json!({})).unwrap().experts.unwrap();
        assert_eq!((own.count, own.chosen, own.width), (6, 2, 24));
        assert!(!own.normalized);
        let said = json!({ "moe_intermediate_size": 5, "norm_topk_prob": true });
        let said = read(said).unwrap().experts.unwrap();
        assert_eq!((said.width, said.normalized), (5, true));
        let mixtral =
            json!({ "model_type": "mixtral", "num_experts": null, "num_local_experts": 3 });
        let mixtral = read(mixtral).unwrap().experts.unwrap();
        assert_eq!((mixtral.count, mixtral.normalized), (3, true));
    }

    #[test]
    fn counts_that_contradict_each_other_are_refused_by_name() {
        for (config, message) in [
            (
                json!({ "num_experts_per_tok": 7 }),
                "the model's sizes are wrong: a token takes 7 experts, a layer has 6",
            ),
            (
                json!({ "num_experts_per_tok": null }),
                "config.json has no \"num_experts_per_tok\", it is needed",
            ),
            (
                json!({ "num_experts_per_tok": 33, "num_experts": 64 }),
                "the model's sizes are wrong: the number of experts that a token takes is 33, it must be from 1 to 32",
            ),
            (
                json!({ "num_experts": 5000 }),
                "the model's sizes are wrong: the expert count is 5000, it must be from 1 to 1024",
            ),
            (
                json!({ "num_experts": "many" }),
                "num_experts is \"many\", it must be a whole number that is not negative",
            ),
            (
                json!({ "mlp_only_layers": [4] }),
                "mlp_only_layers is 4, it must be a list of layer numbers",
            ),
            (
                json!({ "mlp_only_layers": 1 }),
                "mlp_only_layers is 1, it must be a list of layer numbers",
            ),
            (
                json!({ "model_type": "olmoe", "clip_qkv": 8.0 }),
                "clip_qkv is 8.0, it must be null",
            ),
            (
                json!({ "model_type": "starcoder2" }),
                "the model's sizes are wrong: experts need a decoder whose feed-forward layers have gates",
            ),
        ] {
            assert_eq!(refused(config), message);
        }
    }
}
