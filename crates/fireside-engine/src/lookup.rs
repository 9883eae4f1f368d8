//! Prompt lookup: what followed the last tokens where they stood before is likely to follow them again.
//!
//! A draft is run in the same step as the token before it, a row for each, and taken as far as the rows choose
//! what was drafted. Every row chooses as it would alone (a token depends on the logits, the seed and the number of
//! its draw), so what is generated does not change, only how many steps it takes.

/// Fewest tokens whose earlier place says anything.
const SHORTEST: usize = 2;
/// Tokens after which a longer match says no more.
const LONGEST: usize = 64;
/// Most steps without a draft after one that failed.
const MOST_PAUSE: u32 = 32;

/// Tokens of a sequence's first draft, and of each after one that failed.
const FIRST: usize = 3;
/// How far back an earlier place is looked for.
const BACK: usize = 8192;

/// Whether drafts of a sequence have been worth their cost.
#[derive(Debug)]
pub(crate) struct Drafting {
    /// Tokens of the next draft: 3, 7, 15 and so on, so that steps have few sizes, powers of two.
    reach: usize,
    /// Steps until the next draft.
    pause: u32,
    /// How many steps to pause after a draft of which nothing is taken.
    next_pause: u32,
}

impl Default for Drafting {
    fn default() -> Self {
        Self {
            reach: FIRST,
            pause: 0,
            next_pause: 0,
        }
    }
}

impl Drafting {
    /// What may follow `tokens`, up to `most` tokens; nothing while drafts pause.
    pub(crate) fn draft(&mut self, tokens: &[u32], most: usize) -> Vec<u32> {
        if self.pause > 0 {
            self.pause -= 1;
            return Vec::new();
        }
        let near = &tokens[tokens.len().saturating_sub(BACK)..];
        let most = most.min(self.reach);
        // What followed so short before the end goes round.
        look_up(near).iter().copied().cycle().take(most).collect()
    }

    /// Notes how many tokens of a draft were taken, of how many.
    pub(crate) fn note(&mut self, taken: usize, of: usize) {
        if taken == of {
            self.reach = 2 * of + 1;
        } else if 2 * taken < of {
            self.reach = (of / 2).max(FIRST);
        }
        if taken > 0 {
            self.next_pause = 0;
        } else {
            // Where nothing repeats, a draft is tried less and less often.
            self.next_pause = (self.next_pause * 2).clamp(1, MOST_PAUSE);
            self.pause = self.next_pause;
        }
    }
}

/// What followed the longest end of `tokens` that stood before, at its last earlier place; nothing where there is
/// none. The longest tells which of many alike places a copy has come to.
fn look_up(tokens: &[u32]) -> &[u32] {
    let Some((last, before)) = tokens.split_last() else {
        return &[];
    };
    let mut best = (SHORTEST - 1, tokens.len());
    for (at, token) in before.iter().enumerate().rev() {
        if token != last {
            continue;
        }
        let pairs = before[..at].iter().rev().zip(before.iter().rev());
        let more = pairs.take(LONGEST).take_while(|(own, end)| own == end);
        let length = 1 + more.count();
        if length > best.0 {
            best = (length, at + 1);
        }
    }
    &tokens[best.1..]
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
                drafting.note(0, 3);
            }
        }
        assert_eq!(tries, [0, 2, 5, 10, 19, 36]);
        drafting.note(1, 3);
        while drafting.draft(&tokens, 8).is_empty() {}
        drafting.note(2, 3);
        assert_eq!(drafting.draft(&tokens, 2), [3, 1]);
    }

    #[test]
    fn drafts_grow_while_they_are_taken_and_shrink_where_less_than_half_is() {
        let mut drafting = Drafting::default();
        let tokens = [1, 2, 3, 1, 2];
        let mut lengths = Vec::new();
        for share in [3, 7, 15, 20, 9, 1, 0] {
            let length = drafting.draft(&tokens, 20).len();
            lengths.push(length);
            drafting.note(share.min(length), length);
        }
        assert_eq!(lengths, [3, 7, 15, 20, 20, 10, 5]);
        assert!(drafting.draft(&tokens, 20).is_empty());
        assert_eq!(drafting.draft(&tokens, 20).len(), 3);
    }
}
