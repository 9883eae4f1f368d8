//! GPT-2: learned positions, layer norms, biases, no gate, and matrices transposed in safetensors.

use fireside_kernels::params::Activation;

use super::{Family, Fused, Part};

pub(super) const FAMILY: Family = Family {
    name: "gpt2",
    model_types: &["gpt2"],
    gguf_architectures: &["gpt2"],
    gguf_pairs_neighbours: false,
    activation: Activation::GeluTanh,
    tied_by_default: true,
    fused: Fused::PartByPart,
    gated: false,
    layer_norms: true,
    eps: 1e-5,
    widens: Some(4),
    fields: &[
        ("hidden_act", "activation_function"),
        ("hidden_size", "n_embd"),
        ("intermediate_size", "n_inner"),
        ("max_position_embeddings", "n_positions"),
        ("num_attention_heads", "n_head"),
        ("num_hidden_layers", "n_layer"),
        ("rms_norm_eps", "layer_norm_epsilon"),
    ],
    // None of the layers rotates.
    rotates_but_every: Some(1),
    learned_positions: true,
    transposed: true,
    roots: &["transformer.", ""],
    layers: "h",
    modules: &[
        (Part::Embedding, "wte"),
        (Part::Positions, "wpe"),
        (Part::FinalNorm, "ln_f"),
        (Part::AttentionNorm, "ln_1"),
        (Part::QueryKeyValue, "attn.c_attn"),
        (Part::AttentionOut, "attn.c_proj"),
        (Part::FeedForwardNorm, "ln_2"),
        (Part::Up, "mlp.c_fc"),
        (Part::Down, "mlp.c_proj"),
    ],
    ..Family::LLAMA
};
