//! What goes into the engine.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::GenerationParams;

/// Identifies a request within its engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub(crate) u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {}", self.0)
    }
}

/// A prompt to be continued.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The tokens of the prompt, special ones included.
    pub prompt: Vec<u32>,
    /// How to continue it.
    pub params: GenerationParams,
    /// The name of the LoRA adapter to run it with; see [`Engine::add_lora`](crate::Engine::add_lora).
    pub lora: Option<Arc<str>>,
    /// Leave special tokens out of the text; true by default.
    pub skip_special_tokens: bool,
}

impl Request {
    /// A request with the default parameters.
    pub fn new(prompt: Vec<u32>) -> Self {
        Self {
            prompt,
            params: GenerationParams::default(),
            lora: None,
            skip_special_tokens: true,
        }
    }

    /// With these parameters.
    #[must_use]
    pub fn with_params(mut self, params: GenerationParams) -> Self {
        self.params = params;
        self
    }

    /// With the LoRA adapter of this name.
    #[must_use]
    pub fn with_lora(mut self, name: impl Into<Arc<str>>) -> Self {
        self.lora = Some(name.into());
        self
    }
}
