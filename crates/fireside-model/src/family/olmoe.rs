//! OLMoE: experts whose weights are not made to add up to one, and one norm over all query heads and one over
//! all key heads.

use super::{Family, HeadNorms};

pub(super) const FAMILY: Family = Family {
    name: "olmoe",
    model_types: &["olmoe"],
    gguf_architectures: &["olmoe"],
    gguf_pairs_neighbours: false,
    head_norms: HeadNorms::Whole,
    eps: 1e-5,
    normalizes_experts: false,
    gguf_normalizes_experts: false,
    ..Family::LLAMA
};
