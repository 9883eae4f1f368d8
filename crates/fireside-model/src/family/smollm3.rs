//! SmolLM3: every fourth layer has no rotary embedding.

use super::Family;

pub(super) const FAMILY: Family = Family {
    name: "smollm3",
    model_types: &["smollm3"],
    gguf_architectures: &["smollm3"],
    tied_by_default: true,
    rotates_but_every: Some(4),
    ..Family::LLAMA
};
