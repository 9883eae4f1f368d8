//! Fireside in the browser: the WASM surface over the engine, no inference logic of its own.
//!
//! `WebEngine` loads a model onto the browser's adapter and steps; what goes in and out of it is
//! JSON in OpenAI's shape, made and read by `fireside-openai`. On other targets the crate is empty.

#[cfg(target_arch = "wasm32")]
mod digest;
#[cfg(target_arch = "wasm32")]
mod engine;
#[cfg(target_arch = "wasm32")]
mod failure;
#[cfg(target_arch = "wasm32")]
mod loras;
#[cfg(target_arch = "wasm32")]
mod prepare;
#[cfg(target_arch = "wasm32")]
mod smoke;
#[cfg(target_arch = "wasm32")]
mod source;
#[cfg(target_arch = "wasm32")]
mod texts;

#[cfg(target_arch = "wasm32")]
pub use digest::Sha256;
#[cfg(target_arch = "wasm32")]
pub use engine::WebEngine;
#[cfg(target_arch = "wasm32")]
pub use prepare::Prepared;
#[cfg(target_arch = "wasm32")]
pub use smoke::smoke;
