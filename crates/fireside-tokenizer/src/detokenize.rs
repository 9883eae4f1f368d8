//! Text out of tokens, one token at a time.

use std::sync::Arc;

use crate::decoder::{FirstToken, without_odd_spaces};
use crate::table::TokenKind;
use crate::tokenizer::Inner;
use crate::utf8::Utf8Stream;

/// Turns token ids into pieces of text as they are generated.
///
/// The pieces, put together, are exactly what [`Tokenizer::decode`](crate::Tokenizer::decode) gives for all the ids.
/// A piece never ends inside a UTF-8 character: bytes of an unfinished one are held back until the token that
/// completes it. Each token costs time in its own length only; nothing is decoded twice.
///
/// ```
/// # use fireside_tokenizer::{GgufVocab, Tokenizer};
/// # let tokenizer = Tokenizer::from_gguf(&GgufVocab {
/// #     model: "llama",
/// #     tokens: vec!["<unk>", "▁a", "▁b"],
/// #     scores: vec![0.0; 3],
/// #     token_types: vec![2, 1, 1],
/// #     add_bos: Some(false),
/// #     ..GgufVocab::default()
/// # })?;
/// let mut stream = tokenizer.stream(true);
/// assert_eq!(stream.push(1).as_deref(), Some("a"));
/// assert_eq!(stream.push(2).as_deref(), Some(" b"));
/// assert_eq!(stream.finish(), None);
/// # Ok::<(), fireside_tokenizer::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DetokenizeStream {
    inner: Arc<Inner>,
    skip_special: bool,
    utf8: Utf8Stream,
    /// How many characters may still be stripped from the start of the text.
    strip_left: usize,
    /// Whether a token has been written.
    started: bool,
}

impl DetokenizeStream {
    pub(crate) fn new(inner: Arc<Inner>, skip_special: bool) -> Self {
        let rules = &inner.rules;
        Self {
            skip_special,
            utf8: Utf8Stream::new(rules.replacement),
            strip_left: rules.strip.map_or(0, |(_, count)| count),
            started: false,
            inner,
        }
    }

    /// Takes the tokens that came before, such as the prompt, without giving their text.
    ///
    /// What follows is then the text *after* them: a SentencePiece model's first word keeps the space that parts it
    /// from the prompt, and a character that the prompt left unfinished is completed.
    #[must_use]
    pub fn after(mut self, ids: &[u32]) -> Self {
        for &id in ids {
            self.push(id);
        }
        self
    }

    /// The text that a token completes, if it completes any. An id that the vocabulary does not have adds nothing
    /// (models often have more output rows than tokens).
    pub fn push(&mut self, id: u32) -> Option<String> {
        let mut out = String::new();
        self.push_into(id, &mut out);
        (!out.is_empty()).then_some(out)
    }

    /// Ends the text: an unfinished character becomes U+FFFD. The stream is then as new.
    pub fn finish(&mut self) -> Option<String> {
        let mut out = String::new();
        self.finish_into(&mut out);
        (!out.is_empty()).then_some(out)
    }

    /// As [`push`](Self::push), appending to a string.
    pub(crate) fn push_into(&mut self, id: u32, out: &mut String) {
        let start = out.len();
        let inner = Arc::clone(&self.inner);
        let Some((bytes, kind)) = inner.table.get(id) else {
            return;
        };
        if self.skip_special && kind == TokenKind::Special {
            return;
        }
        let first = !std::mem::replace(&mut self.started, true);
        if inner.rules.separator && !first {
            self.utf8.push(b" ", out);
        }
        if first && inner.rules.first != FirstToken::Same {
            let token = inner.backend.id_to_token(id).unwrap_or_default();
            let text = match inner.rules.first {
                FirstToken::Unmarked(marker) => token.replace(marker, ""),
                FirstToken::Whole { cleanup: true } => without_odd_spaces(&token),
                FirstToken::Whole { cleanup: false } | FirstToken::Same => token,
            };
            self.utf8.push(text.as_bytes(), out);
        } else {
            self.utf8.push(bytes, out);
        }
        self.strip(start, out);
    }

    /// As [`finish`](Self::finish), appending to a string.
    pub(crate) fn finish_into(&mut self, out: &mut String) {
        let start = out.len();
        self.utf8.finish(out);
        self.strip(start, out);
        *self = Self::new(Arc::clone(&self.inner), self.skip_special);
    }

    /// Removes from the text at `start` what the decoder strips from the start of the whole text.
    fn strip(&mut self, start: usize, out: &mut String) {
        let Some((content, _)) = self.inner.rules.strip else {
            return;
        };
        while self.strip_left > 0 {
            match out[start..].chars().next() {
                Some(c) if c == content => {
                    out.remove(start);
                    self.strip_left -= 1;
                }
                Some(_) => self.strip_left = 0,
                None => return,
            }
        }
    }
}
