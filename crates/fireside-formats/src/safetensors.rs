//! Reads the header of a safetensors file: a JSON table of tensors in front of their bytes.
//!
//! As with GGUF, the header can be read from the first part of a file:
//!
//! ```
//! use fireside_formats::{FormatError, Safetensors};
//!
//! let json = br#"{"w":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#;
//! let mut file = (json.len() as u64).to_le_bytes().to_vec();
//! file.extend_from_slice(json);
//! file.extend_from_slice(&[0, 60, 0, 64]);
//!
//! let header = Safetensors::parse(&file[..file.len() - 4], file.len() as u64)?;
//! assert_eq!(header.tensors()[0].shape, [2]);
//! # Ok::<(), FormatError>(())
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::table::{check_table, printable, row_major, shown};
use crate::{DType, FormatError, TensorInfo};

/// A header larger than this is refused; 16 MiB describe over 100,000 tensors.
pub const MAX_HEADER_BYTES: u64 = 16 << 20;
/// A tensor has at most this many dimensions.
pub const MAX_DIMS: usize = 8;

/// Bytes in front of the header: its length.
const LENGTH_BYTES: u64 = 8;

/// The parsed header of a safetensors file.
#[derive(Debug, Clone)]
pub struct Safetensors {
    tensors: Vec<TensorInfo>,
    metadata: BTreeMap<String, String>,
}

impl Safetensors {
    /// Reads the header of a safetensors file of `size` bytes from `prefix`, its first bytes.
    ///
    /// Integer tensors and other carried types are listed; a type without a name here is an error.
    ///
    /// # Errors
    ///
    /// [`FormatError::NeedMoreBytes`] if the header is longer than `prefix`; any other error means
    /// that more bytes would not help.
    pub fn parse(prefix: &[u8], size: u64) -> Result<Self, FormatError> {
        let json = header_json(prefix, size)?;
        let data_start = LENGTH_BYTES + json.len() as u64;
        let header: Header<'_> =
            serde_json::from_slice(json).map_err(|error| FormatError::BadHeader {
                reason: error.to_string(),
            })?;
        let mut tensors = Vec::with_capacity(header.entries.len());
        for (name, entry) in &header.entries {
            tensors.push(place(name, entry, data_start, size)?);
        }
        check_table(&tensors)?;
        tensors.sort_by_key(|tensor| tensor.range.start);
        Ok(Self {
            tensors,
            metadata: header.metadata,
        })
    }

    /// The tensors in the order of the file, with byte ranges that count from its start.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The free-form strings under `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    pub(crate) fn into_tensors(self) -> Vec<TensorInfo> {
        self.tensors
    }
}

/// The JSON text of the header, once its length has been checked.
fn header_json(prefix: &[u8], size: u64) -> Result<&[u8], FormatError> {
    if size == 0 {
        return Err(FormatError::Empty);
    }
    if size < LENGTH_BYTES {
        let place = "the length of the safetensors header".to_owned();
        return Err(FormatError::Truncated {
            place,
            needed: LENGTH_BYTES,
            size,
        });
    }
    let got = prefix.len() as u64;
    let Some((length, rest)) = prefix.split_first_chunk::<{ LENGTH_BYTES as usize }>() else {
        return Err(FormatError::NeedMoreBytes {
            needed: LENGTH_BYTES,
            got,
        });
    };
    let claimed = u64::from_le_bytes(*length);
    if claimed > size - LENGTH_BYTES {
        return Err(FormatError::HeaderOutOfFile { claimed, size });
    }
    if claimed > MAX_HEADER_BYTES {
        let limit = MAX_HEADER_BYTES;
        return Err(FormatError::SafetensorsHeaderTooLarge { claimed, limit });
    }
    let json = usize::try_from(claimed)
        .ok()
        .and_then(|claimed| rest.get(..claimed));
    let json = json.ok_or(FormatError::NeedMoreBytes {
        needed: LENGTH_BYTES + claimed,
        got,
    })?;
    if json.first() != Some(&b'{') {
        let reason = format!("starts with {}, expected '{{'", printable(json));
        return Err(FormatError::BadHeader { reason });
    }
    Ok(json)
}

fn place(
    name: &str,
    entry: &Entry<'_>,
    data_start: u64,
    size: u64,
) -> Result<TensorInfo, FormatError> {
    let tensor = || shown(name);
    let dims = entry
        .shape
        .dims
        .get(..entry.shape.rank)
        .unwrap_or(&entry.shape.dims);
    if entry.shape.rank > MAX_DIMS {
        let (dims, limit) = (entry.shape.rank as u64, MAX_DIMS as u64);
        return Err(FormatError::TooManyDims {
            tensor: tensor(),
            dims,
            limit,
        });
    }
    let dtype =
        DType::from_safetensors_name(&entry.dtype).ok_or_else(|| FormatError::UnknownType {
            tensor: tensor(),
            id: shown(&entry.dtype),
        })?;
    let overflow = || FormatError::SizeOverflow {
        tensor: tensor(),
        dims: dims.to_vec(),
    };
    let shape = row_major(dims.iter()).ok_or_else(overflow)?;
    let elements = dims.iter().try_fold(1, |n: u64, dim| n.checked_mul(*dim));
    let expected = elements
        .and_then(|n| dtype.bytes_for(n))
        .ok_or_else(overflow)?;
    let (start, end) = entry.data_offsets;
    let Some(found) = end.checked_sub(start) else {
        return Err(FormatError::BackwardOffsets {
            tensor: tensor(),
            start,
            end,
        });
    };
    if found != expected {
        let shape = dims.to_vec();
        return Err(FormatError::SizeMismatch {
            tensor: tensor(),
            shape,
            dtype,
            expected,
            found,
        });
    }
    let range = data_start.saturating_add(start)..data_start.saturating_add(end);
    if range.end > size {
        return Err(FormatError::TensorOutOfFile {
            tensor: tensor(),
            end: range.end,
            size,
        });
    }
    Ok(TensorInfo {
        name: name.to_owned(),
        shape,
        dtype,
        shard: 0,
        range,
    })
}

#[derive(serde::Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// Dimensions without an allocation: the first [`MAX_DIMS`], and how many there were.
struct Shape {
    dims: [u64; MAX_DIMS],
    rank: usize,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dims;
        impl<'de> Visitor<'de> for Dims {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut shape = Shape {
                    dims: [0; MAX_DIMS],
                    rank: 0,
                };
                while let Some(dim) = seq.next_element()? {
                    if let Some(slot) = shape.dims.get_mut(shape.rank) {
                        *slot = dim;
                    }
                    shape.rank += 1;
                }
                Ok(shape)
            }
        }
        deserializer.deserialize_seq(Dims)
    }
}

/// The header's JSON object, in which a name may come more than once.
struct Header<'a> {
    entries: Vec<(Cow<'a, str>, Entry<'a>)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Header<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Header<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header<'de>, A::Error> {
                let mut header = Header {
                    entries: Vec::new(),
                    metadata: BTreeMap::new(),
                };
                while let Some(Name(name)) = map.next_key()? {
                    if name == "__metadata__" {
                        header.metadata = map.next_value::<Option<_>>()?.unwrap_or_default();
                    } else {
                        let entry = map.next_value().map_err(|error| {
                            A::Error::custom(format!("tensor '{}': {error}", shown(&name)))
                        })?;
                        header.entries.push((name, entry));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A key that is borrowed from the text unless it holds escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
