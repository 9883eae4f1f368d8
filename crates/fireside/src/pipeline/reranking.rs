//! A model that scores how well texts answer a query.

use fireside_engine::{RankParams, RankTexts, Ranked, Ranker};
use fireside_model::device::ComputeDevice;

use crate::Error;

/// The task `text-ranking`: a cross-encoder and its tokenizer on a device.
#[derive(Debug)]
pub struct Reranking {
    ranker: Ranker,
}

impl Reranking {
    pub(crate) fn new(ranker: Ranker) -> Self {
        Self { ranker }
    }

    /// The device it runs on.
    pub fn device(&self) -> &ComputeDevice {
        self.ranker.model().device()
    }

    /// What is known of its texts: tokenizer, activation, limits.
    pub fn texts(&self) -> &RankTexts {
        self.ranker.texts()
    }

    /// The ranker, for an owner that batches by itself.
    pub fn into_ranker(self) -> Ranker {
        self.ranker
    }

    /// The scores of all texts for a query, the best first; of equal ones the one that stood first.
    ///
    /// # Errors
    ///
    /// A query or text that is too long, a failing device.
    pub async fn rank<T: AsRef<str>>(
        &mut self,
        query: &str,
        texts: &[T],
        params: RankParams,
    ) -> Result<Vec<Ranked>, Error> {
        Ok(self.ranker.rank(query, texts, params).await?)
    }
}
