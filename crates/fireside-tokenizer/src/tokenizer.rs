//! The tokenizer as callers see it, whatever it was built from.

use std::sync::Arc;

use crate::decoder::DecodeRules;
use crate::hf::HfBackend;
use crate::spm::SpmModel;
use crate::table::TokenTable;
use crate::{DetokenizeStream, Error, GgufVocab, MAX_TEXT_BYTES, SpecialTokens, TokenizerConfig};

/// What to do with special tokens that are written out in a text, such as `<|im_end|>`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SpecialText {
    /// They become the special tokens, as transformers does. Right for a text that a chat template wrote.
    #[default]
    Parse,
    /// They are ordinary text. Right for a text from a user who must not be able to forge a turn.
    Plain,
}

/// Splits text into tokens and puts tokens together to text.
///
/// A clone is cheap and shares everything.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    pub(crate) inner: Arc<Inner>,
    special: SpecialTokens,
}

/// What the clones and streams of a tokenizer share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) backend: Backend,
    pub(crate) table: TokenTable,
    pub(crate) rules: DecodeRules,
    /// Added before a text.
    pub(crate) prefix: Option<u32>,
    /// Added after a text.
    pub(crate) suffix: Option<u32>,
}

/// The two ways to encode.
#[derive(Debug)]
pub(crate) enum Backend {
    Hf(Box<HfBackend>),
    Spm(Box<SpmModel>),
}

impl Backend {
    pub(crate) fn id_to_token(&self, id: u32) -> Option<String> {
        match self {
            Self::Hf(backend) => backend.id_to_token(id),
            Self::Spm(model) => model.piece(id).map(str::to_owned),
        }
    }
}

impl Tokenizer {
    pub(crate) fn new(inner: Inner, special: SpecialTokens) -> Result<Self, Error> {
        special.check(inner.table.len())?;
        Ok(Self {
            inner: Arc::new(inner),
            special,
        })
    }

    /// Builds a tokenizer from the bytes of a `tokenizer.json`.
    ///
    /// `config`, the model's `tokenizer_config.json`, names the special tokens, which `tokenizer.json` does not.
    ///
    /// # Errors
    ///
    /// If the file is not valid, is of a kind whose decoder cannot stream, or breaks a limit.
    pub fn from_json(json: &[u8], config: Option<&TokenizerConfig>) -> Result<Self, Error> {
        crate::json::build(json, config)
    }

    /// Builds a tokenizer from the vocabulary of a GGUF file.
    ///
    /// # Errors
    ///
    /// If the vocabulary is of an unknown kind, names an unknown pre-tokenizer, lacks its merges, or contradicts
    /// itself.
    pub fn from_gguf(vocab: &GgufVocab<'_>) -> Result<Self, Error> {
        crate::gguf::build(vocab)
    }

    /// Adds tokens that end a generation, for example the `eos_token_id` list of a `generation_config.json`.
    ///
    /// # Errors
    ///
    /// If the vocabulary does not have one of them.
    pub fn with_stop_tokens(mut self, ids: impl IntoIterator<Item = u32>) -> Result<Self, Error> {
        self.special.add_stop(ids);
        self.special.check(self.vocab_size())?;
        Ok(self)
    }

    /// Splits a text into tokens. Special tokens written in the text are parsed.
    ///
    /// With `add_special`, the tokens that the model wants around a sequence are added (for many models a
    /// begin-of-sequence token). A text from a chat template usually has them already.
    ///
    /// # Errors
    ///
    /// If the text is longer than [`MAX_TEXT_BYTES`], or the tokenizer fails on it.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, Error> {
        self.encode_with(text, add_special, SpecialText::Parse)
    }

    /// As [`encode`](Self::encode), with a choice about special tokens that are written in the text.
    ///
    /// # Errors
    ///
    /// If the text is longer than [`MAX_TEXT_BYTES`], or the tokenizer fails on it.
    pub fn encode_with(
        &self,
        text: &str,
        add_special: bool,
        special: SpecialText,
    ) -> Result<Vec<u32>, Error> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Error::TextTooLong {
                bytes: text.len(),
                limit: MAX_TEXT_BYTES,
            });
        }
        let mut ids = Vec::new();
        if add_special {
            ids.extend(self.inner.prefix);
        }
        match &self.inner.backend {
            Backend::Hf(backend) => backend.encode(text, add_special, special, &mut ids)?,
            Backend::Spm(model) => model.encode(text, special, &mut ids),
        }
        if add_special {
            ids.extend(self.inner.suffix);
        }
        Ok(ids)
    }

    /// The text of a sequence of tokens.
    ///
    /// With `skip_special`, special tokens are left out. Ids that the vocabulary does not have add nothing. Bytes that
    /// are not UTF-8 become U+FFFD: one for each broken sequence in byte-level BPE, one for each byte in vocabularies
    /// with byte fallback, as their usual decoders do.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut stream = self.stream(skip_special);
        let mut text = String::new();
        for &id in ids {
            stream.push_into(id, &mut text);
        }
        stream.finish_into(&mut text);
        text
    }

    /// Starts a stream that turns tokens into text one by one.
    pub fn stream(&self, skip_special: bool) -> DetokenizeStream {
        DetokenizeStream::new(Arc::clone(&self.inner), skip_special)
    }

    /// The bytes that a token stands for inside a text; they need not be whole characters. `None` for an id that the
    /// vocabulary does not have.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.inner.table.get(id).map(|(bytes, _)| bytes)
    }

    /// Whether a token is special: a control token, left out of decoded text on request.
    pub fn is_special(&self, id: u32) -> bool {
        use crate::table::TokenKind;
        matches!(self.inner.table.get(id), Some((_, TokenKind::Special)))
    }

    /// One more than the highest token id. The model's output may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.inner.table.len()
    }

    /// The ids of the model's special tokens.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.special
    }

    /// The id of a token as the vocabulary writes it (`▁the`, `Ġthe`).
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        match &self.inner.backend {
            Backend::Hf(backend) => backend.token_to_id(token),
            Backend::Spm(model) => model.id_of(token),
        }
    }

    /// A token as the vocabulary writes it.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.backend.id_to_token(id)
    }

    /// Sees that another vocabulary has the same tokens under the same ids. Tokens that only fill a table up
    /// (`[PAD49152]`, as converters name them) do not count, nor does what either one's model ends a sequence with.
    ///
    /// # Errors
    ///
    /// The first difference, in words that tell the other's token from this one's: "its token 5 is …, not …".
    pub fn same_tokens(&self, other: &Self) -> Result<(), String> {
        let real = |own: &Self, id: u32| {
            let padding = |text: String| text == format!("[PAD{id}]");
            own.token_bytes(id).is_some() && !own.id_to_token(id).is_some_and(padding)
        };
        let text = |own: &Self, id: u32| match own.token_bytes(id) {
            Some(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
            None => "nothing".to_owned(),
        };
        let ids = 0..self.vocab_size().max(other.vocab_size()) as u32;
        let differs = |id: &u32| {
            self.token_bytes(*id) != other.token_bytes(*id) && (real(self, *id) || real(other, *id))
        };
        if let Some(id) = ids.into_iter().find(differs) {
            let (own, its) = (text(self, id), text(other, id));
            return Err(format!("its token {id} is {its}, not {own}"));
        }
        Ok(())
    }
}
