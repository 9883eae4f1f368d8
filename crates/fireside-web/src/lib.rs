//! Fireside in the browser: the WASM surface over the kernels, for now their smoke test.
//!
//! On other targets the crate is empty.

#[cfg(target_arch = "wasm32")]
mod smoke;

#[cfg(target_arch = "wasm32")]
pub use smoke::smoke;
