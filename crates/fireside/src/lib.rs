//! Runs language models on any GPU: one call loads a model, one call generates.
//!
//! ```no_run
//! # async fn run() -> Result<(), fireside::Error> {
//! use fireside::{GenerationParams, pipeline};
//!
//! let mut generator = pipeline("text-generation", "smollm2").await?;
//! let params = GenerationParams { max_new_tokens: Some(32), ..Default::default() };
//! for output in generator.generate("The capital of France is", &params).await? {
//!     println!("{}", output.text);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The task `feature-extraction` makes embeddings:
//!
//! ```no_run
//! # async fn run() -> Result<(), fireside::Error> {
//! use fireside::{EmbedParams, pipeline};
//!
//! let mut extractor = pipeline("feature-extraction", "all-MiniLM-L6-v2/").await?;
//! let texts = ["A fire crackles.", "Le feu crépite."];
//! for embedded in extractor.embed(texts, &EmbedParams::default()).await? {
//!     println!("{:?}", embedded.embedding);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! And `text-ranking` says how well texts answer a query:
//!
//! ```no_run
//! # async fn run() -> Result<(), fireside::Error> {
//! use fireside::{RankParams, pipeline};
//!
//! let mut ranker = pipeline("text-ranking", "ms-marco-MiniLM-L6-v2/").await?;
//! let texts = ["A fire crackles.", "The market fell."];
//! for ranked in ranker.rank("What burns?", &texts, RankParams::default()).await? {
//!     println!("{:.3} {}", ranked.score, texts[ranked.index]);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`pipeline`] takes a task and a model: a GGUF file, a model folder, a known name or a hub id.
//! [`Loading`] chooses device, cache and context; [`blocking`] is the same without `async`. Inputs
//! are a prompt, a list of prompts (run as a batch), or chat messages.

pub mod blocking;
mod error;
mod input;
mod loading;
mod pipeline;

#[cfg(feature = "cli")]
pub mod cli;

pub use error::Error;
pub use fireside_engine::{
    CacheSize, Completion, EmbedLimits, EmbedParams, EmbedTexts, EmbedTokens, EngineConfig, Event,
    FinishReason, GenerationParams, RankParams, RankQuery, RankTexts, Ranked, Ranker, RequestStats,
    Token, TokenLogprob,
};
pub use fireside_model::device::{AdapterReport, ComputeDevice, DeviceChoice, adapters};
pub use fireside_model::ranking::ScoreActivation;
pub use fireside_model::{KvDtype, Pooling, Quantize};
pub use input::{Input, Message};
pub use loading::{Loading, pipeline};
pub use pipeline::{
    Embedded, FeatureExtraction, Features, Output, Perplexity, Pipeline, Reranking, Task,
    TextGeneration,
};
