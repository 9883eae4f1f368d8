//! Counts of tests, read from the summary lines that test binaries print.

use std::fmt;
use std::ops::AddAssign;

/// How many tests ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// They hold.
    pub(crate) passed: u64,
    /// They do not.
    pub(crate) failed: u64,
    /// They could not run, or were told not to.
    pub(crate) skipped: u64,
}

impl Counts {
    /// One check that holds.
    pub(crate) const PASSED: Self = Self {
        passed: 1,
        failed: 0,
        skipped: 0,
    };
    /// One check that does not.
    pub(crate) const FAILED: Self = Self {
        passed: 0,
        failed: 1,
        skipped: 0,
    };
    /// One check that could not run.
    pub(crate) const SKIPPED: Self = Self {
        passed: 0,
        failed: 0,
        skipped: 1,
    };

    /// The sum over all `test result:` lines of a log.
    pub(crate) fn of_log(log: &str) -> Self {
        let mut sum = Self::default();
        for line in log.lines() {
            if let Some(counts) = summary(line) {
                sum += counts;
            }
        }
        sum
    }

    /// Moves tests that said they could not run from the passed to the skipped ones: the test
    /// harness has no third way for them to end.
    pub(crate) fn with_skips(mut self, skips: u64) -> Self {
        let moved = skips.min(self.passed);
        self.passed -= moved;
        self.skipped += moved;
        self
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn summary(line: &str) -> Option<Counts> {
    let (_, rest) = line
        .trim_start()
        .strip_prefix("test result: ")?
        .split_once(". ")?;
    let mut counts = Counts::default();
    let mut known = 0;
    for field in rest.split("; ") {
        let mut words = field.split_whitespace();
        let number = words.next().and_then(|word| word.parse().ok());
        let (Some(number), Some(kind)) = (number, words.next()) else {
            continue;
        };
        match kind {
            "passed" => counts.passed = number,
            "failed" => counts.failed = number,
            "ignored" => counts.skipped = number,
            _ => continue,
        }
        known += 1;
    }
    (known == 3).then_some(counts)
}

/// The names of the tests that failed, in the order of the log.
pub(crate) fn failures(log: &str) -> Vec<String> {
    log.lines()
        .filter_map(|line| {
            let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
            Some(name.to_owned())
        })
        .collect()
}

/// The tests that could not run with their reasons, in the order of the log.
pub(crate) fn ignored(log: &str) -> Vec<(&str, &str)> {
    log.lines()
        .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... ignored, "))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
running 2 tests
test a::holds ... ok
test a::breaks ... FAILED

failures:
    a::breaks

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.01s

   Doc-tests thing
test result: ok. 7 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 1.20s
all doctests ran in 0.43s; merged doctests compilation took 0.33s
";

    #[test]
    fn all_summaries_of_a_log_are_added() {
        let counts = Counts::of_log(LOG);
        assert_eq!(counts.to_string(), "8 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn other_lines_are_no_summaries() {
        for line in [
            "",
            "test result: ok",
            "test result: ok. many passed; 0 failed; 0 ignored",
            "test test_result ... ok",
            "println: test result: ok. 3 passed; 0 failed; 0 ignored",
            "test result: ok. 99999999999999999999999 passed; 0 failed; 0 ignored",
        ] {
            assert_eq!(summary(line), None, "{line}");
        }
    }

    #[test]
    fn failed_tests_are_named() {
        assert_eq!(failures(LOG), ["a::breaks"]);
    }

    #[test]
    fn ignored_tests_are_told_with_their_reasons() {
        let log = "test a ... ok\ntest b::c ... ignored, no node; run: x\ntest d ... ignored\n";
        assert_eq!(ignored(log), [("b::c", "no node; run: x")]);
    }

    #[test]
    fn a_recorded_skip_is_no_pass() {
        let counts = Counts::of_log(LOG).with_skips(3);
        assert_eq!(counts.to_string(), "5 passed, 1 failed, 5 skipped");
        assert_eq!(Counts::PASSED.with_skips(9), Counts::SKIPPED);
    }
}
