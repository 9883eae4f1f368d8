//! OpenAI's chat, completion and embeddings interface over the engine, and reranking beside it: requests, replies,
//! streams, errors.
//!
//! A front end parses a body into a [`ChatRequest`] or a [`CompletionRequest`], submits the engine
//! requests it stands for, and feeds the engine's events to a [`Reply`], which gives the chunks of
//! a stream or the whole object.
//!
//! ```
//! use fireside_openai::ChatRequest;
//!
//! let body = r#"{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, "top_k": null}"#;
//! let request = ChatRequest::from_json(body.as_bytes())?;
//! assert_eq!(request.params.max_new_tokens, Some(8));
//!
//! let error = ChatRequest::from_json(br#"{"messages": [], "n": 0}"#).unwrap_err();
//! assert_eq!(error.param.as_deref(), Some("n"));
//! # Ok::<(), fireside_openai::ApiError>(())
//! ```

mod chat;
mod completion;
mod embeddings;
mod error;
pub mod fields;
mod logprobs;
mod prompt;
mod reply;
mod rerank;
mod sampling;

pub use chat::ChatRequest;
pub use completion::CompletionRequest;
pub use embeddings::{EmbeddingsReply, EmbeddingsRequest, MAX_INPUTS, Vector};
pub use error::{ApiError, ErrorKind};
pub use prompt::Prompt;
pub use reply::{Reply, ReplyKind};
pub use rerank::{MAX_PAIR_TOKENS, Rank, RerankReply, RerankRequest};
