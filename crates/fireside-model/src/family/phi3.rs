//! Phi-3, 3.5 and 4-mini: fused projections, partial rotary, long rope.

use super::{Family, Fused};

pub(super) const FAMILY: Family = Family {
    name: "phi3",
    model_types: &["phi3"],
    gguf_architectures: &["phi3"],
    gguf_pairs_neighbours: false,
    fused: Fused::PartByPart,
    fused_gate: true,
    ..Family::LLAMA
};
