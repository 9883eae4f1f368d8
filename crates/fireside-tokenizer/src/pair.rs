//! Pairs of texts as one sequence, for models that read two at once.

use tokenizers::Encoding;

use crate::tokenizer::Backend;
use crate::{Error, MAX_TEXT_BYTES, Tokenizer};

/// A text's tokens before it is joined with another text.
#[derive(Debug, Clone)]
pub struct PairPart {
    encoding: Encoding,
    /// Its tokens before it was cut: which of two texts is the longer one is asked of whole ones.
    whole: usize,
}

impl PairPart {
    pub(crate) fn new(mut encoding: Encoding) -> Self {
        // What a cut leaves over would be joined too.
        encoding.take_overflowing();
        let whole = encoding.get_ids().len();
        Self { encoding, whole }
    }

    pub(crate) fn encoding(self) -> Encoding {
        self.encoding
    }

    /// How many tokens it has.
    pub fn len(&self) -> usize {
        self.encoding.get_ids().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.encoding.get_ids().is_empty()
    }

    /// Cuts it at its end, to so many tokens.
    pub fn truncate(&mut self, most: usize) {
        if self.len() > most {
            self.encoding
                .truncate(most, 0, tokenizers::TruncationDirection::Right);
            self.encoding.take_overflowing();
        }
    }
}

/// Two texts as one sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The tokens, special ones included.
    pub ids: Vec<u32>,
    /// Which text each token is of: 0 for the first, 1 for the second, as the file has it.
    pub types: Vec<u32>,
}

impl Tokenizer {
    /// The tokens of a text that is to be one of a pair. Special tokens written in the text are parsed.
    ///
    /// # Errors
    ///
    /// If the text is longer than [`MAX_TEXT_BYTES`], the tokenizer fails on it, or it is not from a
    /// `tokenizer.json`: other files do not say how two texts are joined.
    pub fn encode_part(&self, text: &str) -> Result<PairPart, Error> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Error::TextTooLong {
                bytes: text.len(),
                limit: MAX_TEXT_BYTES,
            });
        }
        match &self.inner.backend {
            Backend::Hf(backend) => backend.encode_part(text).map(PairPart::new),
            Backend::Spm(_) => Err(no_pairs()),
        }
    }

    /// How many tokens are added where two texts are joined.
    pub fn pair_overhead(&self) -> usize {
        match &self.inner.backend {
            Backend::Hf(backend) => backend.pair_overhead(),
            Backend::Spm(_) => 0,
        }
    }

    /// Joins two texts, with the tokens that the model wants around and between them. Where that makes more than
    /// `most` tokens, the longer text is cut at its end until it is as long as the other, then both.
    ///
    /// # Errors
    ///
    /// If the tokenizer fails, or is not from a `tokenizer.json`.
    pub fn join(&self, first: &PairPart, second: PairPart, most: usize) -> Result<Pair, Error> {
        let Backend::Hf(backend) = &self.inner.backend else {
            return Err(no_pairs());
        };
        let room = most.saturating_sub(self.pair_overhead());
        let (mut first, mut second) = (first.clone(), second);
        let [first_length, second_length] = longest_first([first.whole, second.whole], room);
        first.truncate(first_length);
        second.truncate(second_length);
        let joined = backend.join(first.encoding(), second.encoding())?;
        Ok(Pair {
            ids: joined.get_ids().to_vec(),
            types: joined.get_type_ids().to_vec(),
        })
    }
}

fn no_pairs() -> Error {
    Error::Encode {
        reason: "only a tokenizer.json says how two texts are joined".into(),
    }
}

/// The lengths of two texts cut to so many tokens together, the longer one first.
fn longest_first(lengths: [usize; 2], room: usize) -> [usize; 2] {
    let [first, second] = lengths;
    let short = first.min(second);
    if first.saturating_add(second) <= room {
        return lengths;
    }
    let (short, long) = if short <= room / 2 {
        (short, room - short)
    } else {
        (room / 2, room - room / 2)
    };
    if first > second {
        [long, short]
    } else {
        [short, long]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_text_is_cut_first_then_both() {
        assert_eq!(longest_first([3, 4], 7), [3, 4]);
        assert_eq!(longest_first([3, 9], 8), [3, 5]);
        assert_eq!(longest_first([9, 3], 8), [5, 3]);
        assert_eq!(longest_first([9, 8], 7), [4, 3]);
        assert_eq!(longest_first([8, 8], 7), [3, 4]);
        assert_eq!(longest_first([8, 0], 0), [0, 0]);
    }
}
