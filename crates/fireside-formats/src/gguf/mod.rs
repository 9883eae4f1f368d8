//! Reads the header of a GGUF file: metadata values and the table of tensors.
//!
//! [`Gguf::parse`] needs only the first part of a file and the file's length, so that a header can
//! be read before the rest has arrived:
//!
//! ```
//! use fireside_formats::{FormatError, Gguf, write::GgufWriter};
//!
//! let mut writer = GgufWriter::new();
//! writer.metadata("llama.context_length", 2048u32)?;
//! let file = writer.to_bytes(&[])?;
//! let size = file.len() as u64;
//!
//! let mut prefix = 16;
//! let gguf = loop {
//!     match Gguf::parse(&file[..prefix], size) {
//!         Err(FormatError::NeedMoreBytes { needed, .. }) => prefix = needed as usize,
//!         other => break other?,
//!     }
//! };
//! assert_eq!(gguf.u32("llama.context_length")?, 2048);
//! # Ok::<(), FormatError>(())
//! ```

mod convert;
mod cursor;
mod parse;
pub(crate) mod split;
mod tensors;
mod value;

use std::ops::Range;

pub use convert::FromValue;
pub use split::SplitName;
pub use value::{Array, Value, ValueType};

use crate::{FormatError, TensorInfo};
use cursor::{Cursor, Place};

/// A header larger than this is refused; the largest vocabularies need about 20 MB.
pub const MAX_HEADER_BYTES: u64 = 128 << 20;
/// More metadata entries than this are refused.
pub const MAX_ENTRIES: u64 = 1 << 16;
/// More tensors than this in one file are refused.
pub const MAX_TENSORS: u64 = 1 << 18;
/// A tensor has at most this many dimensions.
pub const MAX_DIMS: u32 = 4;

/// Where tensor data begins is a multiple of this, unless `general.alignment` says otherwise.
pub(crate) const DEFAULT_ALIGNMENT: u64 = 32;
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";

/// The parsed header of a GGUF file: metadata and tensor table.
///
/// Strings and arrays stay in one copy of the header's bytes and are decoded when they are asked
/// for, so a vocabulary costs no allocation per entry.
#[derive(Debug, Clone)]
pub struct Gguf {
    version: u32,
    alignment: u64,
    data_start: u64,
    header: Box<[u8]>,
    entries: Vec<Entry>,
    /// Indices of `entries`, ordered by key.
    by_key: Vec<u32>,
    tensors: Vec<TensorInfo>,
}

/// One metadata entry: where its key and value lie in the header.
#[derive(Debug, Clone)]
struct Entry {
    key: Range<u32>,
    ty: ValueType,
    value: Range<u32>,
}

impl Gguf {
    /// Reads the header of a GGUF file of `size` bytes from `prefix`, its first bytes.
    ///
    /// The whole header is checked, tensor ranges against `size` included; tensor data is not
    /// touched and need not be in `prefix`.
    ///
    /// # Errors
    ///
    /// [`FormatError::NeedMoreBytes`] if the header is longer than `prefix`; any other error means
    /// that more bytes would not help.
    pub fn parse(prefix: &[u8], size: u64) -> Result<Self, FormatError> {
        parse::parse(prefix, size)
    }

    /// The version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Tensors start at multiples of this many bytes.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Offset in the file where tensor data begins.
    pub fn data_start(&self) -> u64 {
        self.data_start
    }

    /// The tensors in the order of the file, with byte ranges that count from its start.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    pub(crate) fn take_tensors(&mut self) -> Vec<TensorInfo> {
        std::mem::take(&mut self.tensors)
    }

    /// Every metadata entry in the order of the file.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.entries
            .iter()
            .filter_map(|entry| Some((self.key(entry), self.value(entry)?)))
    }

    /// The value of a metadata key, if the file has it.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        let entry = |index: &u32| self.entries.get(*index as usize);
        let found = self.by_key.binary_search_by(|index| {
            let other = entry(index).map_or("", |entry| self.key(entry));
            other.cmp(key)
        });
        let index = self.by_key.get(found.ok()?)?;
        self.value(entry(index)?)
    }

    /// The value of a metadata key as `T`, or `None` if the file does not have the key.
    ///
    /// # Errors
    ///
    /// [`FormatError::WrongType`] if the value is there and is no `T`.
    pub fn find<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, FormatError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match T::from_value(value) {
            Some(value) => Ok(Some(value)),
            None => Err(FormatError::WrongType {
                key: key.to_owned(),
                found: convert::describe(value),
                expected: T::EXPECTED,
            }),
        }
    }

    /// The value of a metadata key as `T`.
    ///
    /// # Errors
    ///
    /// [`FormatError::MissingKey`] if the file does not have the key, [`FormatError::WrongType`] if
    /// its value is no `T`.
    pub fn require<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, FormatError> {
        self.find(key)?.ok_or_else(|| FormatError::MissingKey {
            key: key.to_owned(),
        })
    }

    /// A string; errors as for [`Gguf::require`].
    pub fn str(&self, key: &str) -> Result<&str, FormatError> {
        self.require(key)
    }

    /// A number of 32 bits from any integer type; errors as for [`Gguf::require`].
    pub fn u32(&self, key: &str) -> Result<u32, FormatError> {
        self.require(key)
    }

    /// A number of 64 bits from any integer type; errors as for [`Gguf::require`].
    pub fn u64(&self, key: &str) -> Result<u64, FormatError> {
        self.require(key)
    }

    /// A float of either size; errors as for [`Gguf::require`].
    pub fn f32(&self, key: &str) -> Result<f32, FormatError> {
        self.require(key)
    }

    /// A boolean; errors as for [`Gguf::require`].
    pub fn bool(&self, key: &str) -> Result<bool, FormatError> {
        self.require(key)
    }

    /// An array of strings, borrowed from the header; errors as for [`Gguf::require`].
    pub fn str_array(&self, key: &str) -> Result<Vec<&str>, FormatError> {
        self.require(key)
    }

    /// An array of floats; errors as for [`Gguf::require`].
    pub fn f32_array(&self, key: &str) -> Result<Vec<f32>, FormatError> {
        self.require(key)
    }

    /// An array of integers of any type that fit 32 bits; errors as for [`Gguf::require`].
    pub fn i32_array(&self, key: &str) -> Result<Vec<i32>, FormatError> {
        self.require(key)
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        self.header
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default()
    }

    fn key(&self, entry: &Entry) -> &str {
        std::str::from_utf8(self.slice(&entry.key)).unwrap_or_default()
    }

    fn value(&self, entry: &Entry) -> Option<Value<'_>> {
        let bytes = self.slice(&entry.value);
        let mut cursor = Cursor::new(bytes, bytes.len() as u64);
        value::read(&mut cursor, entry.ty, Place::Value(""), 1).ok()
    }
}
