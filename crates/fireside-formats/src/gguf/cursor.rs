//! A checked reader over the first bytes of a file whose total length is known.

use std::fmt;

use super::MAX_HEADER_BYTES;
use crate::FormatError;
use crate::table::shown;

/// What is being read, for error messages; costs nothing until it is printed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    Preamble,
    Key(u64),
    Value(&'a str),
    TensorName(u64),
    Tensor(&'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preamble => f.write_str("the GGUF preamble"),
            Self::Key(index) => write!(f, "metadata key number {index}"),
            Self::Value(key) => write!(f, "metadata key '{}'", shown(key)),
            Self::TensorName(index) => write!(f, "the name of tensor number {index}"),
            Self::Tensor(name) => write!(f, "the description of tensor '{}'", shown(name)),
        }
    }
}

/// Reads little-endian values from `bytes`, the first part of a file of `size` bytes.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
    size: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], size: u64) -> Self {
        Self {
            bytes,
            pos: 0,
            size,
        }
    }

    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    /// Bytes of the file after the current position.
    pub(super) fn left_in_file(&self) -> u64 {
        self.size.saturating_sub(self.pos as u64)
    }

    /// Bytes of the prefix after the current position: what can be read without another call.
    pub(super) fn left_in_prefix(&self) -> usize {
        self.bytes.len().saturating_sub(self.pos)
    }

    pub(super) fn take(&mut self, len: u64, place: Place<'_>) -> Result<&'a [u8], FormatError> {
        let needed = (self.pos as u64).saturating_add(len);
        if needed > self.size {
            let place = place.to_string();
            return Err(FormatError::Truncated {
                place,
                needed,
                size: self.size,
            });
        }
        if needed > MAX_HEADER_BYTES {
            return Err(FormatError::HeaderTooLarge {
                limit: MAX_HEADER_BYTES,
            });
        }
        let taken = usize::try_from(needed)
            .ok()
            .and_then(|end| self.bytes.get(self.pos..end));
        let Some(taken) = taken else {
            let got = self.bytes.len() as u64;
            return Err(FormatError::NeedMoreBytes { needed, got });
        };
        self.pos += taken.len();
        Ok(taken)
    }

    /// The bytes between this cursor and `later`, a later state of it.
    pub(super) fn since(&self, later: &Self) -> &'a [u8] {
        self.bytes.get(self.pos..later.pos).unwrap_or_default()
    }

    fn array<const N: usize>(&mut self, place: Place<'_>) -> Result<[u8; N], FormatError> {
        let taken = self.take(N as u64, place)?;
        let mut array = [0; N];
        array.copy_from_slice(taken);
        Ok(array)
    }

    pub(super) fn u8(&mut self, place: Place<'_>) -> Result<u8, FormatError> {
        Ok(u8::from_le_bytes(self.array(place)?))
    }

    pub(super) fn u16(&mut self, place: Place<'_>) -> Result<u16, FormatError> {
        Ok(u16::from_le_bytes(self.array(place)?))
    }

    pub(super) fn u32(&mut self, place: Place<'_>) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array(place)?))
    }

    pub(super) fn u64(&mut self, place: Place<'_>) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array(place)?))
    }

    /// A string of GGUF: its length as u64, then its bytes.
    pub(super) fn string(&mut self, place: Place<'_>) -> Result<&'a [u8], FormatError> {
        let len = self.u64(place)?;
        self.take(len, place)
    }

    /// A string that must be text.
    pub(super) fn text(&mut self, place: Place<'_>) -> Result<&'a str, FormatError> {
        let bytes = self.string(place)?;
        std::str::from_utf8(bytes).map_err(|_| FormatError::NotUtf8 {
            place: place.to_string(),
        })
    }
}
