//! Qwen3: a norm on each query and key head.

use super::{Family, HeadNorms};

pub(super) const FAMILY: Family = Family {
    name: "qwen3",
    model_types: &["qwen3"],
    gguf_architectures: &["qwen3"],
    gguf_pairs_neighbours: false,
    head_norms: HeadNorms::Each,
    ..Family::LLAMA
};
