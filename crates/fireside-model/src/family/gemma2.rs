//! Gemma 2: Gemma with norms around attention and feed-forward layers, windows on every other layer, and
//! soft caps on scores and logits.

use super::{Caps, Family, NormPlaces, gemma};

pub(super) const FAMILY: Family = Family {
    name: "gemma2",
    model_types: &["gemma2"],
    gguf_architectures: &["gemma2"],
    gelu_is_tanh: false,
    norms: NormPlaces::Around,
    windows_but_every: Some(2),
    gguf_wide_scores: Some(46),
    caps: Caps {
        attention: Some(50.0),
        logits: Some(30.0),
    },
    ..gemma::FAMILY
};
