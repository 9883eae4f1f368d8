//! A decode step that is started before the one before it is read, over the tokens that it selects.

use std::sync::Arc;

use fireside_kernels::counters;
use fireside_kernels::record::{Fed, Recording, Running};

use crate::error::ModelError;
use crate::model::Launched;
use crate::plan::Plan;
use crate::recordings::Key;

/// A step on its way that nobody has asked for yet.
#[derive(Debug)]
pub(crate) struct Ahead {
    key: Key,
    /// Its step buffer, with the tokens once they are known.
    words: Vec<u32>,
    tokens_at: usize,
    known: bool,
    running: Running,
}

impl Ahead {
    /// Starts the step of `plan` over the tokens that the last run of its recording selects; `None` where they
    /// are not one of each of its rows.
    pub(crate) fn start(
        recording: &Arc<Recording<Launched>>,
        key: Key,
        plan: Plan,
    ) -> Result<Option<Self>, ModelError> {
        let shape = plan.shape;
        if shape.tokens != shape.rows || shape.sequences != shape.tokens {
            return Ok(None);
        }
        let fed = Fed {
            count: shape.rows,
            stride: recording.kept().stride,
            to: shape.tokens_at,
        };
        let running = recording.start(&plan.words, Some(fed))?;
        counters::uploaded(plan.words.len() * 4);
        Ok(Some(Self {
            key,
            words: plan.words,
            tokens_at: shape.tokens_at,
            known: false,
            running,
        }))
    }

    /// Tells which tokens it was fed.
    pub(crate) fn tell(&mut self, tokens: impl Iterator<Item = u32>) {
        for (word, token) in self.words[self.tokens_at..].iter_mut().zip(tokens) {
            *word = token;
        }
        self.known = true;
    }

    /// The run, if it is the one of this step.
    pub(crate) fn into_run_of(self, key: &Key, plan: &Plan) -> Option<Running> {
        let same = self.known && self.key == *key && self.words == plan.words;
        same.then(|| {
            counters::ahead();
            self.running
        })
    }
}
