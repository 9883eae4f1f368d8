//! Mistral and Ministral: Llama with a sliding window. Their GGUF files say `llama`.

use super::Family;

pub(super) const FAMILY: Family = Family {
    name: "mistral",
    model_types: &["mistral", "ministral"],
    gguf_architectures: &[],
    ..Family::LLAMA
};
