//! One sequence as its reader sees it: sampling state, text and end.

use std::borrow::Cow;

use fireside_model::step::{RowSelection, Selected};
use fireside_tokenizer::{DetokenizeStream, StopStrings, Tokenizer};
use web_time::Instant;

use crate::defaults::Resolved;
use crate::event::{FinishReason, Prompt, RequestStats};
use crate::penalties::PenaltyState;
use crate::sample::{Choice, Draw, Outcome, Sampling, Wanted};
use crate::score::PromptScores;
use crate::{Error, Request, RequestId};

/// Most adjustments of a draft's rows.
const DRAFT_ADJUSTMENTS: usize = 4096;

/// The state of a generation besides its tokens.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) request: RequestId,
    pub(crate) index: usize,
    pub(crate) seed: u64,
    sampling: Sampling,
    penalties: PenaltyState,
    wanted: Wanted,
    /// The scores of the prompt until they are told, where they are wanted.
    scores: Option<PromptScores>,
    ends: Ends,
    text: DetokenizeStream,
    stop: StopStrings,
    skip_special_tokens: bool,
    /// Tokens generated so far.
    pub(crate) generated: usize,
    times: Times,
    fallbacks: u64,
    preemptions: u64,
    pub(crate) prompt_tokens: usize,
    /// Prompt tokens that were cached; known once the sequence began.
    cached_tokens: Option<usize>,
}

/// When a generation ends.
#[derive(Debug)]
struct Ends {
    /// The model's tokens; empty if they are to be ignored.
    eos: Vec<u32>,
    /// The request's tokens.
    stop_tokens: Vec<u32>,
    least: usize,
    most: usize,
    /// Both kinds of tokens, until there are enough others.
    banned: Vec<u32>,
}

/// Moments in the life of a sequence.
#[derive(Debug)]
struct Times {
    arrived: Instant,
    started: Option<Instant>,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// What a token changed.
#[derive(Debug, PartialEq)]
pub(crate) struct Accepted {
    pub(crate) text: String,
    pub(crate) finish: Option<FinishReason>,
}

/// The parts of a generation that the engine decides.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) id: RequestId,
    pub(crate) index: usize,
    pub(crate) seed: u64,
    /// Most tokens to generate, given the room in the context.
    pub(crate) most: usize,
    /// The model's end-of-sequence tokens.
    pub(crate) eos: &'a [u32],
    /// Candidates to ask for where filters need them.
    pub(crate) candidates: usize,
    pub(crate) arrived: Instant,
}

impl Generation {
    pub(crate) fn new(
        start: &Start<'_>,
        request: &Request,
        resolved: &Resolved,
        tokenizer: &Tokenizer,
    ) -> Result<Self, Error> {
        let eos = if resolved.ignore_eos {
            Vec::new()
        } else {
            start.eos.to_vec()
        };
        let stop_tokens = resolved.stop_token_ids.clone();
        let mut banned = Vec::new();
        if resolved.min_new_tokens > 0 {
            banned.extend(eos.iter().chain(&stop_tokens));
        }
        Ok(Self {
            request: start.id,
            index: start.index,
            seed: spread(start.seed, start.index),
            sampling: resolved.sampling,
            penalties: PenaltyState::new(resolved.penalties.clone(), &request.prompt),
            wanted: Wanted {
                logprobs: resolved.logprobs,
                candidates: start.candidates,
                logits: false,
            },
            // The sequences of a request have one prompt.
            scores: resolved
                .prompt_logprobs
                .filter(|_| start.index == 0)
                .map(|top| PromptScores::new(&request.prompt, top)),
            ends: Ends {
                eos,
                stop_tokens,
                least: resolved.min_new_tokens,
                most: start.most,
                banned,
            },
            text: tokenizer
                .stream(request.skip_special_tokens)
                .after(&request.prompt),
            stop: StopStrings::new(&resolved.stop)?,
            skip_special_tokens: request.skip_special_tokens,
            generated: 0,
            times: Times {
                arrived: start.arrived,
                started: None,
                first: None,
                last: None,
            },
            fallbacks: 0,
            preemptions: 0,
            prompt_tokens: request.prompt.len(),
            cached_tokens: None,
        })
    }

