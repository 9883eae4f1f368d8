//! Writes GGUF files: metadata and a table of tensors first, then the data of each tensor in turn.
//!
//! ```
//! use fireside_formats::{DType, Gguf, write::GgufWriter};
//!
//! let mut writer = GgufWriter::new();
//! writer.metadata("general.architecture", "llama")?;
//! writer.metadata("tokenizer.ggml.tokens", vec!["a", "b"])?;
//! writer.tensor("output.weight", &[2, 32], DType::Q4_0)?;
//!
//! let mut out = Vec::new();
//! let mut data = writer.start(&mut out)?;
//! data.tensor(&[0; 36])?;
//! data.finish()?;
//!
//! let gguf = Gguf::parse(&out, out.len() as u64)?;
//! assert_eq!(gguf.tensors()[0].shape, [2, 32]);
//! # Ok::<(), fireside_formats::FormatError>(())
//! ```

mod value;

use std::collections::BTreeSet;
use std::io::Write;

pub use value::MetaValue;

use crate::gguf::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAX_DIMS};
use crate::table::shown;
use crate::{DType, FormatError};

/// Collects what goes into the header of a GGUF file.
#[derive(Debug, Clone)]
pub struct GgufWriter {
    version: u32,
    alignment: u64,
    entries: Vec<(String, MetaValue)>,
    tensors: Vec<Tensor>,
    names: BTreeSet<(bool, String)>,
    data_bytes: u64,
}

#[derive(Debug, Clone)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    dtype: DType,
    offset: u64,
    bytes: u64,
}

impl Default for GgufWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl GgufWriter {
    /// A writer of version 3 without metadata or tensors.
    pub fn new() -> Self {
        Self {
            version: 3,
            alignment: DEFAULT_ALIGNMENT,
            entries: Vec::new(),
            tensors: Vec::new(),
            names: BTreeSet::new(),
            data_bytes: 0,
        }
    }

    /// Sets the version of the format, 2 or 3.
    ///
    /// # Errors
    ///
    /// [`FormatError::UnsupportedVersion`] for any other.
    pub fn version(&mut self, version: u32) -> Result<&mut Self, FormatError> {
        if !matches!(version, 2 | 3) {
            return Err(FormatError::UnsupportedVersion { version });
        }
        self.version = version;
        Ok(self)
    }

    /// Adds a metadata entry. `general.alignment` also sets where tensors start and must come before
    /// the first tensor.
    ///
    /// # Errors
    ///
    /// [`FormatError::DuplicateKey`] if the key was added before; [`FormatError::NotWritable`] for an
    /// array of mixed types; [`FormatError::BadAlignment`] for an alignment that is no power of two.
    pub fn metadata(
        &mut self,
        key: &str,
        value: impl Into<MetaValue>,
    ) -> Result<&mut Self, FormatError> {
        let value = value.into();
        let refuse = |reason: &str| FormatError::NotWritable {
            what: format!("metadata key '{}'", shown(key)),
            reason: reason.to_owned(),
        };
        if !value.is_uniform() {
            return Err(refuse("its array has elements of different types"));
        }
        if key == ALIGNMENT_KEY {
            let MetaValue::U32(alignment) = value else {
                return Err(refuse("the alignment must be a u32"));
            };
            if !self.tensors.is_empty() {
                return Err(refuse("the alignment must come before the tensors"));
            }
            if !alignment.is_power_of_two() {
                return Err(FormatError::BadAlignment {
                    alignment: alignment.into(),
                });
            }
            self.alignment = alignment.into();
        }
        if !self.names.insert((false, key.to_owned())) {
            return Err(FormatError::DuplicateKey { key: shown(key) });
        }
        self.entries.push((key.to_owned(), value));
        Ok(self)
    }

