//! Granite 3: multipliers on embeddings, residuals, scores and logits.

use super::Family;

pub(super) const FAMILY: Family = Family {
    name: "granite",
    model_types: &["granite"],
    gguf_architectures: &["granite"],
    ..Family::LLAMA
};
