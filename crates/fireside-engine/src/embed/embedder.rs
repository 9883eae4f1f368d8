//! The device's side of embeddings: many texts in a step.
//!
//! A text has one pass through the model and no second one, so there is nothing to schedule but how many
//! go into a step: as many as its tokens and the cache's blocks allow. Only a text longer than a step
//! takes several, which a decoder can run and an encoder cannot.

use fireside_model::embedding::mean;
use fireside_model::step::{Chunk, RowSelection, Step};
use fireside_model::{BLOCK, DecoderConfig, Embedding, KvCache, KvDtype, Model, ModelError};
use fireside_tokenizer::Tokenizer;

use super::{EmbedTexts, EmbedTokens};
use crate::Error;
use crate::blocks::blocks_for;
use crate::model_executor::executor_error;

/// Most tokens of a step, where a text alone does not need more.
const STEP_TOKENS: usize = 512;

/// Most tokens of a text where the model has room for more: what attention may cost.
const MAX_TOKENS: usize = 8192;

/// Most bytes of the KV cache, which bounds the tokens of a text too.
const CACHE_BYTES: u64 = 1 << 30;

/// Blocks of a step of short texts, which take one each.
const STEP_BLOCKS: usize = 64;

/// The fixed sizes of an embedder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbedLimits {
    /// Every token id is below it.
    pub vocab: usize,
    /// Most tokens of a text, special ones included.
    pub max_tokens: usize,
    /// Most tokens of a step.
    pub step_tokens: usize,
    /// Values of an embedding.
    pub dimensions: usize,
}

/// Makes embeddings of texts.
#[derive(Debug)]
pub struct Embedder {
    model: Model,
    cache: KvCache,
    texts: EmbedTexts,
}

impl Embedder {
    /// The element type of an embedder's cache. Where texts are short an encoder's cache is small, and nothing
    /// is saved by halving it.
    pub fn kv_dtype(config: &DecoderConfig) -> KvDtype {
        if config.family.encoder {
            KvDtype::F32
        } else {
            KvDtype::F16
        }
    }

