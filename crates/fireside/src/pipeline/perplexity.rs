//! How well a model predicts a text.

use fireside_engine::Request;
use fireside_tokenizer::SpecialText;

use super::TextGeneration;
use crate::{Error, GenerationParams};

/// Fewest tokens of a window: the fewest of which some are counted.
const LEAST_WINDOW: usize = 4;

/// The perplexity of a text: see [`TextGeneration::perplexity`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perplexity {
    /// e to the mean of the counted tokens' negative log-probabilities.
    pub value: f64,
    /// Its standard error: how far off other texts of the kind may lie. Two models over one text differ by
    /// much less where they are nearly the same.
    pub standard_error: f64,
    /// Tokens that are counted.
    pub counted: usize,
    /// Windows.
    pub windows: usize,
    /// Tokens of a window.
    pub window: usize,
    /// Tokens of the whole text, a begin-of-sequence token included.
    pub tokens: usize,
}

/// The sums that a perplexity is made of.
#[derive(Debug, Default)]
struct Sums {
    counted: usize,
    surprise: f64,
    squares: f64,
}

impl Sums {
    fn add(&mut self, logprob: f32) {
        let surprise = -f64::from(logprob);
        self.counted += 1;
        self.surprise += surprise;
        self.squares += surprise * surprise;
    }

    /// Value and standard error.
    fn perplexity(&self) -> (f64, f64) {
        let count = self.counted as f64;
        let mean = self.surprise / count;
        let variance = (self.squares / count - mean * mean).max(0.0);
        let value = mean.exp();
        (value, value * (variance / (count - 1.0).max(1.0)).sqrt())
    }
}

impl TextGeneration {
    /// The perplexity of a text as llama.cpp's `llama-perplexity` defines it.
    ///
    /// The text's tokens, after a begin-of-sequence token for models that want one, are cut into windows
    /// of `window` tokens that do not overlap; what is left at the end is not used. Each window is run by
    /// itself, with its first token replaced by the begin-of-sequence token for models that want one.
    /// Counting from 0, its tokens `window / 2 + 1` to `window - 1` count: those have at least half of a
    /// window before them. Special tokens that are written in the text are text.
    ///
    /// `on_window` is told what is known after each window.
    ///
    /// # Errors
    ///
    /// [`Error::Window`] for a window of fewer than 4 tokens, [`Error::ShortText`] for a text of less than
    /// a window, and those of the engine for one that does not fit the KV cache.
    pub async fn perplexity(
        &mut self,
        text: &str,
        window: usize,
        mut on_window: impl FnMut(&Perplexity),
    ) -> Result<Perplexity, Error> {
        if window < LEAST_WINDOW {
            return Err(Error::Window {
                asked: window,
                least: LEAST_WINDOW,
            });
        }
        let tokenizer = self.tokenizer();
        let bos = tokenizer.special_tokens().bos;
        let bos = bos.filter(|bos| {
            tokenizer
                .encode("", true)
                .is_ok_and(|s| s.first() == Some(bos))
        });
        let mut tokens = Vec::from_iter(bos);
        tokens.extend(tokenizer.encode_with(text, false, SpecialText::Plain)?);
        let mut sums = Sums::default();
        let mut last = None;
        for (index, tokens_of) in tokens.chunks_exact(window).enumerate() {
            let mut prompt = tokens_of.to_vec();
            if let (Some(first), Some(bos)) = (prompt.first_mut(), bos) {
                *first = bos;
            }
            let request = Request::new(prompt).with_params(GenerationParams {
                max_new_tokens: Some(0),
                prompt_logprobs: Some(0),
                ..Default::default()
            });
            let completions = self.engine().generate(&[request]).await?;
            let scored = completions.into_iter().flatten();
            let scored = scored.flat_map(|one| one.prompt_logprobs);
            for token in scored.skip(window / 2 + 1) {
                sums.add(token.logprob.unwrap_or(f32::NAN));
            }
            let (value, standard_error) = sums.perplexity();
            let known = Perplexity {
                value,
                standard_error,
                counted: sums.counted,
                windows: index + 1,
                window,
                tokens: tokens.len(),
            };
            on_window(&known);
            last = Some(known);
        }
        last.ok_or(Error::ShortText {
            tokens: tokens.len(),
            window,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coin_has_a_perplexity_of_two_without_an_error() {
        let mut sums = Sums::default();
        (0..8).for_each(|_| sums.add(0.5_f32.ln()));
        let (value, error) = sums.perplexity();
        assert!((value - 2.0).abs() < 1e-6, "{value}");
        assert!(error < 1e-6, "{error}");
    }

    #[test]
    fn the_error_is_that_of_the_mean_of_the_surprises() {
        let mut sums = Sums::default();
        // Surprises of 1 and 3: mean 2, variance 1, of 4 tokens.
        for logprob in [-1.0, -3.0, -1.0, -3.0] {
            sums.add(logprob);
        }
        let (value, error) = sums.perplexity();
        assert!((value - 2.0_f64.exp()).abs() < 1e-9, "{value}");
        assert!(
            (error / value - (1.0_f64 / 3.0).sqrt()).abs() < 1e-9,
            "{error}"
        );
    }
}
