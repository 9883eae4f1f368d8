//! Mixtral: Mistral with experts, under names of their own. Its GGUF files say `llama`.

use super::{Family, Part};

pub(super) const FAMILY: Family = Family {
    name: "mixtral",
    model_types: &["mixtral"],
    gguf_architectures: &[],
    modules: &[
        (Part::Router, "block_sparse_moe.gate"),
        (Part::ExpertGate, "block_sparse_moe.experts.{expert}.w1"),
        (Part::ExpertUp, "block_sparse_moe.experts.{expert}.w3"),
        (Part::ExpertDown, "block_sparse_moe.experts.{expert}.w2"),
    ],
    ..Family::LLAMA
};
