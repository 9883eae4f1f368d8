//! How fast sequences come to their ends, to tell clients when to come again.

use std::time::Duration;

/// Seconds of work after which what was seen counts for a third.
const MEMORY: f64 = 30.0;
/// Most seconds that a client is told to wait.
const LONGEST: f64 = 60.0;

/// The time that the engine worked of late, and the sequences that came to their ends in it. Time
/// without work counts nowhere, so a rest does not look like a slow engine.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Pace {
    seconds: f64,
    ended: f64,
}

impl Pace {
    /// A step took so long, and so many sequences ended in it.
    pub(crate) fn step(&mut self, took: Duration, ended: usize) {
        let took = took.as_secs_f64();
        let kept = (-took / MEMORY).exp();
        self.seconds = self.seconds * kept + took;
        self.ended = self.ended * kept + ended as f64;
    }

    /// Whole seconds until so many sequences have ended at this pace, from 1 to 60. Where none has
    /// ended yet, each takes at least as long as the engine has worked.
    pub(crate) fn lasts(&self, waiting: usize) -> u64 {
        let each = self.seconds / self.ended.max(1.0);
        // Within its bounds it is a small whole number.
        (each * waiting as f64).ceil().clamp(1.0, LONGEST) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    #[test]
    fn a_queue_lasts_as_long_as_its_sequences_take_at_the_present_pace() {
        let mut pace = Pace::default();
        // One sequence a second.
        for step in 0..1000 {
            pace.step(STEP, usize::from(step % 10 == 9));
        }
        assert_eq!(pace.lasts(0), 1);
        assert_eq!(pace.lasts(1), 1);
        assert!((10..=11).contains(&pace.lasts(10)), "{}", pace.lasts(10));
        assert_eq!(pace.lasts(1000), 60);
        // Twenty a second, which counts more the longer it goes on.
        for _ in 0..3000 {
            pace.step(STEP, 2);
        }
        assert!((5..=6).contains(&pace.lasts(100)), "{}", pace.lasts(100));
    }

    #[test]
    fn without_an_end_so_far_it_is_guessed_from_the_work_so_far() {
        let mut pace = Pace::default();
        assert_eq!(pace.lasts(1000), 1);
        for _ in 0..20 {
            pace.step(STEP, 0);
        }
        assert!((3..=4).contains(&pace.lasts(2)), "{}", pace.lasts(2));
    }

    #[test]
    fn the_wait_is_bounded_whatever_happened() {
        let mut pace = Pace::default();
        pace.step(Duration::MAX, 0);
        assert_eq!(pace.lasts(usize::MAX), 60);
        assert_eq!(pace.lasts(0), 1);
        pace.step(Duration::ZERO, usize::MAX);
        assert_eq!(pace.lasts(1), 1);
    }
}
