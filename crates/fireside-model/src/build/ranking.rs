//! The part of the builder for the head of a cross-encoder.

use super::Builder;
use crate::error::ModelError;
use crate::family::Part;
use crate::pack::expect;
use crate::ranking::{Dense, Ranking, RankingHead};

impl Builder<'_> {
    pub(crate) fn ranking(&self, ranking: Ranking) -> Result<RankingHead, ModelError> {
        let hidden = self.config.hidden;
        Ok(RankingHead {
            ranking,
            pooler: self.dense(Part::Pooler, hidden)?,
            classifier: self.dense(Part::Classifier, 1)?,
        })
    }

    /// A matrix with `rows` rows, and its biases.
    fn dense(&self, part: Part, rows: usize) -> Result<Dense, ModelError> {
        let read = |kind: &str, shape: &[usize]| {
            let name = self.name(part, 0, kind);
            expect(self.source.get(&name)?, shape)?;
            Ok::<_, ModelError>(self.source.read_f32(&name)?)
        };
        Ok(Dense {
            weight: read("weight", &[rows, self.config.hidden])?,
            bias: read("bias", &[rows])?,
        })
    }
}
