//! GPT-NeoX and Pythia: layer norms, biases, no gate, a quarter of each head rotates, and attention and
//! feed-forward layer side by side.

use fireside_kernels::params::Activation;

use super::{Family, Fused, Part};

pub(super) const FAMILY: Family = Family {
    name: "gpt-neox",
    model_types: &["gpt_neox"],
    gguf_architectures: &["gptneox"],
    gguf_pairs_neighbours: false,
    activation: Activation::Gelu,
    fused: Fused::HeadByHead,
    gated: false,
    parallel: true,
    layer_norms: true,
    eps: 1e-5,
    fields: &[
        ("partial_rotary_factor", "rotary_pct"),
        ("rms_norm_eps", "layer_norm_eps"),
        ("rope_theta", "rotary_emb_base"),
    ],
    rotary_share: 0.25,
    roots: &["gpt_neox."],
    modules: &[
        (Part::Embedding, "embed_in"),
        (Part::FinalNorm, "final_layer_norm"),
        (Part::Head, "embed_out"),
        // What transformers 5 writes.
        (Part::Head, "lm_head"),
        (Part::QueryKeyValue, "attention.query_key_value"),
        (Part::AttentionOut, "attention.dense"),
        (Part::Up, "mlp.dense_h_to_4h"),
        (Part::Down, "mlp.dense_4h_to_h"),
    ],
    ..Family::LLAMA
};
