//! A prompt as the model sees it: the log-probability of each of its tokens after those before it.
//!
//! A position of the prompt is *scored* when its row of logits has said how probable the token after
//! it is. The device gives that token's logit, the row's log-sum-exp and the best candidates, so that
//! no row of logits is read back, however long the prompt and wherever the token ranks.

use fireside_model::step::{RowSelection, Selected};

use crate::TokenLogprob;
use crate::event::PromptToken;
use crate::filter::is_sound;

/// The scores of a prompt, as far as they are known.
#[derive(Debug)]
pub(crate) struct PromptScores {
    prompt: Vec<u32>,
    /// How many of the best tokens are wanted in each place.
    top: usize,
    scored: Vec<PromptToken>,
}

impl PromptScores {
    /// Nothing is known of a prompt, which is not empty, but that its first token follows nothing.
    pub(crate) fn new(prompt: &[u32], top: usize) -> Self {
        let first = prompt.first().map(|id| PromptToken {
            id: *id,
            logprob: None,
            top_logprobs: Vec::new(),
        });
        Self {
            prompt: prompt.to_vec(),
            top,
            scored: first.into_iter().collect(),
        }
    }

    /// What is wanted of the row at a position.
    pub(crate) fn row(&self, position: usize) -> RowSelection {
        RowSelection {
            target: self.prompt.get(position + 1).copied(),
            candidates: self.top,
            ..RowSelection::default()
        }
    }

    /// Takes the row of the next position.
    pub(crate) fn push(&mut self, selected: &Selected) {
        let Some(id) = self.prompt.get(self.scored.len()).copied() else {
            return;
        };
        let selection = &selected.selection;
        let sound = selection.candidates.iter().filter(|one| is_sound(one.1));
        let top_logprobs = sound
            .take(self.top)
            .map(|(token, logit)| TokenLogprob {
                token: *token,
                logprob: logit - selection.log_sum_exp,
            })
            .collect();
        self.scored.push(PromptToken {
            id,
            logprob: Some(selection.target_logit - selection.log_sum_exp),
            top_logprobs,
        });
    }

    /// Whether all tokens have their scores.
    pub(crate) fn is_complete(&self) -> bool {
        self.scored.len() >= self.prompt.len()
    }

    /// The tokens with their scores.
    pub(crate) fn into_tokens(self) -> Vec<PromptToken> {
        self.scored
    }
}
