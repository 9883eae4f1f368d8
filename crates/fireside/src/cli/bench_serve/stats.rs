//! Percentiles of measured times.

use std::time::Duration;

use serde_json::{Value, json};

/// How measured times are spread, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) mean: f64,
    pub(super) median: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
}

impl Spread {
    /// None where nothing was measured.
    pub(super) fn of(times: impl Iterator<Item = Duration>) -> Option<Self> {
        let mut seconds: Vec<f64> = times.map(|time| time.as_secs_f64()).collect();
        seconds.sort_by(f64::total_cmp);
        Some(Self {
            mean: seconds.iter().sum::<f64>() / seconds.len() as f64,
            median: percentile(&seconds, 50.0)?,
            p90: percentile(&seconds, 90.0)?,
            p99: percentile(&seconds, 99.0)?,
        })
    }

    pub(super) fn json(self) -> Value {
        json!({ "mean": self.mean, "median": self.median, "p90": self.p90, "p99": self.p99 })
    }
}

/// A percentile of sorted values, between the two nearest ranks in proportion.
fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let rank = percent / 100.0 * last as f64;
    let below = sorted.get(rank.floor() as usize)?;
    let above = sorted.get(rank.ceil() as usize)?;
    Some(below + (above - below) * rank.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_the_nearest_ranks() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        let at = |percent| percentile(&values, percent).unwrap();
        assert_eq!(at(0.0), 1.0);
        assert_eq!(at(50.0), 50.5);
        assert!((at(90.0) - 90.1).abs() < 1e-9);
        assert!((at(99.0) - 99.01).abs() < 1e-9);
        assert_eq!(at(100.0), 100.0);
    }

    #[test]
    fn one_value_is_every_percentile_and_none_has_no_spread() {
        let spread = Spread::of([Duration::from_millis(250)].into_iter()).unwrap();
        assert_eq!(spread.mean, 0.25);
        assert_eq!([spread.median, spread.p90, spread.p99], [0.25; 3]);
        assert_eq!(Spread::of(std::iter::empty()), None);
    }

    #[test]
    fn the_order_of_times_does_not_matter() {
        let times = [3, 1, 2].map(Duration::from_secs);
        let spread = Spread::of(times.into_iter()).unwrap();
        assert_eq!(spread.median, 2.0);
        assert_eq!(spread.mean, 2.0);
    }
}
