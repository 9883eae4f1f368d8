//! The filters that say which tokens sampling may choose.
//!
//! They run in the order of transformers: `top_k`, `top_p`, `min_p`, `typical_p`, each on what the
//! one before it left, with the probabilities made to sum up to one again. All but the last keep the
//! front of the ranking by logit, so a few candidates and the log-sum-exp of the row prove most
//! results without the row.

use std::borrow::Cow;
use std::cmp::Ordering;

/// A token and its logit.
pub(crate) type Candidate = (u32, f32);

/// Which filters apply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Filters {
    /// Most tokens; 0 for all. Among equal logits the lower ids are kept.
    pub(crate) top_k: usize,
    /// Probability to cover; 1 for all.
    pub(crate) top_p: f32,
    /// Least probability relative to the best token; 0 for all.
    pub(crate) min_p: f32,
    /// Probability to cover in the order of typicality; 1 for all.
    pub(crate) typical_p: f32,
}

/// The front of a row's ranking, after temperature.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ranking<'a> {
    /// The best tokens, largest logit first, equal ones by id.
    pub(crate) candidates: &'a [Candidate],
    /// Whether these are all tokens that have a probability.
    pub(crate) complete: bool,
    /// 1 over the temperature.
    pub(crate) inverse_temperature: f32,
    /// Log-sum-exp over the temperature of the whole row.
    pub(crate) log_sum_exp: f32,
}

impl Ranking<'_> {
    /// Log-weight of a candidate relative to the best one.
    fn weight(&self, at: usize) -> f64 {
        let top = self.candidates[0].1;
        f64::from((self.candidates[at].1 - top) * self.inverse_temperature)
    }

    /// The sum of exp of the weights of the first `count`.
    fn sum(&self, count: usize) -> f64 {
        (0..count).map(|at| self.weight(at).exp()).sum()
    }
}

impl Filters {
    /// Whether every token passes.
    pub(crate) fn pass_all(&self) -> bool {
        self.top_k == 0 && self.top_p >= 1.0 && self.min_p <= 0.0 && self.typical_p >= 1.0
    }

    /// The tokens that pass; at least one. `None` where the candidates do not prove which they are.
    pub(crate) fn keep<'a>(&self, ranking: &Ranking<'a>) -> Option<Cow<'a, [Candidate]>> {
        let candidates = ranking.candidates;
        let top = candidates.first()?.1;
        // How many are left, whether these are surely all, and the sum of their exp.
        let mut kept = candidates.len();
        let mut proven = ranking.complete;
        let scaled_top = f64::from(top * ranking.inverse_temperature);
        let mut sum = Some((f64::from(ranking.log_sum_exp) - scaled_top).exp());

        if self.top_k > 0 {
            if self.top_k <= kept {
                kept = self.top_k;
                proven = true;
                sum = Some(ranking.sum(kept));
            } else if !proven {
                sum = None;
            }
        }
        if self.top_p < 1.0 {
            let goal = f64::from(self.top_p) * sum?;
            let mut before = 0.0;
            let covering = (0..kept).find(|&at| {
                before += ranking.weight(at).exp();
                before >= goal
            });
            if let Some(last) = covering {
                kept = last + 1;
                proven = true;
            }
            // Otherwise all of them pass: a tail beyond them, or rounding, holds what is missing.
        }
        if self.min_p > 0.0 {
            let least = f64::from(self.min_p).ln();
            if let Some(first) = (0..kept).find(|&at| ranking.weight(at) < least) {
                // A tail beyond the candidates is less probable still.
                proven = true;
                kept = first;
            }
        }
        if !proven {
            return None;
        }
        if self.typical_p < 1.0 {
            return Some(Cow::Owned(self.typical(ranking, kept)));
        }
        Some(Cow::Borrowed(&candidates[..kept]))
    }

    /// The most typical of the first `count`, up to the probability to cover.
    fn typical(&self, ranking: &Ranking<'_>, count: usize) -> Vec<Candidate> {
        let log_sum = ranking.sum(count).ln();
        let surprise: Vec<f64> = (0..count).map(|at| log_sum - ranking.weight(at)).collect();
        let entropy: f64 = surprise
            .iter()
            .map(|surprise| surprise * (-surprise).exp())
            .sum();
        let mut order: Vec<(f64, usize)> = surprise
            .iter()
            .enumerate()
            .map(|(at, surprise)| ((surprise - entropy).abs(), at))
            .collect();
        order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut before = 0.0;
        let last = order.iter().position(|(_, at)| {
            before += (-surprise[*at]).exp();
            before >= f64::from(self.typical_p)
        });
        // Those as typical as the last one are kept too.
        let bound = last.map_or(f64::INFINITY, |last| order[last].0);
        let mut kept: Vec<usize> = order
            .iter()
            .take_while(|(distance, _)| *distance <= bound)
            .map(|(_, at)| *at)
            .collect();
        kept.sort_unstable();
        kept.into_iter().map(|at| ranking.candidates[at]).collect()
    }
}

/// The largest finite logits of a row, ranked: `count` of them, or all if there are fewer.
pub(crate) fn rank(logits: &[f32], count: usize) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = (0..)
        .zip(logits.iter().copied())
        .filter(|(_, logit)| is_sound(*logit))
        .collect();
    let order = |a: &Candidate, b: &Candidate| {
        b.1.partial_cmp(&a.1)
            .unwrap_or(Ordering::Equal)
            .then(a.0.cmp(&b.0))
    };
    if count < all.len() {
        if count > 0 {
            all.select_nth_unstable_by(count - 1, order);
        }
        all.truncate(count);
    }
    all.sort_unstable_by(order);
    all
}

/// Whether a token with this logit can be chosen at all: it is a number and not excluded.
pub(crate) fn is_sound(logit: f32) -> bool {
    logit > f32::MIN
}

#[cfg(test)]
mod tests;
