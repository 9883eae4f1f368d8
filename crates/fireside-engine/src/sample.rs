//! The one definition of sampling.
//!
//! The next token is the one with the largest `logit / temperature + gumbel(seed, draw, token)`
//! among those that the filters keep: an exact sample of their softmax (the Gumbel-max trick), and a
//! function of the logits, the seed and the number of the draw alone. So it does not matter where
//! parts of it run. Three ways lead to the same token:
//!
//! - without filters, the device adds the noise and gives the token;
//! - with filters, the device gives some candidates and the log-sum-exp of the row; where these
//!   prove which tokens pass, the host draws among them;
//! - else the row is run again for all of its logits, and the host draws from them.

use std::borrow::Cow;

use fireside_model::step::{RowSelection, Selected};

use crate::filter::{Candidate, Filters, Ranking, is_sound, rank};

/// Temperatures below this are greedy: what is left of the noise would not change any token.
const LEAST_TEMPERATURE: f32 = 1e-6;

/// How many tokens of a whole row are ranked at first, where the candidates were too few.
const FIRST_RANKED: usize = 1024;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sampling {
    /// The largest logit.
    Greedy,
    /// A sample of all tokens.
    All { temperature: f32 },
    /// A sample of those that pass the filters.
    Filtered { temperature: f32, filters: Filters },
}

/// Which random numbers a token is drawn with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Draw {
    pub(crate) seed: u64,
    /// How many tokens the sequence had generated before.
    pub(crate) number: u32,
}

/// What is wanted of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Log-probabilities: of the token (0) and of this many best ones.
    pub(crate) logprobs: Option<usize>,
    /// Candidates to ask for where filters need them.
    pub(crate) candidates: usize,
    /// The whole row of logits, whether or not candidates might do.
    pub(crate) logits: bool,
}

/// A token with its log-probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// The token chosen from a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Choice {
    pub(crate) token: u32,
    /// Where log-probabilities are wanted.
    pub(crate) logprob: Option<f32>,
    /// The best tokens, as many as are wanted.
    pub(crate) top: Vec<TokenLogprob>,
    /// Whether candidates would have been enough, as far as was seen.
    pub(crate) candidates_suffice: bool,
}

/// What came of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Chosen(Choice),
    /// The candidates do not prove the result: the row's logits are needed.
    NeedsLogits,
    /// Every token is excluded.
    NoToken,
}

impl Sampling {
    /// Sampling at a temperature, in its simplest form.
    pub(crate) fn new(temperature: f32, filters: Filters) -> Self {
        if temperature < LEAST_TEMPERATURE || filters.top_k == 1 {
            Self::Greedy
        } else if filters.pass_all() {
            Self::All { temperature }
        } else {
            Self::Filtered {
                temperature,
                filters,
            }
        }
    }

    /// The filters, where candidates can never prove what they keep, given that many.
    pub(crate) fn beyond(&self, candidates: usize) -> bool {
        match self {
            Self::Filtered {
                filters:
                    Filters {
                        top_k,
                        top_p,
                        min_p,
                        typical_p,
                    },
                ..
            } => {
                *top_k > candidates
                    || (*typical_p < 1.0 && *top_k == 0 && *top_p >= 1.0 && *min_p <= 0.0)
            }
            Self::Greedy | Self::All { .. } => false,
        }
    }

    /// Whether the device chooses the token by itself.
    pub(crate) fn on_device(&self) -> bool {
        matches!(self, Self::Greedy | Self::All { .. })
    }

    /// What the device is to give of a row; the adjustments are left empty.
    pub(crate) fn row(&self, draw: Draw, wanted: Wanted) -> RowSelection {
        let listed = wanted.logprobs.unwrap_or(0);
        let logits = wanted.logits || self.beyond(wanted.candidates);
        match self {
            Self::Greedy => RowSelection {
                candidates: listed,
                ..RowSelection::default()
            },
            Self::All { temperature } => RowSelection {
                temperature: *temperature,
                noise: Some((draw.seed, draw.number)),
                // The token's own logit is to be found among them.
                candidates: match wanted.logprobs {
                    Some(listed) if !logits => listed.max(wanted.candidates),
                    _ => 0,
                },
                logits,
                ..RowSelection::default()
            },
            Self::Filtered {
                temperature,
                filters,
            } => RowSelection {
                temperature: *temperature,
                candidates: match (logits, filters.top_k) {
                    (true, _) => 0,
                    (false, 0) => listed.max(wanted.candidates),
                    (false, top_k) => listed.max(wanted.candidates.min(top_k)),
                },
                logits,
                ..RowSelection::default()
            },
        }
    }

