//! StableLM: layer norms and a gate, a quarter of each head rotates, biases on queries, keys and values in
//! StableLM 2, and in some models attention and feed-forward layer side by side.

use super::Family;

pub(super) const FAMILY: Family = Family {
    name: "stablelm",
    model_types: &["stablelm"],
    gguf_architectures: &["stablelm"],
    gguf_pairs_neighbours: false,
    layer_norms: true,
    eps: 1e-5,
    shares_norm: true,
    fields: &[("rms_norm_eps", "layer_norm_eps")],
    rotary_share: 0.25,
    ..Family::LLAMA
};
