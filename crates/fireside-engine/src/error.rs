//! The error types of the crate: what a request or a step can fail with, and what an executor can.

use crate::RequestId;

/// Why a request was refused, or why a sequence or a step failed.
///
/// Each message is one line: what happened, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A generation parameter or a setting has a value that means nothing.
    #[error("{field} is {value}; expected {expected}")]
    InvalidParameter {
        /// Name of the field, as requests write it.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// The prompt has no tokens.
    #[error("the prompt is empty; a model needs at least one token to continue")]
    EmptyPrompt,
    /// A token of the prompt is not in the vocabulary.
    #[error(
        "prompt token {token} at position {position} is outside the vocabulary of {vocab} tokens"
    )]
    PromptToken {
        /// Position in the prompt, from 0.
        position: usize,
        /// The token.
        token: u32,
        /// Number of tokens that the model knows.
        vocab: usize,
    },
    /// The prompt does not fit into the model's context.
    #[error("prompt of {prompt} tokens exceeds the context of {context} tokens")]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// Not even alone would the sequence fit into the KV cache.
    #[error(
        "prompt of {prompt} tokens plus {new} new ones exceeds the KV cache of {positions} positions"
    )]
    CacheTooSmall {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens to generate.
        new: usize,
        /// Positions in the whole cache.
        positions: usize,
    },
    /// The KV cache that was chosen takes more memory than it may.
    #[error(
        "a KV cache of {positions} positions needs {needs} bytes and may take {memory}; choose at most {fits} positions, or more memory"
    )]
    CacheMemory {
        /// Positions in the whole cache.
        positions: usize,
        /// Bytes that they take.
        needs: u64,
        /// Bytes that they may take.
        memory: u64,
        /// Positions that would fit.
        fits: usize,
    },
    /// Too many sequences are waiting already.
    #[error("{waiting} sequences are waiting and {wanted} more exceed the limit of {limit}")]
    QueueFull {
        /// Sequences that wait.
        waiting: usize,
        /// Sequences of the refused request.
        wanted: usize,
        /// Largest number that may wait.
        limit: usize,
    },
    /// Too many tokens are waiting already.
    #[error("{waiting} tokens are waiting and {wanted} more exceed the limit of {limit}")]
    TokenQueueFull {
        /// Tokens of the sequences that wait.
        waiting: usize,
        /// Tokens of the refused request's sequences.
        wanted: usize,
        /// Largest number that may wait.
        limit: usize,
    },
    /// [`Engine::run`](crate::Engine::run) found requests of others in the engine.
    #[error("the engine has {requests} requests under way; run needs an idle engine")]
    Busy {
        /// Requests under way.
        requests: usize,
    },
    /// The model computed values that are not numbers.
    #[error("{request}, sequence {index}: {count} logits at position {position} are not numbers")]
    BrokenLogits {
        /// The request.
        request: RequestId,
        /// Which of the request's sequences.
        index: usize,
        /// Position of the token whose logits broke, from 0.
        position: usize,
        /// How many logits are broken.
        count: u32,
    },
    /// The model computed hidden states that are not numbers.
    #[error("the model computed hidden states that are not numbers")]
    BrokenStates,
    /// No token is left to choose from.
    #[error(
        "{request}, sequence {index}: no token can follow position {position}; all are excluded"
    )]
    NoToken {
        /// The request.
        request: RequestId,
        /// Which of the request's sequences.
        index: usize,
        /// Position of the last token, from 0.
        position: usize,
    },
    /// The executor failed; all requests in the engine are ended.
    #[error("the model failed during a step: {source}")]
    Executor {
        /// What it said.
        source: ExecutorError,
        /// The requests that it ended.
        requests: Vec<RequestId>,
    },
    /// There is no LoRA adapter of that name.
    #[error("there is no LoRA adapter {name:?}: {known}")]
    UnknownLora {
        /// The name.
        name: String,
        /// The ones there are, in words.
        known: String,
    },
    /// A LoRA adapter cannot be taken away yet.
    #[error(
        "the LoRA adapter {name:?} is used by {requests} sequences under way; try again when they have ended"
    )]
    LoraInUse {
        /// Its name.
        name: String,
        /// Sequences that use it.
        requests: usize,
    },
    /// The executor cannot have these LoRA adapters; it has those of before.
    #[error("the LoRA adapter cannot be taken: {source}")]
    Lora {
        /// What it said.
        source: ExecutorError,
    },
    /// A model cannot draft for the engine's own one.
    #[error("the model cannot draft: {reason}")]
    DraftModel {
        /// Why.
        reason: String,
    },
    /// The tokenizer refused something.
    #[error(transparent)]
    Tokenizer(#[from] fireside_tokenizer::Error),
}

impl Error {
    /// An [`Error::InvalidParameter`].
    pub(crate) fn invalid(
        field: &'static str,
        value: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        Self::InvalidParameter {
            field,
            value: value.to_string(),
            expected: expected.into(),
        }
    }
}

/// Why an [`Executor`](crate::Executor) could not run a step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutorError {
    /// The device is gone; only a new executor helps.
    #[error("the device was lost: {message}")]
    DeviceLost {
        /// What the device said.
        message: String,
    },
    /// The step failed; the device still works as far as is known.
    #[error("{message}")]
    Failed {
        /// What went wrong.
        message: String,
    },
    /// A step gave more or fewer results than rows were wanted.
    #[error("{actual} rows came back where {expected} were wanted")]
    RowCount {
        /// Rows wanted.
        expected: usize,
        /// Rows that came back.
        actual: usize,
    },
    /// Logits came back with the wrong length, or not at all where they were wanted.
    #[error("{actual} logits came back where {expected} were wanted")]
    LogitCount {
        /// Size of the vocabulary.
        expected: usize,
        /// Logits that came back.
        actual: usize,
    },
}
