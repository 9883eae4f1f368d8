//! The host's side of embeddings: what a text's tokens are, and what becomes of its pooled hidden states.

use fireside_model::Embedding;
use fireside_model::embedding::normalized;
use fireside_tokenizer::Tokenizer;

use super::{EmbedLimits, EmbedTokens};
use crate::Error;

/// What is asked of an embedding.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EmbedParams {
    /// Keep only so many of the first values, for models made for it.
    pub dimensions: Option<usize>,
    /// Give it the length 1; what the model's files say by default.
    pub normalize: Option<bool>,
    /// Cut a text that is too long instead of refusing it.
    pub truncate: bool,
    /// The name of the model's prompt that is to stand before the text; the model's default prompt where none
    /// is named, if it has one.
    pub prompt_name: Option<String>,
}

/// Tokens of texts and vectors of hidden states, for an [`Embedder`](super::Embedder)'s model; a clone is cheap.
#[derive(Debug, Clone)]
pub struct EmbedTexts {
    tokenizer: Tokenizer,
    embedding: Embedding,
    limits: EmbedLimits,
}

impl EmbedTexts {
    pub(super) fn new(tokenizer: Tokenizer, embedding: Embedding, limits: EmbedLimits) -> Self {
        Self {
            tokenizer,
            embedding,
            limits,
        }
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// How the model makes embeddings.
    pub fn embedding(&self) -> &Embedding {
        &self.embedding
    }

    /// The sizes.
    pub fn limits(&self) -> EmbedLimits {
        self.limits
    }

    /// Sees whether the parameters mean something for this model.
    ///
    /// # Errors
    ///
    /// Dimensions that it does not have, a prompt that it does not know.
    pub fn check(&self, params: &EmbedParams) -> Result<(), Error> {
        let most = self.limits.dimensions;
        if let Some(asked) = params.dimensions.filter(|d| *d == 0 || *d > most) {
            return Err(Error::invalid("dimensions", asked, format!("1 to {most}")));
        }
        self.prompt(params).map(drop)
    }

    /// What stands before a text.
    fn prompt(&self, params: &EmbedParams) -> Result<&str, Error> {
        let Embedding {
            prompts,
            default_prompt,
            ..
        } = &self.embedding;
        let Some(name) = params.prompt_name.as_ref() else {
            // It is one of the prompts, or the files would have been refused.
            let usual = default_prompt.as_ref().and_then(|name| prompts.get(name));
            return Ok(usual.map_or("", String::as_str));
        };
        prompts.get(name).map(String::as_str).ok_or_else(|| {
            let known: Vec<&str> = prompts.keys().map(String::as_str).collect();
            let expected = if known.is_empty() {
                "none, as the model has no prompts".into()
            } else {
                format!("one of {}", known.join(", "))
            };
            let shown: String = name.chars().take(60).collect();
            Error::invalid("prompt_name", format!("{shown:?}"), expected)
        })
    }

    /// The tokens of a text, special ones included.
    ///
    /// # Errors
    ///
    /// Those of [`check`](Self::check), text that cannot be encoded, one that is too long and is not to be cut.
    pub fn tokens(&self, text: &str, params: &EmbedParams) -> Result<EmbedTokens, Error> {
        self.check(params)?;
        let prompt = self.prompt(params)?;
        let joined;
        let text = if prompt.is_empty() {
            text
        } else {
            joined = format!("{prompt}{text}");
            &joined
        };
        let tokens = self.tokenizer.encode(text, true)?;
        let most = self.limits.max_tokens;
        if tokens.len() <= most {
            return Ok(tokens.into());
        }
        if !params.truncate {
            return Err(Error::PromptTooLong {
                prompt: tokens.len(),
                context: most,
            });
        }
        let own = self.tokenizer.encode(text, false)?;
        Ok(cut(&tokens, &own, most).into())
    }

    /// A text's embedding from its pooled hidden states.
    ///
    /// # Errors
    ///
    /// Those of [`check`](Self::check).
    pub fn vector(&self, mut pooled: Vec<f32>, params: &EmbedParams) -> Result<Vec<f32>, Error> {
        self.check(params)?;
        pooled.truncate(params.dimensions.unwrap_or(usize::MAX));
        if params.normalize.unwrap_or(self.embedding.normalize) {
            return Ok(normalized(&pooled));
        }
        Ok(pooled)
    }
}

/// At most so many of a text's tokens: the special ones around it stay, its own are cut at their end.
fn cut(tokens: &[u32], own: &[u32], most: usize) -> Vec<u32> {
    let mut windows = tokens.windows(own.len().max(1));
    let around = windows.position(|window| window == own);
    let (before, after) = around.map_or((tokens.len(), &[][..]), |before| {
        (before, tokens.get(before + own.len()..).unwrap_or_default())
    });
    let room = most.saturating_sub(after.len());
    let mut kept = tokens[..tokens.len().min(room.max(before.min(most)))].to_vec();
    kept.extend(after);
    kept.truncate(most);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_keeps_the_special_tokens_around_a_text() {
        assert_eq!(cut(&[1, 5, 6, 7, 8, 2], &[5, 6, 7, 8], 4), [1, 5, 6, 2]);
        assert_eq!(cut(&[5, 6, 7, 8], &[5, 6, 7, 8], 2), [5, 6]);
        assert_eq!(cut(&[1, 5, 6, 2], &[5, 6], 1), [1]);
        assert_eq!(cut(&[1, 5, 6], &[9], 2), [1, 5]);
    }
}
