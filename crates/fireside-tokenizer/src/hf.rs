//! Encoding through the `tokenizers` crate.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokenizers::{AddedVocabulary, Encoding, Model, OffsetType, PostProcessor, PreTokenizer};

use crate::error::one_line;
use crate::{Error, SpecialText};

/// A `tokenizers` tokenizer, and a second set of added tokens that leaves the special ones alone.
pub(crate) struct HfBackend {
    tokenizer: tokenizers::Tokenizer,
    plain: AddedVocabulary,
}

impl std::fmt::Debug for HfBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tokens = self.tokenizer.get_vocab_size(true);
        f.debug_struct("HfBackend")
            .field("tokens", &tokens)
            .finish_non_exhaustive()
    }
}

/// Runs a call into the library; a panic in it, as some contradictions in a file cause, is an error too.
///
/// What the library shares between calls is a cache that each call leaves whole, so that going on is safe. Where panics
/// abort, as in a browser, there is nothing to catch.
pub(crate) fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(one_line(&error.to_string())),
        Err(_) => Err("the file's parts contradict each other".into()),
    }
}

impl HfBackend {
    pub(crate) fn new(mut tokenizer: tokenizers::Tokenizer) -> Self {
        // Cutting and filling are the engine's business; a file that asks for either would change prompts silently.
        tokenizer.with_padding(None);
        // Fails only for a truncation that is larger than what there is to truncate, so never for none.
        let _ = tokenizer.with_truncation(None);
        tokenizer.set_encode_special_tokens(false);
        let mut plain = tokenizer.get_added_vocabulary().clone();
        plain.set_encode_special_tokens(true);
        Self { tokenizer, plain }
    }

    pub(crate) fn encode(
        &self,
        text: &str,
        add_special: bool,
        special: SpecialText,
        ids: &mut Vec<u32>,
    ) -> Result<(), Error> {
        let encoding = guarded(|| match special {
            SpecialText::Parse => self.tokenizer.encode_fast(text, add_special),
            SpecialText::Plain => self.encode_plain(text, add_special),
        });
        let encoding = encoding.map_err(|reason| Error::Encode { reason })?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// A text without what stands around it.
    pub(crate) fn encode_part(&self, text: &str) -> Result<Encoding, Error> {
        let encoding = guarded(|| self.tokenizer.encode_fast(text, false));
        encoding.map_err(|reason| Error::Encode { reason })
    }

    /// How many tokens the file adds to two texts.
    pub(crate) fn pair_overhead(&self) -> usize {
        let processor = self.tokenizer.get_post_processor();
        processor.map_or(0, |processor| processor.added_tokens(true))
    }

    /// Two texts as the file joins them.
    pub(crate) fn join(&self, first: Encoding, mut second: Encoding) -> Result<Encoding, Error> {
        // A file that does not say how has them one after the other.
        second.set_type_ids(vec![1; second.get_ids().len()]);
        let joined = guarded(|| self.tokenizer.post_process(first, Some(second), true));
        joined.map_err(|reason| Error::Encode { reason })
    }

    /// The steps of `encode_fast` with the other set of added tokens.
    fn encode_plain(&self, text: &str, add_special: bool) -> tokenizers::Result<Encoding> {
        let mut pieces = self
            .plain
            .extract_and_normalize(self.tokenizer.get_normalizer(), text);
        if let Some(pre_tokenizer) = self.tokenizer.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces)?;
        }
        let model = self.tokenizer.get_model();
        pieces.tokenize(|piece| model.tokenize(piece.get()))?;
        let encoding = pieces.into_encoding(None, 0, OffsetType::None)?;
        self.tokenizer.post_process(encoding, None, add_special)
    }

    /// Whether a token is left out of decoded text on request.
    pub(crate) fn is_special(&self, token: &str) -> bool {
        self.tokenizer
            .get_added_vocabulary()
            .is_special_token(token)
    }

    pub(crate) fn token_to_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    pub(crate) fn id_to_token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }
}
