//! The executor of a real model: its steps over its KV cache.

use std::sync::Arc;

use fireside_model::device::DeviceError;
use fireside_model::step::{Selected, Step};
use fireside_model::{BLOCK, KvCache, KvDtype, Lora, Model, ModelError};

use crate::{Executor, ExecutorError, ExecutorLimits};

/// Most tokens of a step: activations grow with it, and a step is one submission, which a GPU's
/// watchdog bounds.
const STEP_TOKENS: usize = 512;
/// Most bytes of a step's logits on the device.
const LOGIT_BYTES: u64 = 64 << 20;

/// A model and its KV cache.
#[derive(Debug)]
pub struct ModelExecutor {
    model: Model,
    cache: KvCache,
}

impl ModelExecutor {
    /// Allocates a cache of at least `positions` positions.
    ///
    /// # Errors
    ///
    /// The cache does not fit the device.
    pub fn new(model: Model, positions: usize, kv: KvDtype) -> Result<Self, ModelError> {
        let cache = model.cache(positions.div_ceil(BLOCK), kv)?;
        Ok(Self { model, cache })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The cache.
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// Rows of logits that one buffer may hold.
    fn step_rows(&self) -> usize {
        let bytes = LOGIT_BYTES.min(self.model.device().max_binding());
        let rows = bytes / (self.model.config().vocab.max(1) as u64 * 4);
        usize::try_from(rows)
            .unwrap_or(STEP_TOKENS)
            .clamp(1, STEP_TOKENS)
    }
}

impl Executor for ModelExecutor {
    fn limits(&self) -> ExecutorLimits {
        ExecutorLimits {
            vocab: self.model.config().vocab,
            context: self.model.config().context,
            blocks: self.cache.blocks(),
            step_tokens: STEP_TOKENS,
            step_sequences: STEP_TOKENS,
            step_rows: self.step_rows(),
        }
    }

    fn shares_prefixes(&self) -> bool {
        !self.model.config().depends_on_length()
    }

    fn gains_ahead(&self) -> bool {
        let adapter = self.model.device().adapter();
        adapter.is_some_and(|adapter| !adapter.software)
    }

    fn set_loras(&mut self, loras: &[Arc<Lora>]) -> Result<(), ExecutorError> {
        let set = self.model.set_loras(loras);
        set.map_err(|error| executor_error(&error))?;
        self.cache.forget_loras();
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<Vec<Selected>, ExecutorError> {
        let result = self.model.step(&mut self.cache, step).await;
        result.map_err(|error| executor_error(&error))
    }
}

/// What a failed step means for its owner.
pub(crate) fn executor_error(error: &ModelError) -> ExecutorError {
    let message = error.to_string();
    match error {
        ModelError::Device(DeviceError::Gone { .. } | DeviceError::Read { .. }) => {
            ExecutorError::DeviceLost { message }
        }
        _ => ExecutorError::Failed { message },
    }
}
