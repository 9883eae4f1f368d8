//! Requests, sequences, cache blocks, sampling and the step loop: text generation for many at once.
//!
//! An [`Engine`] takes [`Request`]s (tokens and [`GenerationParams`]) and gives [`Event`]s. Between
//! them it knows sequences, blocks of the KV cache and steps; it knows no device, no tensors and no
//! wire format. What runs a step is an [`Executor`]. Nothing here blocks, starts threads or sleeps,
//! so that the same engine runs in a server's thread and in a browser's worker.
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use fireside_engine::{
//!     Engine, EngineConfig, Event, Executor, ExecutorError, ExecutorLimits, GenerationDefaults,
//!     GenerationParams, Request,
//! };
//! use fireside_model::Selection;
//! use fireside_model::step::{Selected, Step};
//! use fireside_tokenizer::{GgufVocab, Tokenizer};
//!
//! /// A model that always continues with the same token.
//! struct Always(u32);
//!
//! impl Executor for Always {
//!     fn limits(&self) -> ExecutorLimits {
//!         ExecutorLimits {
//!             vocab: 4,
//!             context: 64,
//!             blocks: 8,
//!             step_tokens: 64,
//!             step_sequences: 4,
//!             step_rows: 64,
//!         }
//!     }
//!
//!     async fn step(&mut self, step: &Step) -> Result<Vec<Selected>, ExecutorError> {
//!         let rows = step.chunks.iter().flat_map(|chunk| &chunk.rows);
//!         let selection = Selection {
//!             token: self.0,
//!             max: 0.0,
//!             log_sum_exp: 0.0,
//!             tempered_log_sum_exp: 0.0,
//!             broken: 0,
//!             target_logit: 0.0,
//!             candidates: vec![(self.0, 0.0)],
//!         };
//!         Ok(rows.map(|_| Selected { selection: selection.clone(), logits: None }).collect())
//!     }
//! }
//!
//! let tokenizer = Tokenizer::from_gguf(&GgufVocab {
//!     model: "llama",
//!     tokens: vec!["<unk>", "<s>", "</s>", "▁ha"],
//!     scores: vec![0.0; 4],
//!     token_types: vec![2, 3, 3, 1],
//!     ..GgufVocab::default()
//! })?;
//! let defaults = GenerationDefaults::default();
//! let mut engine = Engine::new(Always(3), tokenizer, defaults, EngineConfig::default())?;
//!
//! let params = GenerationParams { max_new_tokens: Some(3), ..GenerationParams::default() };
//! let requests = [Request::new(vec![1]).with_params(params)];
//! let mut text = String::new();
//! let whole = engine.run(&requests, |_, event| {
//!     if let Event::Token(token) = event {
//!         text += &token.text;
//!     }
//!     ControlFlow::Continue(())
//! });
//! pollster::block_on(whole)?;
//! assert_eq!(text, "ha ha ha");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod blocks;
mod cache_size;
mod config;
mod defaults;
mod draft;
mod embed;
mod engine;
mod error;
mod event;
mod executor;
mod filter;
mod generation;
mod lenient;
mod loras;
mod model_executor;
mod params;
mod penalties;
mod rank;
mod request;
mod results;
mod run;
mod sample;
mod scheduler;
mod score;
mod sequence;

pub use cache_size::CacheSize;
pub use config::EngineConfig;
pub use defaults::{DEFAULT_MAX_NEW_TOKENS, DEFAULT_TOP_K, GenerationDefaults};
pub use draft::check_draft_model;
pub use embed::{EmbedEngine, EmbedLimits, EmbedParams, EmbedTexts, EmbedTokens, Embedder, Pooled};
pub use engine::Engine;
pub use error::{Error, ExecutorError};
pub use event::{
    EngineStats, Event, FinishReason, Finished, Prompt, PromptToken, RequestStats, Token,
};
pub use executor::{Executor, ExecutorLimits};
pub use model_executor::ModelExecutor;
pub use params::{GenerationParams, ParamLimits};
pub use rank::{RankParams, RankQuery, RankTexts, Ranked, Ranker};
pub use request::{Request, RequestId};
pub use run::Completion;
pub use sample::TokenLogprob;
