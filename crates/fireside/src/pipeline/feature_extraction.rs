//! A model that makes embeddings.

use fireside_engine::{EmbedParams, EmbedTexts, EmbedTokens, Embedder};
use fireside_model::device::ComputeDevice;

use crate::Error;

/// The task `feature-extraction`: an encoder, or a decoder made for it, and its tokenizer on a device.
#[derive(Debug)]
pub struct FeatureExtraction {
    embedder: Embedder,
}

/// The embedding of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// Its values.
    pub embedding: Vec<f32>,
    /// Tokens that were run for it, special ones included.
    pub tokens: usize,
}

/// The hidden states of a text, one after the last layer for each token.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// The tokens, special ones included.
    pub token_ids: Vec<u32>,
    /// For each token as many values as the model is wide.
    pub states: Vec<Vec<f32>>,
}

impl FeatureExtraction {
    pub(crate) fn new(embedder: Embedder) -> Self {
        Self { embedder }
    }

    /// The device it runs on.
    pub fn device(&self) -> &ComputeDevice {
        self.embedder.model().device()
    }

    /// What is known of its texts: tokenizer, pooling, prompts, limits.
    pub fn texts(&self) -> &EmbedTexts {
        self.embedder.texts()
    }

    /// The embedder, for an owner that batches by itself.
    pub fn into_embedder(self) -> Embedder {
        self.embedder
    }

    /// The embeddings of texts, in their order, as many in a step as fit.
    ///
    /// # Errors
    ///
    /// Dimensions or a prompt that the model does not have, a text that is empty or too long, a failing device.
    pub async fn embed<T: AsRef<str>>(
        &mut self,
        texts: impl IntoIterator<Item = T>,
        params: &EmbedParams,
    ) -> Result<Vec<Embedded>, Error> {
        let tokens = self.tokens(texts, params)?;
        let refs: Vec<&EmbedTokens> = tokens.iter().collect();
        let pooled = self.embedder.embed(&refs).await?;
        let embedded = pooled.into_iter().zip(&tokens).map(|(pooled, tokens)| {
            Ok(Embedded {
                embedding: self.texts().vector(pooled?, params)?,
                tokens: tokens.len(),
            })
        });
        embedded.collect()
    }

    /// The hidden states of every token of texts, in their order.
    ///
    /// # Errors
    ///
    /// As for [`embed`](Self::embed).
    pub async fn features<T: AsRef<str>>(
        &mut self,
        texts: impl IntoIterator<Item = T>,
        params: &EmbedParams,
    ) -> Result<Vec<Features>, Error> {
        let tokens = self.tokens(texts, params)?;
        let refs: Vec<&EmbedTokens> = tokens.iter().collect();
        let states = self.embedder.states(&refs).await?;
        let features = tokens.into_iter().zip(states);
        Ok(features
            .map(|(tokens, states)| Features {
                token_ids: tokens.ids,
                states,
            })
            .collect())
    }

    fn tokens<T: AsRef<str>>(
        &self,
        texts: impl IntoIterator<Item = T>,
        params: &EmbedParams,
    ) -> Result<Vec<EmbedTokens>, Error> {
        let tokens = |text: T| Ok(self.texts().tokens(text.as_ref(), params)?);
        texts.into_iter().map(tokens).collect()
    }
}