    /// What is to be selected for the next token, and for those after each token of a draft.
    pub(crate) fn rows(&self, draft: &[u32]) -> Vec<RowSelection> {
        let mut penalties = Cow::Borrowed(&self.penalties);
        let mut rows = Vec::with_capacity(draft.len() + 1);
        for ahead in 0..=draft.len() {
            if let Some(token) = ahead.checked_sub(1).and_then(|last| draft.get(last)) {
                penalties.to_mut().push(*token);
            }
            rows.push(self.row(ahead, &penalties, self.wanted));
        }
        rows
    }

    /// What is to be selected for the token that comes after so many others.
    fn row(&self, ahead: usize, penalties: &PenaltyState, wanted: Wanted) -> RowSelection {
        let banned = if self.generated + ahead < self.ends.least {
            &self.ends.banned[..]
        } else {
            &[]
        };
        RowSelection {
            adjustments: penalties.adjustments(banned),
            ..self.sampling.row(self.draw(ahead), wanted)
        }
    }

    /// What is to be selected after the next token, if that is known before the token is: the device chooses
    /// it, and there is to be one after it.
    pub(crate) fn row_after_next(&self) -> Option<RowSelection> {
        self.row_unseen(1, self.wanted)
    }

    /// What is to be selected for the token that comes after so many others, if that does not depend on them.
    fn row_unseen(&self, ahead: usize, wanted: Wanted) -> Option<RowSelection> {
        let known = self.sampling.on_device()
            && !wanted.logits
            && !self.penalties.follow_output()
            && self.generated + ahead < self.ends.most;
        known.then(|| self.row(ahead, &self.penalties, wanted))
    }

    /// What a guess at the token after such others takes: as [`rows`](Self::rows), but that nobody reads it.
    pub(crate) fn guessing_row(&self, after: &[u32]) -> RowSelection {
        let mut penalties = Cow::Borrowed(&self.penalties);
        for token in after {
            penalties.to_mut().push(*token);
        }
        self.row(after.len(), &penalties, self.guessing())
    }

    /// The same after so many other guesses, if it does not depend on them.
    pub(crate) fn guessing_row_unseen(&self, ahead: usize) -> Option<RowSelection> {
        self.row_unseen(ahead, self.guessing())
    }

    /// A guess at the token after such others, chosen as the token will be; none where the candidates do not say
    /// which tokens the filters keep.
    pub(crate) fn guess(&self, after: &[u32], selected: &Selected, vocab: usize) -> Option<u32> {
        let draw = self.draw(after.len());
        match self.sampling.choose(selected, draw, self.guessing(), vocab) {
            Outcome::Chosen(choice) => Some(choice.token),
            Outcome::NeedsLogits | Outcome::NoToken => None,
        }
    }

    /// What is wanted of a guess.
    fn guessing(&self) -> Wanted {
        Wanted {
            logprobs: None,
            logits: false,
            ..self.wanted
        }
    }

    /// Whether a token ends the sequence.
    pub(crate) fn ends_with(&self, token: u32) -> bool {
        self.ends.eos.contains(&token) || self.ends.stop_tokens.contains(&token)
    }

    /// How many tokens a draft may have, `most` at most: as many as may still come after the next one.
    pub(crate) fn longest_draft(&self, most: usize) -> usize {
        // Whole rows of logits are too much for what may be thrown away, and so are long lists of penalties.
        if self.wanted.logits || self.sampling.beyond(self.wanted.candidates) {
            return 0;
        }
        let rows = DRAFT_ADJUSTMENTS / self.penalties.len().max(1);
        let left = self.left().saturating_sub(1);
        most.min(left).min(rows.saturating_sub(1))
    }

    /// How many tokens may still come.
    pub(crate) fn left(&self) -> usize {
        self.ends.most.saturating_sub(self.generated)
    }

    /// How many positions of the prompt are to be scored.
    pub(crate) fn positions_to_score(&self) -> usize {
        self.scores
            .as_ref()
            .map_or(0, |_| self.prompt_tokens.saturating_sub(1))
    }

    /// What is wanted of a position of the prompt that is to be scored.
    pub(crate) fn scoring_row(&self, position: usize) -> RowSelection {
        self.scores
            .as_ref()
            .map(|scores| scores.row(position))
            .unwrap_or_default()
    }

    /// Takes the row of the next position that is to be scored.
    pub(crate) fn score(&mut self, selected: &Selected) {
        if let Some(scores) = &mut self.scores {
            scores.push(selected);
        }
    }

    /// The scores of the prompt, once, when all are known.
    pub(crate) fn take_scores(&mut self) -> Option<Prompt> {
        let scores = self.scores.take_if(|scores| scores.is_complete())?;
        Some(Prompt {
            request: self.request,
            tokens: scores.into_tokens(),
        })
    }

