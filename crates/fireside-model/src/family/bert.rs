//! BERT, and what is built like it: MiniLM, E5, BGE, GTE, and cross-encoders of them. An encoder with learned positions
//! and token types, layer norms on sums, biases, no gate.

use fireside_kernels::params::Activation;

use super::{Family, NormPlaces, Part};

pub(super) const FAMILY: Family = Family {
    name: "bert",
    model_types: &["bert"],
    gguf_architectures: &[],
    gguf_pairs_neighbours: false,
    activation: Activation::Gelu,
    tied_by_default: true,
    gated: false,
    layer_norms: true,
    norms: NormPlaces::Onto,
    eps: 1e-12,
    fields: &[("rms_norm_eps", "layer_norm_eps")],
    // None of the layers rotates.
    rotates_but_every: Some(1),
    learned_positions: true,
    encoder: true,
    scores_pairs: true,
    roots: &["", "bert."],
    layers: "encoder.layer",
    modules: &[
        (Part::Embedding, "embeddings.word_embeddings"),
        (Part::Positions, "embeddings.position_embeddings"),
        (Part::Types, "embeddings.token_type_embeddings"),
        (Part::EmbeddingNorm, "embeddings.LayerNorm"),
        (Part::Query, "attention.self.query"),
        (Part::Key, "attention.self.key"),
        (Part::Value, "attention.self.value"),
        (Part::AttentionOut, "attention.output.dense"),
        (Part::AttentionPostNorm, "attention.output.LayerNorm"),
        (Part::Up, "intermediate.dense"),
        (Part::Down, "output.dense"),
        (Part::FeedForwardPostNorm, "output.LayerNorm"),
    ],
    ..Family::LLAMA
};
