//! Language models as Burn modules, and how a file becomes one.
//!
//! [`load`] reads config, tokenizer and template, packs and uploads the weights tensor by tensor,
//! and gives a [`Model`] that runs [`step::Step`]s: flat batches of token chunks whose keys and
//! values go to a paged [`KvCache`]. A family, of decoders or encoders, is one entry in [`family::FAMILIES`].
//!
//! The model knows tensors and nothing of requests.

mod ahead;
mod build;
mod cache;
pub mod config;
pub mod decoder;
pub mod embedding;
mod error;
pub mod experts;
pub mod export;
pub mod family;
mod hollow;
pub mod load;
mod lora;
mod matrix;
mod memory;
mod model;
mod pack;
#[cfg(not(target_arch = "wasm32"))]
pub mod path;
mod plan;
pub mod probe;
mod quantize;
pub mod ranking;
mod recordings;
pub mod rope;
mod rows;
pub mod step;

pub use build::OnProgress;
pub use cache::KvCache;
pub use config::DecoderConfig;
pub use embedding::{Embedding, Pooling};
pub use error::ModelError;
pub use family::Naming;
pub use fireside_kernels::check;
pub use fireside_kernels::compile::Compiling;
pub use fireside_kernels::counters::Counters;
pub use fireside_kernels::device;
pub use fireside_kernels::layout::Layout;
pub use fireside_kernels::params::{BLOCK, KvDtype, Profile};
pub use fireside_kernels::selection::Selection;
pub use fireside_kernels::twin::gumbel;
pub use load::LoadedModel;
pub use lora::Lora;
pub use matrix::{Matrix, MatrixPart};
pub use model::Model;
pub use quantize::Quantize;
pub use ranking::{Ranking, RankingHead};
