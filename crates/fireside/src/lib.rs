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
//! [`pipeline`] takes a task and a model: a GGUF file, a model folder, a known name or a hub id.
//! [`Loading`] chooses device, cache and context; [`blocking`] is the same without `async`. Inputs
//! are a prompt, a list of prompts (run as a batch), or chat messages.

pub mod blocking;
mod error;
mod input;
mod loading;
mod perplexity;
mod pipeline;

#[cfg(feature = "cli")]
pub mod cli;

pub use error::Error;
pub use fireside_engine::{
    CacheSize, Completion, EngineConfig, Event, FinishReason, GenerationParams, RequestStats,
    Token, TokenLogprob,
};
pub use fireside_model::device::{AdapterReport, ComputeDevice, DeviceChoice, adapters};
pub use fireside_model::{KvDtype, Quantize};
pub use input::{Input, Message};
pub use loading::{Loading, pipeline};
pub use perplexity::Perplexity;
pub use pipeline::{Output, Pipeline};
