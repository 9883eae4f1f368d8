//! Reranking: how well texts answer a query, by a model that reads both at once.
//!
//! A pair of query and text is one sequence, and its score comes of its first token's hidden state. So the
//! [`Embedder`] runs it as any text; what is here is the host's side before and after.

use std::sync::Arc;

use fireside_model::embedding::Pooling;
use fireside_model::ranking::ScoreActivation;
use fireside_model::{Embedding, Model, ModelError, RankingHead};
use fireside_tokenizer::{PairPart, Tokenizer};

use crate::embed::{EmbedLimits, EmbedTokens, Embedder};
use crate::error::Error;

/// Most pairs of which the tokens are held at once, where nobody else batches.
const PAIRS: usize = 256;

/// What is asked of scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RankParams {
    /// Cut pairs that are too long instead of refusing them: the longer of query and text first.
    pub truncate: bool,
    /// Give logits (true) or probabilities (false); what the model's files say by default.
    pub raw_scores: Option<bool>,
}

/// The score of a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// Its place in the list of texts.
    pub index: usize,
    /// The higher, the better it answers the query.
    pub score: f32,
}

/// A query, ready to be paired with texts.
#[derive(Debug, Clone)]
pub struct RankQuery(PairPart);

/// Tokens of pairs and scores of hidden states, for a [`Ranker`]'s model; a clone is cheap.
#[derive(Debug, Clone)]
pub struct RankTexts {
    tokenizer: Tokenizer,
    head: Arc<RankingHead>,
    limits: EmbedLimits,
}

impl RankTexts {
    /// The sizes; a pair of texts counts as one text.
    pub fn limits(&self) -> EmbedLimits {
        self.limits
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// What the model makes of a logit where a request does not say.
    pub fn activation(&self) -> ScoreActivation {
        self.head.ranking.activation
    }

    /// Prepares a query.
    ///
    /// # Errors
    ///
    /// Text that cannot be encoded, or is too long without any text beside it and is not to be cut.
    pub fn query(&self, query: &str, params: RankParams) -> Result<RankQuery, Error> {
        let mut part = self.tokenizer.encode_part(query)?;
        let most = self.limits.max_tokens;
        if params.truncate {
            part.truncate(most);
        } else {
            self.fits(part.len())?;
        }
        Ok(RankQuery(part))
    }

    /// The tokens of a query with a text.
    ///
    /// # Errors
    ///
    /// Text that cannot be encoded, or makes the pair too long and is not to be cut.
    pub fn pair(
        &self,
        query: &RankQuery,
        text: &str,
        params: RankParams,
    ) -> Result<EmbedTokens, Error> {
        let mut part = self.tokenizer.encode_part(text)?;
        let most = self.limits.max_tokens;
        if params.truncate {
            part.truncate(most);
        } else {
            self.fits(query.0.len() + part.len())?;
        }
        let pair = self.tokenizer.join(&query.0, part, most)?;
        Ok(EmbedTokens {
            ids: pair.ids,
            types: pair.types,
        })
    }

    /// Sees whether so many tokens and those around them are not too many.
    fn fits(&self, tokens: usize) -> Result<(), Error> {
        let (tokens, most) = (
            tokens + self.tokenizer.pair_overhead(),
            self.limits.max_tokens,
        );
        if tokens <= most {
            return Ok(());
        }
        Err(Error::PromptTooLong {
            prompt: tokens,
            context: most,
        })
    }

    /// The logits of pairs, from the hidden states of their first tokens.
    ///
    /// # Errors
    ///
    /// A logit that is no number.
    pub fn logits(&self, states: &[Vec<f32>]) -> Result<Vec<f32>, Error> {
        let sound = |logit: f32| match logit.is_finite() {
            true => Ok(logit),
            false => Err(Error::BrokenStates),
        };
        let logits = states.iter().map(|state| sound(self.head.logit(state)));
        logits.collect()
    }

    /// The scores of texts, from their logits: the best first, and of equal ones the one that stood first.
    pub fn ranked(&self, logits: &[f32], params: RankParams) -> Vec<Ranked> {
        let activation = match params.raw_scores {
            None => self.activation(),
            Some(true) => ScoreActivation::Identity,
            Some(false) => ScoreActivation::Sigmoid,
        };
        // Large logits have the same probability, and still an order.
        let mut places: Vec<usize> = (0..logits.len()).collect();
        places.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let ranked = places.into_iter().map(|index| Ranked {
            index,
            score: activation.score(logits[index]),
        });
        ranked.collect()
    }
}

/// Scores texts against queries.
#[derive(Debug)]
pub struct Ranker {
    embedder: Embedder,
    texts: RankTexts,
}

impl Ranker {
    /// A ranker over a model with its tokenizer and head; `context` bounds the tokens of a pair further.
    ///
    /// # Errors
    ///
    /// The cache does not fit the device.
    pub fn new(
        model: Model,
        tokenizer: Tokenizer,
        head: RankingHead,
        context: Option<usize>,
    ) -> Result<Self, ModelError> {
        let embedding = Embedding {
            pooling: Pooling::Cls,
            normalize: false,
            max_tokens: head.ranking.max_tokens,
            ..Embedding::of_encoder()
        };
        let least = tokenizer.pair_overhead() + 2;
        let embedder = Embedder::new(model, tokenizer.clone(), embedding, context)?;
        let most = embedder.texts().limits().max_tokens;
        if most < least {
            return Err(ModelError::Contradiction {
                what: format!(
                    "a pair may have {most} tokens and needs at least {least}; choose a larger context"
                ),
            });
        }
        let texts = RankTexts {
            tokenizer,
            head: Arc::new(head),
            limits: embedder.texts().limits(),
        };
        Ok(Self { embedder, texts })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        self.embedder.model()
    }

    /// The host's side of it.
    pub fn texts(&self) -> &RankTexts {
        &self.texts
    }

    /// What runs pairs, and what makes scores of what it gives, for an owner that batches by itself.
    pub fn into_parts(self) -> (Embedder, RankTexts) {
        (self.embedder, self.texts)
    }

    /// The scores of all texts, the best first.
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
        let query = self.texts.query(query, params)?;
        let mut logits = Vec::with_capacity(texts.len());
        for texts in texts.chunks(PAIRS) {
            let pair = |text: &T| self.texts.pair(&query, text.as_ref(), params);
            let pairs: Vec<EmbedTokens> = texts.iter().map(pair).collect::<Result<_, _>>()?;
            let pairs: Vec<&EmbedTokens> = pairs.iter().collect();
            let states = self.embedder.embed(&pairs).await?;
            let states: Vec<_> = states.into_iter().collect::<Result<_, _>>()?;
            logits.extend(self.texts.logits(&states)?);
        }
        Ok(self.texts.ranked(&logits, params))
    }
}
