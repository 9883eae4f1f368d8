//! Qwen2 and Qwen2.5, and the Qwen distills of DeepSeek-R1: biases on queries, keys and values.

use super::Family;

pub(super) const FAMILY: Family = Family {
    name: "qwen2",
    model_types: &["qwen2"],
    gguf_architectures: &["qwen2"],
    gguf_pairs_neighbours: false,
    ..Family::LLAMA
};
