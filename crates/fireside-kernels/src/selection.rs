//! The result of a selection, as read back.

use crate::params::SELECT_HEAD;

/// What [`crate::ops::select`] found in one row of logits.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// The token with the largest logit, or with noise an exact sample.
    pub token: u32,
    /// The largest logit.
    pub max: f32,
    /// Log of the sum of exp of the logits.
    pub log_sum_exp: f32,
    /// The same of the logits over the temperature.
    pub tempered_log_sum_exp: f32,
    /// NaN logits; any means that the computation broke.
    pub broken: u32,
    /// The logit of the token that the row asked for; the lowest number where it asked for none.
    pub target_logit: f32,
    /// Candidates (id, logit), largest first; equal logits by id.
    pub candidates: Vec<(u32, f32)>,
}

impl Selection {
    /// Reads one row of [`crate::params::SelectParams::out_stride`] words.
    ///
    /// # Panics
    ///
    /// When the row is shorter than its head.
    pub fn from_words(row: &[u32]) -> Self {
        let (head, pairs) = row.split_at(SELECT_HEAD);
        Self {
            token: head[0],
            max: f32::from_bits(head[2]),
            log_sum_exp: f32::from_bits(head[3]),
            tempered_log_sum_exp: f32::from_bits(head[4]),
            broken: head[5],
            target_logit: f32::from_bits(head[6]),
            candidates: pairs
                .chunks_exact(2)
                .filter(|pair| pair[0] != u32::MAX)
                .map(|pair| (pair[0], f32::from_bits(pair[1])))
                .collect(),
        }
    }
}
