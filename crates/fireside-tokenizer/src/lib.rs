//! Text to tokens and back: tokenizers, streaming detokenization, stop strings and chat templates.
//!
//! A [`Tokenizer`] comes from one of two places: the bytes of a `tokenizer.json`, or the vocabulary that a GGUF file
//! carries ([`GgufVocab`]). Both give the same interface and the same tokens on every target, browsers included: there
//! is one regex engine, no C code and no threads.
//!
//! ```
//! use fireside_tokenizer::{GgufVocab, Tokenizer};
//!
//! let tokenizer = Tokenizer::from_gguf(&GgufVocab {
//!     model: "llama",
//!     tokens: vec!["<unk>", "<s>", "</s>", "▁", "h", "i", "▁h", "▁hi"],
//!     scores: vec![0.0, 0.0, 0.0, -4.0, -5.0, -6.0, -1.0, -2.0],
//!     token_types: vec![2, 3, 3, 1, 1, 1, 1, 1],
//!     ..GgufVocab::default()
//! })?;
//! let ids = tokenizer.encode("hi", true)?;
//! assert_eq!(ids, [1, 7]);
//! assert_eq!(tokenizer.decode(&ids, true), "hi");
//! # Ok::<(), fireside_tokenizer::Error>(())
//! ```
//!
//! The rest of the way to a user is in [`DetokenizeStream`] (tokens to text, never half a character), [`StopStrings`]
//! (text that must not be shown) and [`ChatTemplate`] (messages to a prompt).

mod byte_level;
mod chat;
mod config;
mod decoder;
mod detokenize;
mod error;
mod gguf;
mod gguf_bpe;
mod hf;
mod json;
mod pair;
mod pre;
mod special;
mod spm;
mod stop;
mod table;
mod tokenizer;
mod utf8;

pub use chat::{ChatInput, ChatTemplate, Clock, ClockTime};
pub use config::TokenizerConfig;
pub use detokenize::DetokenizeStream;
pub use error::Error;
pub use gguf::GgufVocab;
pub use pair::{Pair, PairPart};
pub use special::SpecialTokens;
pub use stop::{StopMatch, StopOutput, StopStrings};
pub use tokenizer::{SpecialText, Tokenizer};

/// The largest text, in bytes, that one call to [`Tokenizer::encode`] takes: 16 MiB.
///
/// Encoding needs tens of bytes of working memory per byte of text, so a bound is what keeps a hostile request from
/// taking all memory. It is about four million tokens.
pub const MAX_TEXT_BYTES: usize = 16 << 20;

/// The largest token id (exclusive) that a vocabulary may use: 4,194,304.
///
/// Lookup tables are indexed by id, so a file that names one token with a huge id would otherwise make them huge.
pub const MAX_TOKENS: usize = 1 << 22;
