//! Whole generations in one call.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::event::{Event, FinishReason, PromptToken, RequestStats};
use crate::{Engine, Error, Executor, Request, RequestId, TokenLogprob};

/// All of a sequence, once it has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The generated text.
    pub text: String,
    /// The generated tokens, one that ended the sequence included.
    pub token_ids: Vec<u32>,
    /// The log-probability of each token, where the request wants them.
    pub logprobs: Vec<f32>,
    /// The most probable tokens at each place, where the request wants them.
    pub top_logprobs: Vec<Vec<TokenLogprob>>,
    /// The tokens of the prompt with their log-probabilities, where the request wants them; of a
    /// request's sequences only the first one has them.
    pub prompt_logprobs: Vec<PromptToken>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The seed that it was sampled with.
    pub seed: u64,
    /// Counts and times.
    pub stats: RequestStats,
}

impl<E: Executor> Engine<E> {
    /// Runs requests to their ends and hands on each event with the position of its request.
    ///
    /// All are checked before the first one runs. When `on_event` breaks, or the future is dropped,
    /// what is left is cancelled.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] if other requests are under way, as their events would have no reader; the
    /// first error of a request that cannot run; [`Error::Executor`] if the executor fails.
    pub async fn run(
        &mut self,
        requests: &[Request],
        mut on_event: impl FnMut(usize, Event) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        if self.has_work() {
            return Err(Error::Busy {
                requests: self.under_way(),
            });
        }
        for request in requests {
            self.check(request)?;
        }
        let mut own = Own {
            engine: self,
            positions: BTreeMap::new(),
        };
        let mut next = 0;
        loop {
            while let Some(request) = requests.get(next) {
                match own.engine.submit(request) {
                    Ok(id) => own.positions.insert(id, next),
                    // It has to wait for those before it.
                    Err(Error::QueueFull { .. } | Error::TokenQueueFull { .. })
                        if own.engine.has_work() =>
                    {
                        break;
                    }
                    Err(error) => return Err(error),
                };
                next += 1;
            }
            if !own.engine.has_work() {
                return Ok(());
            }
            for event in own.engine.step().await? {
                if let Some(position) = own.positions.get(&event.request()).copied()
                    && on_event(position, event).is_break()
                {
                    return Ok(());
                }
            }
        }
    }

    /// Runs requests to their ends and gives, for each, its sequences.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run), and the error of the first sequence that fails.
    pub async fn generate(&mut self, requests: &[Request]) -> Result<Vec<Vec<Completion>>, Error> {
        let mut parts: BTreeMap<(usize, usize), Parts> = BTreeMap::new();
        let mut completions: BTreeMap<(usize, usize), Completion> = BTreeMap::new();
        let mut failure = None;
        self.run(requests, |position, event| {
            let place = (position, event.index());
            match event {
                Event::Prompt(prompt) => {
                    parts.entry(place).or_default().prompt_logprobs = prompt.tokens;
                }
                Event::Token(token) => {
                    let parts = parts.entry(place).or_default();
                    parts.text += &token.text;
                    parts.token_ids.push(token.id);
                    if let Some(logprob) = token.logprob {
                        parts.logprobs.push(logprob);
                        parts.top_logprobs.push(token.top_logprobs);
                    }
                }
                Event::Finished(finished) => {
                    let parts = parts.remove(&place).unwrap_or_default();
                    completions.insert(
                        place,
                        Completion {
                            text: parts.text,
                            token_ids: parts.token_ids,
                            logprobs: parts.logprobs,
                            top_logprobs: parts.top_logprobs,
                            prompt_logprobs: parts.prompt_logprobs,
                            finish_reason: finished.reason,
                            seed: finished.seed,
                            stats: finished.stats,
                        },
                    );
                }
                Event::Failed { error, .. } => {
                    failure = Some(error);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })
        .await?;
        if let Some(error) = failure {
            return Err(error);
        }
        let mut all: Vec<Vec<Completion>> = requests.iter().map(|_| Vec::new()).collect();
        for ((position, _), completion) in completions {
            if let Some(sequences) = all.get_mut(position) {
                sequences.push(completion);
            }
        }
        Ok(all)
    }
}

/// A completion that has not ended.
#[derive(Debug, Default)]
struct Parts {
    text: String,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    top_logprobs: Vec<Vec<TokenLogprob>>,
    prompt_logprobs: Vec<PromptToken>,
}

/// An engine with the requests of one run, which end with it.
struct Own<'a, E: Executor> {
    engine: &'a mut Engine<E>,
    positions: BTreeMap<RequestId, usize>,
}

impl<E: Executor> Drop for Own<'_, E> {
    fn drop(&mut self) {
        for id in self.positions.keys() {
            self.engine.cancel(*id);
        }
    }
}
