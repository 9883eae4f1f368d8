//! What the engine needs of a model: run a step, give what was selected.

use std::future::Future;
use std::sync::Arc;

use fireside_model::Lora;
use fireside_model::step::{Selected, Step};

use crate::ExecutorError;

/// The fixed sizes of an executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecutorLimits {
    /// Rows of the model's output: every token id is below it.
    pub vocab: usize,
    /// Positions that the model can attend to in one sequence.
    pub context: usize,
    /// Blocks of the KV cache, numbered from 0, of [`fireside_model::BLOCK`] positions each.
    pub blocks: usize,
    /// Most tokens that one step takes.
    pub step_tokens: usize,
    /// Most sequences that one step takes.
    pub step_sequences: usize,
    /// Most rows of logits that one step gives.
    pub step_rows: usize,
}

/// Runs steps of a model over a paged KV cache.
///
/// The engine upholds: chunks are of different sequences, whose tables share blocks only before the
/// positions that either of them runs; each chunk starts at or before the end of what the cache
/// holds of its sequence, so that every position is written before it is read; a position may be run
/// again with the same token and block, which must change nothing; tokens and adjusted tokens are
/// below [`ExecutorLimits::vocab`].
pub trait Executor {
    /// The sizes; they do not change.
    fn limits(&self) -> ExecutorLimits;

    /// Whether keys and values depend on nothing but the tokens up to their own, so that sequences
    /// that begin alike may share them. Where not, the engine shares none.
    fn shares_prefixes(&self) -> bool {
        true
    }

    /// Whether it gains by [`Step::next`]: its device works beside the host.
    fn gains_ahead(&self) -> bool {
        false
    }

    /// Makes these the LoRA adapters that chunks may name, by their place.
    ///
    /// # Errors
    ///
    /// It cannot have them, as by default; those of before stay.
    fn set_loras(&mut self, loras: &[Arc<Lora>]) -> Result<(), ExecutorError> {
        let _ = loras;
        Err(ExecutorError::Failed {
            message: "this executor takes no LoRA adapters".into(),
        })
    }

    /// Runs a step and gives one result per wanted row, in the order of the chunks and their rows. What likely
    /// comes next, where the step says it, may be run early or passed over.
    ///
    /// Dropping the future is allowed: the engine then runs the same positions again.
    ///
    /// # Errors
    ///
    /// If the step could not be run; the cache's content is then taken for lost.
    fn step(&mut self, step: &Step) -> impl Future<Output = Result<Vec<Selected>, ExecutorError>>;
}
