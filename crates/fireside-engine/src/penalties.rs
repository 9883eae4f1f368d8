//! Penalties and biases, as adjustments that the device makes to the logits.

use std::collections::BTreeMap;

use fireside_model::step::LogitAdjustment;

/// The addend that excludes a token: any logit plus it is the lowest finite number, which selection
/// passes over.
const BAN: f32 = f32::MIN;

/// How logits depend on the tokens so far.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Penalties {
    /// Over prompt and output, as transformers has it; 1 for none.
    pub(crate) repetition: f32,
    /// Per occurrence in the output, as OpenAI has it; 0 for none.
    pub(crate) frequency: f32,
    /// For any occurrence in the output, as OpenAI has it; 0 for none.
    pub(crate) presence: f32,
    /// Added to single tokens.
    pub(crate) bias: BTreeMap<u32, f32>,
}

/// Penalties with the tokens that they look at.
#[derive(Debug, Clone)]
pub(crate) struct PenaltyState {
    penalties: Penalties,
    /// How often the output has each token seen; 0 for those of the prompt only. Empty if no
    /// penalty looks at it.
    seen: BTreeMap<u32, u32>,
}

impl PenaltyState {
    pub(crate) fn new(penalties: Penalties, prompt: &[u32]) -> Self {
        let seen = if penalties.repetition == 1.0 {
            BTreeMap::new()
        } else {
            prompt.iter().map(|token| (*token, 0)).collect()
        };
        Self { penalties, seen }
    }

    /// Tokens that it may have adjustments for.
    pub(crate) fn len(&self) -> usize {
        self.seen.len() + self.penalties.bias.len()
    }

    /// Whether adjustments depend on the tokens of the output.
    pub(crate) fn follow_output(&self) -> bool {
        let Penalties {
            repetition,
            frequency,
            presence,
            ..
        } = self.penalties;
        repetition != 1.0 || frequency != 0.0 || presence != 0.0
    }

    /// Notes a token of the output.
    pub(crate) fn push(&mut self, token: u32) {
        if self.follow_output() {
            *self.seen.entry(token).or_default() += 1;
        }
    }

    /// The adjustments for the next token, by ascending token, with some tokens excluded.
    pub(crate) fn adjustments(&self, banned: &[u32]) -> Vec<LogitAdjustment> {
        let Penalties {
            repetition,
            frequency,
            presence,
            bias,
        } = &self.penalties;
        let mut entries: BTreeMap<u32, (f32, f32)> = self
            .seen
            .iter()
            .map(|(token, count)| {
                let presence = if *count > 0 { *presence } else { 0.0 };
                (
                    *token,
                    (*repetition, -(*count as f32 * frequency) - presence),
                )
            })
            .collect();
        for (token, bias) in bias {
            entries.entry(*token).or_insert((1.0, 0.0)).1 += bias;
        }
        for token in banned {
            entries.entry(*token).or_insert((1.0, 0.0)).1 = BAN;
        }
        entries
            .into_iter()
            .filter(|(_, entry)| *entry != (1.0, 0.0))
            .map(|(token, (repetition, add))| LogitAdjustment {
                token,
                repetition,
                add,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Penalties = Penalties {
        repetition: 1.0,
        frequency: 0.0,
        presence: 0.0,
        bias: BTreeMap::new(),
    };

    #[test]
    fn repetition_counts_the_prompt_but_frequency_and_presence_do_not() {
        let penalties = Penalties {
            repetition: 1.5,
            frequency: 0.25,
            presence: 1.0,
            ..NONE
        };
        let mut state = PenaltyState::new(penalties, &[4, 9, 4]);
        state.push(2);
        state.push(2);
        state.push(9);
        let expected = [
            LogitAdjustment {
                token: 2,
                repetition: 1.5,
                add: -1.5,
            },
            LogitAdjustment {
                token: 4,
                repetition: 1.5,
                add: 0.0,
            },
            LogitAdjustment {
                token: 9,
                repetition: 1.5,
                add: -1.25,
            },
        ];
        assert_eq!(state.adjustments(&[]), expected);
    }

    #[test]
    fn nothing_is_adjusted_and_nothing_remembered_without_penalties() {
        let mut state = PenaltyState::new(NONE, &[1, 2, 3]);
        state.push(5);
        assert_eq!(state.adjustments(&[]), []);
        assert!(state.seen.is_empty());
    }

    #[test]
    fn a_token_stands_once_and_a_ban_outweighs_its_bias() {
        let penalties = Penalties {
            presence: 1.0,
            bias: [(3, 50.0), (1, 2.0)].into(),
            ..NONE
        };
        let mut state = PenaltyState::new(penalties, &[]);
        state.push(1);
        let adjusted = state.adjustments(&[3, 7]);
        let tokens: Vec<u32> = adjusted.iter().map(|entry| entry.token).collect();
        assert_eq!(tokens, [1, 3, 7]);
        assert_eq!(adjusted[0].add, 1.0);
        for entry in &adjusted[1..] {
            for logit in [-1e4f32, 0.0, 1e4] {
                assert_eq!(logit + entry.add, f32::MIN);
            }
        }
    }
}
