//! How long drafts of a sequence are, and how often they are tried: as they were worth their cost so far.
//!
//! Drafts have 1, 3, 7, 15 tokens and so on, so that steps have few sizes, powers of two: on a software adapter five
//! tokens cost half as much again as four.

/// Most steps without a draft after one that failed.
const MOST_PAUSE: u32 = 32;

/// Steps without drafts: more and more of them where drafts are of no use.
#[derive(Debug, Default)]
struct Pauses {
    /// Steps until the next draft.
    left: u32,
    /// How many steps the last pause had.
    last: u32,
}

impl Pauses {
    /// Whether this step is one without a draft.
    fn pass(&mut self) -> bool {
        let pauses = self.left > 0;
        self.left = self.left.saturating_sub(1);
        pauses
    }

    /// Begins a pause, twice as long as the last one.
    fn begin(&mut self) {
        self.last = (self.last * 2).clamp(1, MOST_PAUSE);
        self.left = self.last;
    }

    /// Has the next pause be a short one.
    fn reset(&mut self) {
        self.last = 0;
    }
}

/// The pace of drafts that cost nothing to make, but their part of a step.
#[derive(Debug)]
pub(super) struct LookupPace {
    /// Tokens of the next draft.
    reach: usize,
    pauses: Pauses,
}

impl LookupPace {
    /// Tokens of a sequence's first draft, and of each after one that failed.
    const FIRST: usize = 3;

    /// Tokens of the draft for this step, at most `most`; 0 in a pause, which it brings closer to its end.
    pub(super) fn next(&mut self, most: usize) -> usize {
        if self.pauses.pass() {
            return 0;
        }
        most.min(self.reach)
    }

    /// Notes how many tokens of a draft were taken, of how many.
    pub(super) fn note(&mut self, taken: usize, of: usize) {
        if taken == of {
            self.reach = 2 * of + 1;
        } else if 2 * taken < of {
            self.reach = (of / 2).max(Self::FIRST);
        }
        if taken > 0 {
            self.pauses.reset();
        } else {
            // Where nothing repeats, a draft is tried less and less often.
            self.pauses.begin();
        }
    }
}

impl Default for LookupPace {
    fn default() -> Self {
        Self {
            reach: Self::FIRST,
            pauses: Pauses::default(),
        }
    }
}

/// The pace of drafts that take a step of a model for each token: as many as are likely to be right together.
#[derive(Debug)]
pub(super) struct GuessPace {
    /// The share of late guesses that were right, of those that what came before let be right.
    right: f32,
    pauses: Pauses,
}

impl GuessPace {
    /// What is thought of a model before it has guessed.
    const FIRST: f32 = 0.75;
    /// How much of what is thought stays after a guess.
    const KEPT: f32 = 0.9;
    /// A draft is as long as all of it is right with this chance.
    const CHANCE: f32 = 0.3;
    /// With fewer right guesses drafts cost more than they save, where a step costs more with each token.
    const LEAST: f32 = 0.3;
    /// Most tokens of a draft.
    const MOST: usize = 63;

    /// Tokens of the draft for this step, at most `most`; 0 in a pause, which it brings closer to its end.
    pub(super) fn next(&mut self, most: usize) -> usize {
        if self.pauses.pass() {
            return 0;
        }
        let mut length = 1;
        while length < Self::MOST && self.right.powi(2 * length as i32 + 1) >= Self::CHANCE {
            length = 2 * length + 1;
        }
        most.min(length)
    }

    /// Notes how many tokens of a draft were taken, of how many.
    pub(super) fn note(&mut self, taken: usize, of: usize) {
        // Those after a wrong one say nothing.
        let told = taken + usize::from(taken < of);
        for at in 0..told {
            let right = if at < taken { 1.0 } else { 0.0 };
            self.right = Self::KEPT * self.right + (1.0 - Self::KEPT) * right;
        }
        if taken > 0 || self.right >= Self::LEAST {
            self.pauses.reset();
        }
        if self.right < Self::LEAST {
            self.pauses.begin();
        }
    }
}

impl Default for GuessPace {
    fn default() -> Self {
        Self {
            right: Self::FIRST,
            pauses: Pauses::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_that_fail_come_less_often_until_one_is_taken() {
        let mut pace = LookupPace::default();
        let mut tries = Vec::new();
        for step in 0..40 {
            if pace.next(8) > 0 {
                tries.push(step);
                pace.note(0, 3);
            }
        }
        assert_eq!(tries, [0, 2, 5, 10, 19, 36]);
        pace.note(1, 3);
        while pace.next(8) == 0 {}
        pace.note(0, 3);
        assert_eq!((pace.next(8), pace.next(8)), (0, 3));
    }

    #[test]
    fn drafts_grow_while_they_are_taken_and_shrink_where_less_than_half_is() {
        let mut pace = LookupPace::default();
        let mut lengths = Vec::new();
        for share in [3, 7, 15, 20, 9, 1, 0] {
            let length = pace.next(20);
            lengths.push(length);
            pace.note(share.min(length), length);
        }
        assert_eq!(lengths, [3, 7, 15, 20, 20, 10, 5]);
        assert_eq!((pace.next(20), pace.next(20)), (0, 3));
    }

    #[test]
    fn guesses_come_by_as_many_as_are_likely_right_together() {
        let lengths = |shares: &[usize]| {
            let mut pace = GuessPace::default();
            let mut length = |share: &usize| {
                let length = pace.next(20);
                pace.note((*share).min(length), length);
                length
            };
            shares.iter().map(&mut length).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&[20; 6]), [3, 3, 7, 15, 20, 20]);
        assert_eq!(lengths(&[1, 1, 1, 1, 1]), [3, 3, 1, 3, 1]);
        // Nobody asks a model for long that is never right.
        let mut pace = GuessPace::default();
        let mut tries = Vec::new();
        for step in 0..50 {
            let length = pace.next(20);
            if length > 0 {
                tries.push((step, length));
                pace.note(0, length);
            }
        }
        assert_eq!(tries[..2], [(0, 3), (1, 3)]);
        assert!(tries[2..].iter().all(|(_, length)| *length == 1));
        let steps: Vec<i32> = tries.iter().map(|(step, _)| *step).collect();
        assert_eq!(steps, [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 44]);
    }
}
