//! Gemma 3, the models for text: Gemma 2 without its caps, with a norm on each query and key head, and five
//! layers in six with a window and a rotary embedding of their own.

use super::{Caps, Family, HeadNorms, gemma2};

pub(super) const FAMILY: Family = Family {
    name: "gemma3",
    model_types: &["gemma3_text"],
    gguf_architectures: &["gemma3"],
    head_norms: HeadNorms::Each,
    windows_but_every: Some(6),
    theta: 1_000_000.0,
    local_theta: Some(10_000.0),
    gguf_wide_scores: Some(62),
    caps: Caps {
        attention: None,
        logits: None,
    },
    ..gemma2::FAMILY
};
