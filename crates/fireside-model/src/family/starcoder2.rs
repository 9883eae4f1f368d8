//! StarCoder2: layer norms, biases everywhere, and a feed-forward layer without a gate.

use fireside_kernels::params::Activation;

use super::{Family, Part};

pub(super) const FAMILY: Family = Family {
    name: "starcoder2",
    model_types: &["starcoder2"],
    gguf_architectures: &["starcoder2"],
    gguf_pairs_neighbours: false,
    activation: Activation::GeluTanh,
    tied_by_default: true,
    gated: false,
    layer_norms: true,
    eps: 1e-5,
    fields: &[("rms_norm_eps", "norm_epsilon")],
    modules: &[(Part::Up, "mlp.c_fc"), (Part::Down, "mlp.c_proj")],
    ..Family::LLAMA
};
