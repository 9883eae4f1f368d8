//! What comes out of the engine.

use web_time::Duration;

use crate::{Error, RequestId, TokenLogprob};

/// Something that happened to a sequence.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Its prompt has been scored, where the request asks for that: the first event of the
    /// request's first sequence. Other sequences of the request may have events before it.
    Prompt(Prompt),
    /// It has a token more.
    Token(Token),
    /// It came to its end.
    Finished(Finished),
    /// It failed; it has no further events.
    Failed {
        /// The request.
        request: RequestId,
        /// Which of the request's sequences.
        index: usize,
        /// Why.
        error: Error,
    },
}

impl Event {
    /// The request.
    pub fn request(&self) -> RequestId {
        match self {
            Self::Prompt(prompt) => prompt.request,
            Self::Token(token) => token.request,
            Self::Finished(finished) => finished.request,
            Self::Failed { request, .. } => *request,
        }
    }

    /// Which of the request's sequences, from 0.
    pub fn index(&self) -> usize {
        match self {
            Self::Prompt(_) => 0,
            Self::Token(token) => token.index,
            Self::Finished(finished) => finished.index,
            Self::Failed { index, .. } => *index,
        }
    }

    /// Whether it is the sequence's last event.
    pub fn is_end(&self) -> bool {
        !matches!(self, Self::Prompt(_) | Self::Token(_))
    }
}

/// What the model makes of a request's prompt, which all of its sequences share.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// The request.
    pub request: RequestId,
    /// All tokens of the prompt.
    pub tokens: Vec<PromptToken>,
}

/// A token of a prompt, and how probable it was after those before it.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptToken {
    /// The token.
    pub id: u32,
    /// Natural logarithm of its probability; none for the first one, which follows nothing.
    pub logprob: Option<f32>,
    /// The most probable tokens in its place, as many as the request wants.
    pub top_logprobs: Vec<TokenLogprob>,
}

/// A generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// The request.
    pub request: RequestId,
    /// Which of the request's sequences, from 0.
    pub index: usize,
    /// The token.
    pub id: u32,
    /// The text that has become certain: none while a character is unfinished, or while the text
    /// may be the beginning of a stop string; the rest of it with the last token. All texts of a
    /// sequence, put together, are its text.
    pub text: String,
    /// Natural logarithm of the token's probability, where the request wants it.
    pub logprob: Option<f32>,
    /// The most probable tokens, as many as the request wants.
    pub top_logprobs: Vec<TokenLogprob>,
}

/// The end of a sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The request.
    pub request: RequestId,
    /// Which of the request's sequences, from 0.
    pub index: usize,
    /// Why it ended.
    pub reason: FinishReason,
    /// The seed that it was sampled with; the request's, or the one that it was given.
    pub seed: u64,
    /// Whether no other sequence of the request is under way.
    pub request_is_done: bool,
    /// Counts and times.
    pub stats: RequestStats,
}

/// Why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model gave one of its end-of-sequence tokens.
    Eos,
    /// The model gave one of the request's `stop_token_ids`: this one.
    StopToken(u32),
    /// The text came to one of the request's `stop` strings: the one at this index.
    StopString(usize),
    /// It has as many tokens as it may have, or the context is full.
    Length,
    /// It was cancelled.
    Cancelled,
}

impl FinishReason {
    /// Its name in OpenAI's interface and its kin: `stop`, `length`, and vLLM's `abort`.
    pub fn openai(self) -> &'static str {
        match self {
            Self::Eos | Self::StopToken(_) | Self::StopString(_) => "stop",
            Self::Length => "length",
            Self::Cancelled => "abort",
        }
    }

    /// Its name in TGI's interface: `eos_token`, `stop_sequence`, `length`. A cancelled sequence
    /// has none there and is given as `length`.
    pub fn tgi(self) -> &'static str {
        match self {
            Self::Eos | Self::StopToken(_) => "eos_token",
            Self::StopString(_) => "stop_sequence",
            Self::Length | Self::Cancelled => "length",
        }
    }
}

/// Counts and times of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestStats {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of them were in the KV cache when the sequence began, in whole blocks, and were not
    /// run.
    pub cached_tokens: usize,
    /// Tokens generated, one that ended the sequence included.
    pub generated_tokens: usize,
    /// From the arrival of the request until its first step; also what it waited for a prompt that
    /// begins like its own.
    pub queued: Duration,
    /// From the arrival of the request until its first token, if it has one.
    pub time_to_first_token: Option<Duration>,
    /// From the first step until the first token, or until the end if there is none.
    pub prefill: Duration,
    /// From the first token until the last one, the time without a cache after a preemption included.
    pub decode: Duration,
    /// Rows that were run again for all of their logits, because the candidates did not prove which
    /// tokens the filters keep.
    pub fallbacks: u64,
    /// How often the sequence lost its cache to older ones and was computed anew.
    pub preemptions: u64,
}

/// Counts of the whole engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineStats {
    /// Sequences that wait for their first step, or for their return.
    pub waiting: usize,
    /// Their tokens.
    pub waiting_tokens: usize,
    /// Sequences that hold blocks.
    pub running: usize,
    /// All blocks of the KV cache.
    pub total_blocks: usize,
    /// Blocks that sequences hold.
    pub used_blocks: usize,
    /// Blocks that no sequence holds, with something that may be used again; they are given where
    /// no block is free.
    pub cached_blocks: usize,
    /// Blocks that hold nothing.
    pub free_blocks: usize,
    /// Steps run so far.
    pub steps: u64,
    /// Tokens run so far besides the one of each generated token: prompts, and what was computed
    /// anew.
    pub prefill_tokens: u64,
    /// Tokens generated so far.
    pub generated_tokens: u64,
    /// Tokens that were drafted; see [`EngineConfig::speculate`](crate::EngineConfig::speculate).
    pub drafted_tokens: u64,
    /// Those of them that were generated.
    pub accepted_tokens: u64,
    /// Steps of the model that drafts, where there is one; they are no part of `steps`.
    pub draft_steps: u64,
    /// All blocks of its KV cache.
    pub draft_total_blocks: usize,
    /// Blocks of it that sequences hold.
    pub draft_used_blocks: usize,
    /// Tokens of all prompts that began to run.
    pub prefix_queries: u64,
    /// Those of them that were in the cache: the sum of [`RequestStats::cached_tokens`].
    pub prefix_hits: u64,
    /// Time that the executor took for all steps.
    pub forward: Duration,
    /// Time that the model that drafts took for its steps.
    pub drafting: Duration,
    /// Time to make tokens and texts of what it gave.
    pub selection: Duration,
    /// Sum of [`RequestStats::fallbacks`].
    pub fallbacks: u64,
    /// Sum of [`RequestStats::preemptions`].
    pub preemptions: u64,
}