    /// Declares a tensor; its data is written later, in the order of these calls. `shape` is
    /// row-major, outermost dimension first.
    ///
    /// # Errors
    ///
    /// [`FormatError::DuplicateTensor`], [`FormatError::TooManyDims`], [`FormatError::RowNotBlocks`],
    /// [`FormatError::SizeOverflow`] for what the reader would refuse, [`FormatError::NotWritable`]
    /// for a type that GGUF does not have.
    pub fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        dtype: DType,
    ) -> Result<&mut Self, FormatError> {
        let tensor = || shown(name);
        if dtype.gguf_id().is_none() {
            let reason = format!("GGUF has no type {dtype}");
            return Err(FormatError::NotWritable {
                what: format!("tensor '{}'", tensor()),
                reason,
            });
        }
        if shape.len() > MAX_DIMS as usize {
            let (dims, limit) = (shape.len() as u64, MAX_DIMS.into());
            return Err(FormatError::TooManyDims {
                tensor: tensor(),
                dims,
                limit,
            });
        }
        let (row, block) = (shape.last().map_or(1, |row| *row as u64), dtype.block_len());
        if !row.is_multiple_of(block as u64) {
            return Err(FormatError::RowNotBlocks {
                tensor: tensor(),
                row,
                block,
                dtype,
            });
        }
        let elements = shape
            .iter()
            .try_fold(1_u64, |n, dim| n.checked_mul(*dim as u64));
        let bytes = elements.and_then(|n| dtype.bytes_for(n));
        let offset = self.data_bytes;
        let end = bytes.and_then(|n| {
            offset
                .checked_add(n)?
                .checked_next_multiple_of(self.alignment)
        });
        let (Some(bytes), Some(end)) = (bytes, end) else {
            let dims = shape.iter().map(|dim| *dim as u64).collect();
            return Err(FormatError::SizeOverflow {
                tensor: tensor(),
                dims,
            });
        };
        if !self.names.insert((true, name.to_owned())) {
            return Err(FormatError::DuplicateTensor { tensor: tensor() });
        }
        let (name, shape) = (name.to_owned(), shape.to_vec());
        self.tensors.push(Tensor {
            name,
            shape,
            dtype,
            offset,
            bytes,
        });
        self.data_bytes = end;
        Ok(self)
    }

    /// Writes the header to `out` and hands it on for the data of the tensors.
    ///
    /// # Errors
    ///
    /// [`FormatError::Write`] if `out` fails.
    pub fn start<W: Write>(&self, mut out: W) -> Result<GgufData<'_, W>, FormatError> {
        let header = self.header();
        write_all(&mut out, &header)?;
        let mut data = GgufData {
            out,
            writer: self,
            next: 0,
        };
        data.pad(header.len() as u64)?;
        Ok(data)
    }

    /// The whole file in memory, with `data` for each tensor in order.
    ///
    /// # Errors
    ///
    /// Those of [`GgufData::tensor`] and [`GgufData::finish`].
    pub fn to_bytes(&self, data: &[&[u8]]) -> Result<Vec<u8>, FormatError> {
        let mut out = Vec::new();
        let mut writer = self.start(&mut out)?;
        for tensor in data {
            writer.tensor(tensor)?;
        }
        writer.finish()?;
        Ok(out)
    }

    fn header(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            value::put_string(&mut out, key.as_bytes());
            out.extend((value.value_type() as u32).to_le_bytes());
            value.put(&mut out);
        }
        for tensor in &self.tensors {
            value::put_string(&mut out, tensor.name.as_bytes());
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            for dim in tensor.shape.iter().rev() {
                out.extend((*dim as u64).to_le_bytes());
            }
            out.extend(tensor.dtype.gguf_id().unwrap_or_default().to_le_bytes());
            out.extend(tensor.offset.to_le_bytes());
        }
        out
    }
}

/// Takes the data of the tensors in the order in which they were declared.
#[derive(Debug)]
pub struct GgufData<'a, W> {
    out: W,
    writer: &'a GgufWriter,
    next: usize,
}

impl<W: Write> GgufData<'_, W> {
    /// Writes the data of the next tensor.
    ///
    /// # Errors
    ///
    /// [`FormatError::NotWritable`] if `bytes` is not of the size that shape and type need, or no
    /// tensor is left; [`FormatError::Write`] if the output fails.
    pub fn tensor(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let Some(tensor) = self.writer.tensors.get(self.next) else {
            let reason = "every declared tensor has its data".to_owned();
            return Err(FormatError::NotWritable {
                what: "more tensor data".to_owned(),
                reason,
            });
        };
        if bytes.len() as u64 != tensor.bytes {
            let reason = format!("takes {} bytes, got {}", tensor.bytes, bytes.len());
            let what = format!("tensor '{}'", shown(&tensor.name));
            return Err(FormatError::NotWritable { what, reason });
        }
        write_all(&mut self.out, bytes)?;
        self.next += 1;
        self.pad(bytes.len() as u64)
    }

    /// Checks that every tensor has its data, flushes, and returns the output.
    ///
    /// # Errors
    ///
    /// [`FormatError::NotWritable`] if a tensor is without data; [`FormatError::Write`] if the
    /// output fails.
    pub fn finish(mut self) -> Result<W, FormatError> {
        if let Some(tensor) = self.writer.tensors.get(self.next) {
            let what = format!("tensor '{}'", shown(&tensor.name));
            return Err(FormatError::NotWritable {
                what,
                reason: "its data is missing".to_owned(),
            });
        }
        self.out.flush().map_err(|error| FormatError::Write {
            reason: error.to_string(),
        })?;
        Ok(self.out)
    }

    /// Fills up to the alignment after `written` bytes that began aligned.
    fn pad(&mut self, written: u64) -> Result<(), FormatError> {
        let mut missing = written.wrapping_neg() & (self.writer.alignment - 1);
        while missing > 0 {
            let zeros = [0; 64];
            let some = zeros.get(..missing.min(64) as usize).unwrap_or(&zeros);
            write_all(&mut self.out, some)?;
            missing -= some.len() as u64;
        }
        Ok(())
    }
}

fn write_all(out: &mut impl Write, bytes: &[u8]) -> Result<(), FormatError> {
    out.write_all(bytes).map_err(|error| FormatError::Write {
        reason: error.to_string(),
    })
}
