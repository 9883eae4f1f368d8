//! The walk through a GGUF header, in the order of the file.

use super::cursor::{Cursor, Place};
use super::tensors::{self, RawTensor};
use super::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, Entry, Gguf, MAX_ENTRIES, MAX_TENSORS, value};
use crate::FormatError;
use crate::table::{printable, shown};

/// Magic, version and two counts.
const PREAMBLE_BYTES: u64 = 4 + 4 + 8 + 8;
/// Length and type id of a key-value pair with an empty key and the smallest value.
const MIN_ENTRY_BYTES: u64 = 8 + 4 + 1;
/// Name length, number of dimensions, type id and offset of a tensor with an empty name.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;

pub(super) fn parse(prefix: &[u8], size: u64) -> Result<Gguf, FormatError> {
    if size == 0 {
        return Err(FormatError::Empty);
    }
    let prefix = usize::try_from(size)
        .ok()
        .and_then(|size| prefix.get(..size))
        .unwrap_or(prefix);
    let mut cursor = Cursor::new(prefix, size);
    let version = preamble(&mut cursor)?;
    let tensor_count = count(&mut cursor, "tensors", MIN_TENSOR_BYTES, MAX_TENSORS)?;
    let entry_count = count(
        &mut cursor,
        "metadata entries",
        MIN_ENTRY_BYTES,
        MAX_ENTRIES,
    )?;

    let mut entries = with_room(&cursor, entry_count, MIN_ENTRY_BYTES);
    for index in 0..entry_count {
        entries.push(entry(&mut cursor, index)?);
    }
    let mut gguf = Gguf {
        version,
        alignment: DEFAULT_ALIGNMENT,
        data_start: 0,
        header: prefix.get(..cursor.pos()).unwrap_or_default().into(),
        by_key: order_by_key(&entries, prefix)?,
        entries,
        tensors: Vec::new(),
    };
    gguf.alignment = alignment(&gguf)?;

    let mut raw: Vec<RawTensor<'_>> = with_room(&cursor, tensor_count, MIN_TENSOR_BYTES);
    for index in 0..tensor_count {
        raw.push(tensors::read(&mut cursor, index)?);
    }
    let header_end = cursor.pos() as u64;
    gguf.data_start = header_end
        .checked_next_multiple_of(gguf.alignment)
        .unwrap_or(u64::MAX);
    gguf.tensors = tensors::place(raw, gguf.data_start, gguf.alignment, size)?;
    Ok(gguf)
}

/// Reads magic and version.
fn preamble(cursor: &mut Cursor<'_>) -> Result<u32, FormatError> {
    let magic_len = cursor.left_in_file().min(4);
    let magic = cursor.take(magic_len, Place::Preamble)?;
    if !b"GGUF".starts_with(magic) {
        return Err(FormatError::WrongMagic {
            found: printable(magic),
        });
    }
    if cursor.left_in_file() < PREAMBLE_BYTES - magic_len {
        let (place, needed) = (Place::Preamble.to_string(), PREAMBLE_BYTES);
        return Err(FormatError::Truncated {
            place,
            needed,
            size: magic_len + cursor.left_in_file(),
        });
    }
    let version = cursor.u32(Place::Preamble)?;
    match version {
        2 | 3 => Ok(version),
        other if (1..=3).contains(&other.swap_bytes()) => Err(FormatError::BigEndian),
        version => Err(FormatError::UnsupportedVersion { version }),
    }
}

/// Reads a count of things that take at least `min_bytes` each.
fn count(
    cursor: &mut Cursor<'_>,
    what: &'static str,
    min_bytes: u64,
    most: u64,
) -> Result<u64, FormatError> {
    let count = cursor.u64(Place::Preamble)?;
    let limit = most.min(cursor.left_in_file() / min_bytes);
    if count > limit {
        return Err(FormatError::CountTooLarge { what, count, limit });
    }
    Ok(count)
}

/// A vector with room for `count` items, or for as many as the prefix can describe if that is less.
fn with_room<T>(cursor: &Cursor<'_>, count: u64, min_bytes: u64) -> Vec<T> {
    let described = cursor.left_in_prefix() as u64 / min_bytes;
    Vec::with_capacity(usize::try_from(count.min(described)).unwrap_or(0))
}

fn entry(cursor: &mut Cursor<'_>, index: u64) -> Result<Entry, FormatError> {
    let key = cursor.text(Place::Key(index))?;
    // The header is at most MAX_HEADER_BYTES long, so that its offsets fit 32 bits.
    let key_end = cursor.pos() as u32;
    let ty = value::read_type(cursor, Place::Value(key))?;
    let value_start = cursor.pos() as u32;
    value::read(cursor, ty, Place::Value(key), 1)?;
    let value_end = cursor.pos() as u32;
    Ok(Entry {
        key: key_end - key.len() as u32..key_end,
        ty,
        value: value_start..value_end,
    })
}

/// Indices of the entries in the order of their keys.
fn order_by_key(entries: &[Entry], bytes: &[u8]) -> Result<Vec<u32>, FormatError> {
    let key = |index: u32| {
        let range = entries
            .get(index as usize)
            .map(|entry| entry.key.clone())
            .unwrap_or_default();
        bytes
            .get(range.start as usize..range.end as usize)
            .unwrap_or_default()
    };
    let mut order: Vec<u32> = (0..).take(entries.len()).collect();
    order.sort_unstable_by_key(|index| key(*index));
    for pair in order.windows(2) {
        if let [a, b] = *pair
            && key(a) == key(b)
        {
            let key = shown(&String::from_utf8_lossy(key(a)));
            return Err(FormatError::DuplicateKey { key });
        }
    }
    Ok(order)
}

fn alignment(gguf: &Gguf) -> Result<u64, FormatError> {
    let alignment = gguf
        .find::<u32>(ALIGNMENT_KEY)?
        .map_or(DEFAULT_ALIGNMENT, u64::from);
    if !alignment.is_power_of_two() {
        return Err(FormatError::BadAlignment { alignment });
    }
    Ok(alignment)
}
