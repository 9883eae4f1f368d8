//! Embeddings: texts to tokens, tokens through the model, hidden states to vectors.

mod embedder;
mod engine;
mod texts;

pub use embedder::{EmbedLimits, Embedder};
pub use engine::{EmbedEngine, Pooled};
pub use texts::{EmbedParams, EmbedTexts};
