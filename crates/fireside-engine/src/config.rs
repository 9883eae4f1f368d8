//! The settings of an engine.

use crate::{Error, ExecutorLimits};

/// How an engine batches and samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Most tokens in a step, 512 by default. More make long prompts faster, and the steps of those
    /// that generate meanwhile slower.
    pub step_tokens: usize,
    /// Most sequences that run at once, 16 by default.
    pub max_running: usize,
    /// Most sequences that wait, 1024 by default.
    pub max_waiting: usize,
    /// Most tokens of sequences that wait; no bound by default. A prompt that is longer may wait where
    /// no other does.
    pub max_waiting_tokens: usize,
    /// Keep what the KV cache holds of ended sequences until its blocks are needed, and share it with
    /// sequences that begin alike; true by default.
    pub prefix_cache: bool,
    /// Candidates that the device gives where filters need them, 64 by default. A `top_k` above it
    /// needs the whole row of logits for each token.
    pub candidates: usize,
    /// Most tokens that are drafted for a sequence, and tried in one step; 0 for none. By default it is 7 while there
    /// is a model for them ([`Engine::set_draft_model`](crate::Engine::set_draft_model)), else 0. They are what
    /// followed its last ones before, or what that model guesses. What is generated does not change; text that repeats
    /// its prompt or itself, or that the smaller model knows too, comes in fewer steps, which cost more each.
    pub speculate: Option<usize>,
    /// Start the next step before the last one's tokens are read, where all of its sequences go on generating
    /// and the device chooses their tokens. What is generated does not change. Where a sequence ends, or another
    /// one comes, a step was run in vain, so by default it is done where the executor gains by it: on a GPU,
    /// which idles while the host reads. Models do it for up to 16 sequences at once.
    pub run_ahead: Option<bool>,
    /// Most LoRA adapters that the model has at once, 16 by default. They lie side by side on the device.
    pub max_loras: usize,
    /// The largest rank of a LoRA adapter, 256 by default. All adapters take the room of the largest one.
    pub max_lora_rank: usize,
    /// Where the seeds of requests without one come from; the clock by default.
    pub seed: Option<u64>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            step_tokens: 512,
            max_running: 16,
            max_waiting: 1024,
            max_waiting_tokens: usize::MAX,
            prefix_cache: true,
            candidates: 64,
            speculate: None,
            run_ahead: None,
            max_loras: 16,
            max_lora_rank: 256,
            seed: None,
        }
    }
}

impl EngineConfig {
    /// The settings within the executor's limits, so that every running sequence can have a token
    /// with its row in each step.
    pub(crate) fn within(mut self, limits: &ExecutorLimits) -> Result<Self, Error> {
        let sizes = [
            ("step_tokens", self.step_tokens),
            ("max_running", self.max_running),
            ("max_waiting", self.max_waiting),
            ("max_waiting_tokens", self.max_waiting_tokens),
            ("candidates", self.candidates),
            ("the executor's vocab", limits.vocab),
            ("the executor's context", limits.context),
            ("the executor's blocks", limits.blocks),
            ("the executor's step_tokens", limits.step_tokens),
            ("the executor's step_sequences", limits.step_sequences),
            ("the executor's step_rows", limits.step_rows),
        ];
        if let Some((field, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(Error::invalid(field, 0, "at least 1"));
        }
        self.step_tokens = self.step_tokens.min(limits.step_tokens);
        self.max_running = self
            .max_running
            .min(limits.step_sequences)
            .min(limits.step_rows)
            .min(self.step_tokens);
        Ok(self)
    }
}
