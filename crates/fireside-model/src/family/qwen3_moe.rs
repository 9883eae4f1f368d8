//! Qwen3-MoE: Qwen3 with experts in all layers or some.

use super::{Family, HeadNorms};

pub(super) const FAMILY: Family = Family {
    name: "qwen3-moe",
    model_types: &["qwen3_moe"],
    gguf_architectures: &["qwen3moe"],
    gguf_pairs_neighbours: false,
    head_norms: HeadNorms::Each,
    normalizes_experts: false,
    ..Family::LLAMA
};
