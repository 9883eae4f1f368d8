//! Decode steps recorded by shape: the launches of a token, bound once for all tokens.

use std::sync::Arc;

use fireside_kernels::record::Recording;

use crate::plan::{Plan, Shape};

/// Most tokens of a recorded step: the activations of a recording stay allocated, and with many
/// tokens the launches cost little beside the work.
const TOKENS: usize = 16;
/// Recordings that are kept; the one unused for longest goes first.
const KEPT: usize = 8;
/// Fewest words of a step buffer, so that a growing block table rarely asks for another.
const WORDS: usize = 1024;

/// What tells recordings apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    shape: Shape,
    words: usize,
    /// The version of the LoRA adapters, where they take part.
    loras: Option<u64>,
}

impl Key {
    /// The key of a step worth recording: few tokens, of which each is the only one of its sequence or has
    /// something to select, as in a draft that is tried.
    pub(crate) fn of(plan: &Plan, loras: u64) -> Option<Self> {
        let shape = plan.shape;
        let decode = shape.sequences == shape.tokens && shape.rows > 0;
        let worth = shape.tokens <= TOKENS && (decode || shape.rows == shape.tokens);
        worth.then(|| Self {
            shape,
            words: plan.words.len().max(WORDS).next_power_of_two(),
            loras: shape.loras_at.map(|_| loras),
        })
    }

    /// Words of the step buffer.
    pub(crate) fn words(&self) -> usize {
        self.words
    }
}

/// The recordings over one cache, the last used last.
#[derive(Debug)]
pub(crate) struct Recordings<T>(Vec<(Key, Arc<Recording<T>>)>);

impl<T> Default for Recordings<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Recordings<T> {
    /// The recording of a key, which counts as a use.
    pub(crate) fn get(&mut self, key: &Key) -> Option<Arc<Recording<T>>> {
        let at = self.0.iter().position(|(own, _)| own == key)?;
        let entry = self.0.remove(at);
        let recording = entry.1.clone();
        self.0.push(entry);
        Some(recording)
    }

    /// Lets go of recordings that LoRA adapters take part in, and with them what they hold of the adapters.
    pub(crate) fn forget_loras(&mut self) {
        self.0.retain(|(key, _)| key.loras.is_none());
    }

    /// Keeps a recording.
    pub(crate) fn keep(&mut self, key: Key, recording: Arc<Recording<T>>) {
        if self.0.len() >= KEPT {
            self.0.remove(0);
        }
        self.0.push((key, recording));
    }
}
