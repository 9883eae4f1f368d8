//! The bytes of every token, by id, in one block of memory.

use crate::{Error, MAX_TOKENS};

/// What a token is to a reader of decoded text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// Ordinary text.
    Text,
    /// Left out when special tokens are skipped.
    Special,
    /// An id that no token has.
    Hole,
}

/// Bytes and kind of each token.
#[derive(Debug)]
pub(crate) struct TokenTable {
    bytes: Vec<u8>,
    /// End of each token in `bytes`; a token begins where the one before it ends.
    ends: Vec<u32>,
    kinds: Vec<TokenKind>,
}

impl TokenTable {
    pub(crate) fn with_capacity(tokens: usize) -> Self {
        Self {
            bytes: Vec::new(),
            ends: Vec::with_capacity(tokens.min(MAX_TOKENS)),
            kinds: Vec::with_capacity(tokens.min(MAX_TOKENS)),
        }
    }

    /// Adds the next token, whose bytes `write` appends.
    pub(crate) fn push(
        &mut self,
        kind: TokenKind,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Error> {
        if self.ends.len() >= MAX_TOKENS {
            return Err(Error::VocabularyTooLarge {
                what: "the number of tokens",
                actual: self.ends.len() as u64 + 1,
                limit: MAX_TOKENS as u64,
            });
        }
        write(&mut self.bytes);
        let end = u32::try_from(self.bytes.len()).map_err(|_| Error::VocabularyTooLarge {
            what: "the sum of all token lengths in bytes",
            actual: self.bytes.len() as u64,
            limit: u64::from(u32::MAX),
        })?;
        self.ends.push(end);
        self.kinds.push(kind);
        Ok(())
    }

    /// Number of ids, holes included.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes and kind of a token; `None` for an id that no token has.
    pub(crate) fn get(&self, id: u32) -> Option<(&[u8], TokenKind)> {
        let index = id as usize;
        let kind = *self.kinds.get(index)?;
        if kind == TokenKind::Hole {
            return None;
        }
        let start = match index {
            0 => 0,
            _ => *self.ends.get(index - 1)? as usize,
        };
        let end = *self.ends.get(index)? as usize;
        Some((self.bytes.get(start..end)?, kind))
    }
}
