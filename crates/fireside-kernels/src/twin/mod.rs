//! Plain-Rust twins of the kernels: the oracle of their tests, and the CPU device.
//!
//! Functions on slices, in the kernels' own memory layouts, written to be read. What they share
//! with WGSL is the formula, not the order of the sums.

mod attention;
mod experts;
mod linear;
mod select;

pub use attention::{KvPlace, attention, rope_kv};
pub use experts::{experts, route};
pub use linear::{PlanesView, embed, glu, linear, norm, unpack_row};
pub use select::{adjust_logits, gumbel, select};

use crate::layout::Planes;

impl Planes {
    /// The planes as the twins read them.
    pub fn view(&self) -> PlanesView<'_> {
        PlanesView {
            layout: self.layout,
            columns: self.columns,
            quants: &self.quants,
            scales: &self.scales,
        }
    }
}

/// Runs `work` on consecutive chunks of `out`, on all cores where there are threads.
fn for_each_chunk(out: &mut [f32], chunk: usize, work: impl Fn(usize, &mut [f32]) + Send + Sync) {
    #[cfg(not(target_arch = "wasm32"))]
    {
        use rayon::prelude::*;
        out.par_chunks_mut(chunk)
            .enumerate()
            .for_each(|(index, part)| work(index, part));
    }
    #[cfg(target_arch = "wasm32")]
    for (index, part) in out.chunks_mut(chunk).enumerate() {
        work(index, part);
    }
}
