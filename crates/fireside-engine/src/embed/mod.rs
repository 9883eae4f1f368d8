//! Embeddings: texts to tokens, tokens through the model, hidden states to vectors.

mod embedder;
mod engine;
mod texts;
mod tokens;

pub use embedder::{EmbedLimits, Embedder};
pub use engine::{EmbedEngine, Pooled};
pub use texts::{EmbedParams, EmbedTexts};
pub use tokens::EmbedTokens;