    /// An embedder over a model with its tokenizer; `context` bounds the tokens of a text further.
    ///
    /// # Errors
    ///
    /// The cache does not fit the device.
    pub fn new(
        model: Model,
        tokenizer: Tokenizer,
        embedding: Embedding,
        context: Option<usize>,
    ) -> Result<Self, ModelError> {
        let config = model.config();
        let encoder = config.family.encoder;
        let kv = Self::kv_dtype(config);
        let fitting = CACHE_BYTES / KvCache::block_bytes(config, kv).max(1);
        let fitting = usize::try_from(fitting).unwrap_or(usize::MAX).max(1);
        let most = MAX_TOKENS.min(fitting.saturating_mul(BLOCK));
        let asked = [embedding.max_tokens, context].into_iter().flatten();
        let max_tokens = asked.fold(config.context.min(most), usize::min).max(1);
        let step_tokens = if encoder {
            STEP_TOKENS.max(max_tokens)
        } else {
            STEP_TOKENS
        };
        // A step of single tokens would want a block for each; it gets fewer texts instead.
        let blocks = blocks_for(max_tokens).max(STEP_BLOCKS.min(fitting));
        let cache = model.cache(blocks, kv)?;
        let limits = EmbedLimits {
            vocab: config.vocab,
            max_tokens,
            step_tokens,
            dimensions: config.hidden,
        };
        Ok(Self {
            model,
            cache,
            texts: EmbedTexts::new(tokenizer, embedding, limits),
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Bytes of the KV cache.
    pub fn cache_bytes(&self) -> u64 {
        KvCache::block_bytes(self.model.config(), self.cache.dtype()) * self.cache.blocks() as u64
    }

    /// The host's side of it.
    pub fn texts(&self) -> &EmbedTexts {
        &self.texts
    }

    /// Sees whether a text can be run.
    ///
    /// # Errors
    ///
    /// It has no tokens, too many, or one that the model does not have.
    pub fn check(&self, text: &EmbedTokens) -> Result<(), Error> {
        let EmbedLimits {
            vocab, max_tokens, ..
        } = self.texts.limits();
        if text.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if text.len() > max_tokens {
            return Err(Error::PromptTooLong {
                prompt: text.len(),
                context: max_tokens,
            });
        }
        match text.ids.iter().position(|token| *token as usize >= vocab) {
            None => Ok(()),
            Some(position) => Err(Error::PromptToken {
                position,
                token: text.ids[position],
                vocab,
            }),
        }
    }

    /// How many of the first texts, given by their lengths, the next step takes; at least one.
    pub fn fill(&self, lengths: impl IntoIterator<Item = usize>) -> usize {
        fill(
            lengths,
            self.texts.limits().step_tokens,
            self.cache.blocks(),
        )
    }

    /// The pooled hidden states of texts, in their order; an error for a text whose states are no numbers.
    ///
    /// # Errors
    ///
    /// A text that [`check`](Self::check) refuses, before anything runs; a failing device.
    pub async fn embed(
        &mut self,
        texts: &[&EmbedTokens],
    ) -> Result<Vec<Result<Vec<f32>, Error>>, Error> {
        let pooling = self.texts.embedding().pooling;
        let states = self.run(texts, |length| pooling.rows(length)).await?;
        let pool = |rows| Ok(mean(sound(rows)?.iter().map(Vec::as_slice)));
        Ok(states.into_iter().map(pool).collect())
    }

    /// The hidden states of every token of texts, in their order.
    ///
    /// # Errors
    ///
    /// As for [`embed`](Self::embed), and states that are no numbers.
    pub async fn states(&mut self, texts: &[&EmbedTokens]) -> Result<Vec<Vec<Vec<f32>>>, Error> {
        let states = self.run(texts, |length| 0..length).await?;
        states.into_iter().map(sound).collect()
    }

    /// The hidden states of the wanted tokens of each text.
    async fn run(
        &mut self,
        texts: &[&EmbedTokens],
        wanted: impl Fn(usize) -> std::ops::Range<usize>,
    ) -> Result<Vec<Vec<Vec<f32>>>, Error> {
        for text in texts {
            self.check(text)?;
        }
        let mut all = Vec::with_capacity(texts.len());
        let mut left = texts;
        while !left.is_empty() {
            let count = self.fill(left.iter().map(|text| text.len()));
            let (now, later) = left.split_at(count);
            left = later;
            if let [text] = now {
                all.push(self.alone(text, wanted(text.len())).await?);
                continue;
            }
            let mut next = 0;
            let mut step = Step::default();
            for text in now {
                let blocks = blocks_for(text.len()) as u32;
                let wanted = wanted(text.len());
                let all = 0..text.len();
                step.chunks
                    .push(chunk(text, all, next..next + blocks, wanted));
                next += blocks;
            }
            let mut rows = self.step(&step).await?.into_iter();
            for text in now {
                all.push(rows.by_ref().take(wanted(text.len()).len()).collect());
            }
        }
        Ok(all)
    }

    /// The hidden states of a text that has its steps to itself.
    async fn alone(
        &mut self,
        text: &EmbedTokens,
        wanted: std::ops::Range<usize>,
    ) -> Result<Vec<Vec<f32>>, Error> {
        let mut rows = Vec::new();
        let most = self.texts.limits().step_tokens;
        for start in (0..text.len()).step_by(most) {
            let end = text.len().min(start + most);
            let own = wanted.start.clamp(start, end)..wanted.end.clamp(start, end);
            let blocks = 0..blocks_for(end) as u32;
            let own = own.start - start..own.end - start;
            let step = Step {
                chunks: vec![chunk(text, start..end, blocks, own)],
                next: None,
            };
            rows.extend(self.step(&step).await?);
        }
        Ok(rows)
    }

    async fn step(&mut self, step: &Step) -> Result<Vec<Vec<f32>>, Error> {
        let rows = self.model.hidden(&mut self.cache, step).await;
        rows.map_err(|error| Error::Executor {
            source: executor_error(&error),
            requests: Vec::new(),
        })
    }
}

/// A text's hidden states, if all of them are numbers.
fn sound(rows: Vec<Vec<f32>>) -> Result<Vec<Vec<f32>>, Error> {
    if rows.iter().flatten().all(|value| value.is_finite()) {
        Ok(rows)
    } else {
        Err(Error::BrokenStates)
    }
}

/// Some tokens of a text, of which some are wanted.
fn chunk(
    text: &EmbedTokens,
    tokens: std::ops::Range<usize>,
    blocks: std::ops::Range<u32>,
    wanted: std::ops::Range<usize>,
) -> Chunk {
    Chunk {
        start: tokens.start,
        types: text.types.get(tokens.clone()).unwrap_or_default().to_vec(),
        tokens: text.ids[tokens].to_vec(),
        blocks: blocks.collect(),
        rows: wanted.map(|row| (row, RowSelection::default())).collect(),
        ..Default::default()
    }
}

/// How many of the first texts fit so many tokens and blocks; the first one always goes.
fn fill(lengths: impl IntoIterator<Item = usize>, tokens: usize, blocks: usize) -> usize {
    let (mut tokens_left, mut blocks_left) = (tokens, blocks);
    let fits = lengths.into_iter().take_while(|length| {
        let blocks = blocks_for(*length);
        let fits = *length <= tokens_left && blocks <= blocks_left;
        if fits {
            tokens_left -= length;
            blocks_left -= blocks;
        }
        fits
    });
    fits.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_takes_as_many_texts_as_tokens_and_blocks_allow() {
        assert_eq!(fill([10, 20, 30], 60, 8), 3);
        assert_eq!(fill([10, 20, 31], 60, 8), 2);
        assert_eq!(fill([1, 1, 1], 60, 2), 2);
        assert_eq!(fill([BLOCK + 1, 1], 60, 2), 1);
    }

    #[test]
    fn a_text_longer_than_a_step_goes_alone() {
        assert_eq!(fill([100, 1], 60, 8), 1);
        assert_eq!(fill([1, 100], 60, 8), 1);
    }
}
