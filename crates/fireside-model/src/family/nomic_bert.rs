//! Nomic Embed: BERT's layers with a rotary embedding in place of learned positions, a gate, fused projections and no
//! biases but the norms'.

use super::{Family, Fused, NormPlaces, Part};

pub(super) const FAMILY: Family = Family {
    name: "nomic-bert",
    model_types: &["nomic_bert"],
    gguf_architectures: &[],
    gguf_pairs_neighbours: false,
    tied_by_default: true,
    fused: Fused::PartByPart,
    layer_norms: true,
    norms: NormPlaces::Onto,
    eps: 1e-12,
    fields: &[
        ("hidden_act", "activation_function"),
        ("hidden_size", "n_embd"),
        ("intermediate_size", "n_inner"),
        ("max_position_embeddings", "n_positions"),
        ("num_attention_heads", "n_head"),
        ("num_hidden_layers", "n_layer"),
        ("partial_rotary_factor", "rotary_emb_fraction"),
        ("rms_norm_eps", "layer_norm_eps"),
        ("rms_norm_eps", "layer_norm_epsilon"),
        ("rope_theta", "rotary_emb_base"),
    ],
    theta: 1000.0,
    encoder: true,
    roots: &["", "nomic_bert."],
    layers: "encoder.layers",
    modules: &[
        (Part::Embedding, "embeddings.word_embeddings"),
        (Part::Types, "embeddings.token_type_embeddings"),
        (Part::EmbeddingNorm, "emb_ln"),
        (Part::QueryKeyValue, "attn.Wqkv"),
        (Part::AttentionOut, "attn.out_proj"),
        (Part::AttentionPostNorm, "norm1"),
        (Part::Gate, "mlp.fc12"),
        (Part::Up, "mlp.fc11"),
        (Part::Down, "mlp.fc2"),
        (Part::FeedForwardPostNorm, "norm2"),
    ],
    ..Family::LLAMA
};
