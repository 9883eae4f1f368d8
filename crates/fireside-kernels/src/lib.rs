//! Fireside's compute kernels as a Burn backend extension.
//!
//! [`ops`] holds the operations on tensors. On a wgpu device each launches hand-written WGSL from
//! `fireside-shaders` in the variant that suits the adapter's [`params::Profile`]; on the CPU each
//! runs its plain-Rust [`twin`], which is also the oracle of the tests. Weights are packed into the
//! planes of [`layout`], which keep the values of their source exactly.
//!
//! This crate knows buffers and nothing of models.

#![expect(
    clippy::too_many_arguments,
    reason = "the matrix product has an argument per binding; the extension macro takes no narrower scope"
)]

pub mod check;
pub mod compile;
pub mod counters;
mod cube;
pub mod device;
mod flex;
mod launch;
pub mod layout;
pub mod ops;
pub mod params;
mod queue;
pub mod record;
pub mod selection;
mod transfer;
pub mod twin;
