//! The tokens that mean something to the engine rather than to the reader.

use crate::Error;

/// Ids of a model's special tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpecialTokens {
    /// Begins a sequence.
    pub bos: Option<u32>,
    /// Each of these ends the generation: end of sequence, end of turn, end of message. Ascending, no duplicates; the
    /// model's declared end of sequence is [`eos`](Self::eos).
    pub stop: Vec<u32>,
    /// The end of sequence that the model declares; the one that [`Tokenizer::encode`](crate::Tokenizer::encode) adds
    /// for models that want it.
    pub eos: Option<u32>,
    /// Stands for what the vocabulary cannot write.
    pub unk: Option<u32>,
    /// Fills a batch.
    pub pad: Option<u32>,
}

impl SpecialTokens {
    /// Whether a generated token ends the generation.
    pub fn is_stop(&self, id: u32) -> bool {
        self.stop.binary_search(&id).is_ok()
    }

    /// Adds to the stop set.
    pub(crate) fn add_stop(&mut self, ids: impl IntoIterator<Item = u32>) {
        self.stop.extend(ids);
        self.stop.sort_unstable();
        self.stop.dedup();
    }

    /// Fails if an id that the engine relies on is outside the vocabulary.
    pub(crate) fn check(&self, vocab_size: usize) -> Result<(), Error> {
        let ids = self
            .bos
            .map(|id| ("the begin-of-sequence token id", id))
            .into_iter()
            .chain(
                self.stop
                    .iter()
                    .map(|&id| ("an end-of-sequence token id", id)),
            );
        for (field, id) in ids {
            if id as usize >= vocab_size {
                return Err(Error::TokenOutOfRange {
                    field,
                    id,
                    vocab_size,
                });
            }
        }
        Ok(())
    }
}

/// Texts of tokens that end a turn or a document in common model families, where the file does not say so itself.
pub(crate) const TURN_ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end_of_turn|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<EOT>",
    "_<EOT>",
    "<|EOT|>",
    "<｜end▁of▁sentence｜>",
];
