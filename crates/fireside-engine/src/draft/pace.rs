//! How long drafts of a sequence are, and how often they are tried: as long and as often as they were worth their
//! cost so far.

/// Most steps without a draft after one that failed.
const MOST_PAUSE: u32 = 32;

/// Whether drafts of one source have been worth their cost for a sequence.
#[derive(Debug)]
pub(super) struct Pace {
    /// Tokens of the next draft: 3, 7, 15 and so on, so that steps have few sizes, powers of two.
    reach: usize,
    /// Fewest tokens of a draft after others that failed.
    least: usize,
    /// How many drafts in a row may fail before there is a pause.
    patience: u32,
    /// How many have failed in a row.
    failed: u32,
    /// Steps until the next draft.
    pause: u32,
    /// How many steps the next pause has.
    next_pause: u32,
}

impl Pace {
    /// Drafts begin with three tokens.
    const FIRST: usize = 3;

    /// The pace of drafts that cost nothing to make: where one fails, the next one is as likely to.
    pub(super) fn of_lookup() -> Self {
        Self::new(Self::FIRST, 1)
    }

    /// The pace of drafts that take a step of a model for each token: short ones where it is often wrong. It
    /// guesses anew each time, so that a few failures say little.
    pub(super) fn of_model() -> Self {
        Self::new(1, 3)
    }

    fn new(least: usize, patience: u32) -> Self {
        Self {
            reach: Self::FIRST,
            least,
            patience,
            failed: 0,
            pause: 0,
            next_pause: 0,
        }
    }

    /// Tokens of the draft for this step, at most `most`; 0 in a pause, which it brings closer to its end.
    pub(super) fn next(&mut self, most: usize) -> usize {
        if self.pause > 0 {
            self.pause -= 1;
            return 0;
        }
        most.min(self.reach)
    }

    /// Notes how many tokens of a draft were taken, of how many.
    pub(super) fn note(&mut self, taken: usize, of: usize) {
        if taken == of {
            self.reach = 2 * of + 1;
        } else if 2 * taken < of {
            self.reach = (of / 2).max(self.least);
        }
        if taken > 0 {
            self.failed = 0;
            self.next_pause = 0;
            return;
        }
        self.failed += 1;
        if self.failed >= self.patience {
            // Where nothing comes true, a draft is tried less and less often.
            self.next_pause = (self.next_pause * 2).clamp(1, MOST_PAUSE);
            self.pause = self.next_pause;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps, of 40, in which a source drafts that is never right.
    fn tries(mut pace: Pace) -> Vec<usize> {
        let draft = |step: &usize| {
            let length = pace.next(8);
            if length > 0 {
                pace.note(0, length);
            }
            *step < 40 && length > 0
        };
        (0..40).filter(draft).collect()
    }

    #[test]
    fn drafts_that_fail_come_less_often_until_one_is_taken() {
        assert_eq!(tries(Pace::of_lookup()), [0, 2, 5, 10, 19, 36]);
        assert_eq!(tries(Pace::of_model()), [0, 1, 2, 4, 7, 12, 21, 38]);
        let mut pace = Pace::of_lookup();
        for _ in 0..3 {
            pace.note(0, 3);
        }
        pace.note(1, 3);
        while pace.next(8) == 0 {}
        pace.note(0, 3);
        assert_eq!((pace.next(8), pace.next(8)), (0, 3));
    }

    #[test]
    fn drafts_grow_while_they_are_taken_and_shrink_where_less_than_half_is() {
        let lengths = |mut pace: Pace| -> Vec<usize> {
            [3, 7, 15, 20, 9, 1, 1, 1]
                .map(|share| {
                    let length = pace.next(20);
                    pace.note(share.min(length), length);
                    length
                })
                .into()
        };
        assert_eq!(lengths(Pace::of_lookup()), [3, 7, 15, 20, 20, 10, 5, 3]);
        assert_eq!(lengths(Pace::of_model()), [3, 7, 15, 20, 20, 10, 5, 2]);
    }
}
