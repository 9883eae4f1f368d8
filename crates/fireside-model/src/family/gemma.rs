//! Gemma: embeddings scaled, gains less one in safetensors, a GELU gate.

use fireside_kernels::params::Activation;

use super::Family;

pub(super) const FAMILY: Family = Family {
    name: "gemma",
    model_types: &["gemma"],
    gguf_architectures: &["gemma"],
    gguf_pairs_neighbours: false,
    activation: Activation::GeluTanh,
    gelu_is_tanh: true,
    tied_by_default: true,
    gains_less_one: true,
    scales_embeddings: true,
    ..Family::LLAMA
};