    /// Whether any token is to be generated.
    pub(crate) fn generates(&self) -> bool {
        self.ends.most > 0
    }

    /// Chooses the next token.
    pub(crate) fn choose(&mut self, selected: &Selected, vocab: usize) -> Outcome {
        let outcome = self
            .sampling
            .choose(selected, self.draw(0), self.wanted, vocab);
        match &outcome {
            Outcome::NeedsLogits => {
                self.fallbacks += 1;
                // A device that gives fewer candidates than asked for will do so again.
                let given = selected.selection.candidates.len();
                self.wanted.candidates = self.wanted.candidates.min(given);
                self.wanted.logits = true;
            }
            // Where one row needed its logits the next one likely does: they are asked for at once
            // until candidates would have been enough. The token is the same either way.
            Outcome::Chosen(choice) => self.wanted.logits &= !choice.candidates_suffice,
            Outcome::NoToken => {}
        }
        outcome
    }

    /// Takes the chosen token.
    pub(crate) fn accept(&mut self, choice: &Choice) -> Accepted {
        let token = choice.token;
        self.generated += 1;
        self.penalties.push(token);
        let moment = Instant::now();
        self.times.first.get_or_insert(moment);
        self.times.last = Some(moment);

        let is_eos = self.ends.eos.contains(&token);
        let mut finish = if is_eos {
            Some(FinishReason::Eos)
        } else if self.ends.stop_tokens.contains(&token) {
            Some(FinishReason::StopToken(token))
        } else if self.generated >= self.ends.most {
            Some(FinishReason::Length)
        } else {
            None
        };

        let mut piece = String::new();
        // Not every vocabulary marks its end-of-sequence tokens as special.
        if !(is_eos && self.skip_special_tokens) {
            piece.extend(self.text.push(token));
        }
        if finish.is_some() {
            piece.extend(self.text.finish());
        }
        if self.generated <= self.ends.least {
            return Accepted {
                text: piece,
                finish,
            };
        }
        let scanned = self.stop.push(&piece);
        let mut text = scanned.text;
        if let Some(found) = scanned.matched {
            finish = Some(FinishReason::StopString(found.index));
        } else if finish.is_some() {
            text += &self.stop.finish();
        }
        Accepted { text, finish }
    }

    /// Notes that the sequence is part of a step.
    pub(crate) fn started(&mut self, moment: Instant) {
        self.times.started.get_or_insert(moment);
    }

    /// Notes that the sequence begins and how much of its front was cached. Only the first time says
    /// something of the prompt: later it may be the sequence's own. True the first time.
    pub(crate) fn begun(&mut self, cached: usize) -> bool {
        let first = self.cached_tokens.is_none();
        self.cached_tokens.get_or_insert(cached);
        first
    }

    /// Notes that the sequence lost its cache.
    pub(crate) fn preempted(&mut self) {
        self.preemptions += 1;
    }

    /// Counts and times until `now`.
    pub(crate) fn stats(&self, now: Instant) -> RequestStats {
        let Times {
            arrived,
            started,
            first,
            last,
        } = self.times;
        let span = |from: Option<Instant>, to: Option<Instant>| {
            from.zip(to)
                .map(|(from, to)| to.duration_since(from))
                .unwrap_or_default()
        };
        RequestStats {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens.unwrap_or_default(),
            generated_tokens: self.generated,
            queued: started.unwrap_or(now).duration_since(arrived),
            time_to_first_token: first.map(|first| first.duration_since(arrived)),
            prefill: span(started, first.or(Some(now))),
            decode: span(first, last),
            fallbacks: self.fallbacks,
            preemptions: self.preemptions,
        }
    }

    /// The draw of the token that comes after so many others.
    fn draw(&self, ahead: usize) -> Draw {
        // Wraps after four thousand million tokens of one sequence.
        Draw {
            seed: self.seed,
            number: (self.generated + ahead) as u32,
        }
    }
}

/// The seed of one of several sequences: the first one has the request's own.
fn spread(seed: u64, index: usize) -> u64 {
    if index == 0 {
        seed
    } else {
        mix(seed ^ mix(index as u64))
    }
}

/// A bijection that makes similar numbers dissimilar (the finalizer of SplitMix64).
pub(crate) fn mix(value: u64) -> u64 {
    let mut value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
