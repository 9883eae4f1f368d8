//! The vocabulary that a GGUF file carries, and what it says about encoding.

use crate::special::TURN_ENDS;
use crate::table::TokenKind;
use crate::{Error, MAX_TOKENS, SpecialTokens, Tokenizer, gguf_bpe, spm};

/// The tokenizer fields of a GGUF file, as plain data.
///
/// Each field names the metadata key that it comes from. Fields that a file does not have stay at their default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GgufVocab<'a> {
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece BPE).
    pub model: &'a str,
    /// `tokenizer.ggml.pre`: how a byte-level BPE splits text before merging.
    pub pre: Option<&'a str>,
    /// `tokenizer.ggml.tokens`, by id.
    pub tokens: Vec<&'a str>,
    /// `tokenizer.ggml.scores`, by id; a SentencePiece model merges the pair with the highest score first.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.token_type`, by id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    /// Empty if the file has none; all tokens are then normal.
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`: pairs of tokens, separated by a space, the earliest first to be merged.
    pub merges: Vec<&'a str>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`: ends a turn.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`: ends a message that calls a tool.
    pub eom: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unk: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`; the default depends on the model.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`; the default is false.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`: whether a SentencePiece model puts a space before a text; the default is
    /// true.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.ggml.remove_extra_whitespaces`: whether a SentencePiece model joins runs of spaces and trims them at
    /// both ends; the default is false.
    pub remove_extra_whitespaces: Option<bool>,
}

/// `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenType {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenType {
    /// Whether the token is left out of decoded text on request.
    pub(crate) fn kind(self) -> TokenKind {
        match self {
            Self::Unknown | Self::Control => TokenKind::Special,
            _ => TokenKind::Text,
        }
    }
}

impl GgufVocab<'_> {
    /// The type of a token.
    pub(crate) fn token_type(&self, id: usize) -> TokenType {
        match self.token_types.get(id) {
            Some(2) => TokenType::Unknown,
            Some(3) => TokenType::Control,
            Some(4) => TokenType::UserDefined,
            Some(5) => TokenType::Unused,
            Some(6) => TokenType::Byte,
            _ => TokenType::Normal,
        }
    }

    /// Fails if arrays contradict each other or are too large.
    fn check(&self) -> Result<(), Error> {
        let expected = self.tokens.len();
        if expected == 0 {
            return Err(Error::EmptyVocabulary {
                field: "tokenizer.ggml.tokens",
            });
        }
        if expected > MAX_TOKENS {
            return Err(Error::VocabularyTooLarge {
                what: "the length of tokenizer.ggml.tokens",
                actual: expected as u64,
                limit: MAX_TOKENS as u64,
            });
        }
        let lengths = [
            ("tokenizer.ggml.token_type", self.token_types.len()),
            ("tokenizer.ggml.scores", self.scores.len()),
        ];
        for (field, actual) in lengths {
            if actual != 0 && actual != expected {
                return Err(Error::LengthMismatch {
                    field,
                    expected,
                    actual,
                });
            }
        }
        Ok(())
    }

    /// An id that must exist if it is given. Converters write the highest `u32` for "none".
    fn required(&self, field: &'static str, id: Option<u32>) -> Result<Option<u32>, Error> {
        match id.filter(|&id| id != u32::MAX) {
            Some(id) if id as usize >= self.tokens.len() => Err(Error::TokenOutOfRange {
                field,
                id,
                vocab_size: self.tokens.len(),
            }),
            id => Ok(id),
        }
    }

    /// The special tokens; `default` gives bos, eos and unk for files that do not say.
    pub(crate) fn special_tokens(&self, default: [Option<u32>; 3]) -> Result<SpecialTokens, Error> {
        let exists = |id: &u32| (*id as usize) < self.tokens.len();
        let [bos, eos, unk] = default.map(|id| id.filter(exists));
        let mut special = SpecialTokens {
            bos: self
                .required("tokenizer.ggml.bos_token_id", self.bos)?
                .or(bos),
            eos: self
                .required("tokenizer.ggml.eos_token_id", self.eos)?
                .or(eos),
            unk: self.unk.filter(exists).or(unk),
            pad: self.pad.filter(exists),
            stop: Vec::new(),
        };
        special.add_stop(special.eos);
        special.add_stop(self.required("tokenizer.ggml.eot_token_id", self.eot)?);
        special.add_stop(self.required("tokenizer.ggml.eom_token_id", self.eom)?);
        // Files seldom name the token that ends a turn. Its text does.
        let has = |text: &str| self.tokens.contains(&text);
        let channels = has("<|return|>") && has("<|call|>");
        for (id, token) in (0u32..).zip(&self.tokens) {
            // In a model that answers in channels, `<|end|>` ends a channel and not the answer.
            if TURN_ENDS.contains(token) && !(channels && *token == "<|end|>") {
                special.add_stop([id]);
            }
        }
        Ok(special)
    }
}

/// Builds the tokenizer of a GGUF vocabulary.
pub(crate) fn build(vocab: &GgufVocab<'_>) -> Result<Tokenizer, Error> {
    match vocab.model {
        "gpt2" => {
            vocab.check()?;
            gguf_bpe::build(vocab)
        }
        "llama" => {
            vocab.check()?;
            spm::build(vocab)
        }
        other => Err(Error::UnknownModel {
            model: crate::error::shorten(other, 60),
            known: "gpt2 (byte-level BPE), llama (SentencePiece BPE)".into(),
        }),
    }
}