    /// Chooses the token from what the device gave. `vocab` is the length of a row.
    pub(crate) fn choose(
        &self,
        selected: &Selected,
        draw: Draw,
        wanted: Wanted,
        vocab: usize,
    ) -> Outcome {
        let selection = &selected.selection;
        if selection.token == u32::MAX {
            return Outcome::NoToken;
        }
        let row = Row::new(selected, wanted, vocab);
        // With all logits at hand only a row without any token is left undecided.
        let undecided = match &selected.logits {
            Some(_) => Outcome::NoToken,
            None => Outcome::NeedsLogits,
        };
        let chosen = match self {
            Self::Greedy => {
                let best = (selection.token, Some(selection.max));
                Some((best, true))
            }
            Self::All { .. } => {
                let logit = row.logit(selection.token);
                let listed = row.list(wanted.candidates);
                let found = listed
                    .iter()
                    .any(|candidate| candidate.0 == selection.token);
                Some(((selection.token, logit), found || wanted.logprobs.is_none()))
            }
            Self::Filtered {
                temperature,
                filters,
            } => {
                let inverse_temperature = 1.0 / temperature;
                row.filter(filters, inverse_temperature, wanted.candidates)
                    .map(|(kept, few)| {
                        let (token, logit) = pick(&kept, inverse_temperature, draw);
                        ((token, Some(logit)), few)
                    })
            }
        };
        let Some(((token, logit), candidates_suffice)) = chosen else {
            return undecided;
        };
        let logprob = |logit: f32| logit - selection.log_sum_exp;
        let Some(listed) = wanted.logprobs else {
            return Outcome::Chosen(Choice {
                token,
                logprob: None,
                top: Vec::new(),
                candidates_suffice,
            });
        };
        let Some(logit) = logit else {
            return undecided;
        };
        let top = row
            .list(listed)
            .iter()
            .map(|(token, logit)| TokenLogprob {
                token: *token,
                logprob: logprob(*logit),
            })
            .collect();
        Outcome::Chosen(Choice {
            token,
            logprob: Some(logprob(logit)),
            top,
            candidates_suffice,
        })
    }
}

/// The token with the largest noisy logit; equal ones by the lower id. The tokens are not empty.
fn pick(kept: &[Candidate], inverse_temperature: f32, draw: Draw) -> Candidate {
    let mut best = (f32::NEG_INFINITY, (u32::MAX, f32::MIN));
    for candidate in kept {
        let noise = fireside_model::gumbel(draw.seed, draw.number, candidate.0);
        let key = candidate.1 * inverse_temperature + noise;
        if key > best.0 || (key == best.0 && candidate.0 < best.1.0) {
            best = (key, *candidate);
        }
    }
    best.1
}

/// What is known of a row.
struct Row<'a> {
    selected: &'a Selected,
    /// The front of the ranking, without excluded tokens.
    candidates: Cow<'a, [Candidate]>,
    /// Whether the candidates are all tokens that can be chosen.
    complete: bool,
}

impl<'a> Row<'a> {
    fn new(selected: &'a Selected, wanted: Wanted, vocab: usize) -> Self {
        if let Some(logits) = &selected.logits {
            let count = wanted.candidates.max(wanted.logprobs.unwrap_or(0));
            let candidates = rank(logits, count);
            let complete = candidates.len() < count;
            return Self {
                selected,
                candidates: Cow::Owned(candidates),
                complete,
            };
        }
        let given = &selected.selection.candidates[..];
        let sound = given
            .iter()
            .take_while(|candidate| is_sound(candidate.1))
            .count();
        Self {
            selected,
            candidates: Cow::Borrowed(&given[..sound]),
            complete: sound < given.len() || sound >= vocab,
        }
    }

    /// The first `count` candidates, or fewer.
    fn list(&self, count: usize) -> &[Candidate] {
        &self.candidates[..count.min(self.candidates.len())]
    }

    /// The logit of a token, if it is known.
    fn logit(&self, token: u32) -> Option<f32> {
        match &self.selected.logits {
            Some(logits) => logits.get(token as usize).copied(),
            None => self
                .candidates
                .iter()
                .find(|candidate| candidate.0 == token)
                .map(|candidate| candidate.1),
        }
    }

    /// The tokens that pass, and whether as many candidates as are usually asked for prove it.
    fn filter(
        &self,
        filters: &Filters,
        inverse_temperature: f32,
        usual: usize,
    ) -> Option<(Cow<'_, [Candidate]>, bool)> {
        let known = Ranking {
            candidates: &self.candidates,
            complete: self.complete,
            inverse_temperature,
            log_sum_exp: self.selected.selection.tempered_log_sum_exp,
        };
        if let Some(kept) = filters.keep(&known) {
            return Some((kept, true));
        }
        let logits = self.selected.logits.as_deref()?;
        let mut count = FIRST_RANKED.max(usual.saturating_mul(4));
        loop {
            let all = count >= logits.len();
            let candidates = rank(logits, count);
            let ranking = Ranking {
                candidates: &candidates,
                complete: all,
                ..known
            };
            if let Some(kept) = filters.keep(&ranking) {
                return Some((Cow::Owned(kept.into_owned()), false));
            }
            if all {
                return None;
            }
            count = count.saturating_mul(8);
        }
    }
}

#[cfg(test)]
mod tests;
