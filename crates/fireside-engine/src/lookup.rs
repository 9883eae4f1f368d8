//! Prompt lookup: what followed the last tokens where they stood before is likely to follow them again.
//!
//! A draft is run in the same step as the token before it, a row for each, and taken as far as the rows choose
//! what was drafted. Every row chooses as it would alone (a token depends on the logits, the seed and the number of
//! its draw), so what is generated does not change, only how many steps it takes.

/// Tokens whose earlier place is looked for: so many at first, then fewer, down to `SHORTEST`.
const LONGEST: usize = 4;
const SHORTEST: usize = 2;
/// Most steps without a draft after one that failed.
const MOST_PAUSE: u32 = 32;

/// Whether drafts of a sequence have been worth their cost.
#[derive(Debug, Default)]
pub(crate) struct Drafting {
    /// Steps until the next draft.
    pause: u32,
    /// How many steps to pause after a draft of which nothing is taken.
    next_pause: u32,
}

impl Drafting {
    /// What may follow `tokens`, up to `most` tokens; nothing while drafts pause.
    pub(crate) fn draft(&mut self, tokens: &[u32], most: usize) -> Vec<u32> {
        if self.pause > 0 {
            self.pause -= 1;
            return Vec::new();
        }
        // What followed so short before the end goes round.
        look_up(tokens).iter().copied().cycle().take(most).collect()
    }

    /// Notes how many tokens of a draft were taken.
    pub(crate) fn note(&mut self, taken: usize) {
        if taken > 0 {
            self.next_pause = 0;
        } else {
            // Where nothing repeats, a draft is tried less and less often.
            self.next_pause = (self.next_pause * 2).clamp(1, MOST_PAUSE);
            self.pause = self.next_pause;
        }
    }
}

/// What followed the longest end of `tokens` at its last earlier place; nothing where there is none.
fn look_up(tokens: &[u32]) -> &[u32] {
    for length in (SHORTEST..=LONGEST).rev() {
        let Some(from) = tokens.len().checked_sub(length) else {
            continue;
        };
        let end = &tokens[from..];
        // One that overlaps the end may repeat it.
        let earlier = tokens[..tokens.len() - 1].windows(length);
        if let Some(at) = earlier.rev().position(|window| window == end) {
            return &tokens[tokens.len() - 1 - at..];
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_what_followed_the_longest_end_at_its_last_place() {
        for (tokens, draft) in [
            (&[][..], &[][..]),
            (&[1, 2, 3, 4], &[]),
            // A single token is too little.
            (&[1, 2, 3, 1], &[]),
            (&[1, 2, 3, 4, 1, 2], &[3, 4, 1, 2]),
            (&[1, 2, 3, 9, 1, 2, 4, 9, 1, 2], &[4, 9, 1, 2]),
            // Three tokens say more than two.
            (
                &[7, 1, 2, 3, 9, 1, 2, 4, 7, 1, 2],
                &[3, 9, 1, 2, 4, 7, 1, 2],
            ),
            (&[5, 5, 5], &[5]),
            (&[6, 5, 5, 5, 5], &[5]),
        ] {
            assert_eq!(look_up(tokens), draft, "{tokens:?}");
        }
    }

    #[test]
    fn drafts_that_fail_come_less_often_until_one_is_taken() {
        let mut drafting = Drafting::default();
        let tokens = [1, 2, 3, 1, 2];
        let mut tries = Vec::new();
        for step in 0..40 {
            if !drafting.draft(&tokens, 8).is_empty() {
                tries.push(step);
                drafting.note(0);
            }
        }
        assert_eq!(tries, [0, 2, 5, 10, 19, 36]);
        drafting.note(1);
        while drafting.draft(&tokens, 8).is_empty() {}
        drafting.note(2);
        assert_eq!(drafting.draft(&tokens, 2), [3, 1]);
    }
}
