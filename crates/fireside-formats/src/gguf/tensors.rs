//! The tensor table of a GGUF header: reading its entries and placing them in the file.

use super::MAX_DIMS;
use super::cursor::{Cursor, Place};
use crate::table::{check_table, row_major, shown};
use crate::{DType, FormatError, TensorInfo};

/// One entry of the table, as the file has it: dimensions innermost first, offset from the start of
/// tensor data.
pub(super) struct RawTensor<'a> {
    name: &'a str,
    dims: [u64; MAX_DIMS as usize],
    rank: usize,
    dtype: DType,
    offset: u64,
}

impl RawTensor<'_> {
    fn dims(&self) -> &[u64] {
        self.dims.get(..self.rank).unwrap_or_default()
    }
}

/// Reads one entry of the table.
pub(super) fn read<'a>(cursor: &mut Cursor<'a>, index: u64) -> Result<RawTensor<'a>, FormatError> {
    let name = cursor.text(Place::TensorName(index))?;
    let place = Place::Tensor(name);
    let rank = cursor.u32(place)?;
    if rank > MAX_DIMS {
        return Err(FormatError::TooManyDims {
            tensor: shown(name),
            dims: rank.into(),
            limit: MAX_DIMS.into(),
        });
    }
    let rank = rank as usize;
    let mut dims = [1; MAX_DIMS as usize];
    for dim in dims.iter_mut().take(rank) {
        *dim = cursor.u64(place)?;
    }
    let id = cursor.u32(place)?;
    let dtype = DType::from_gguf_id(id).ok_or_else(|| unknown_type(name, id))?;
    let offset = cursor.u64(place)?;
    Ok(RawTensor {
        name,
        dims,
        rank,
        dtype,
        offset,
    })
}

fn unknown_type(name: &str, id: u32) -> FormatError {
    let tensor = shown(name);
    match DType::unsupported_gguf_name(id) {
        Some(name) => FormatError::UnsupportedType { tensor, name },
        None => FormatError::UnknownType {
            tensor,
            id: id.to_string(),
        },
    }
}

/// Turns entries into tensors of the file, in the order of the file.
pub(super) fn place(
    raw: Vec<RawTensor<'_>>,
    data_start: u64,
    alignment: u64,
    size: u64,
) -> Result<Vec<TensorInfo>, FormatError> {
    let mut tensors = Vec::with_capacity(raw.len());
    for tensor in raw {
        tensors.push(place_one(&tensor, data_start, alignment, size)?);
    }
    check_table(&tensors)?;
    Ok(tensors)
}

fn place_one(
    raw: &RawTensor<'_>,
    data_start: u64,
    alignment: u64,
    size: u64,
) -> Result<TensorInfo, FormatError> {
    let tensor = || shown(raw.name);
    let row = raw.dims().first().copied().unwrap_or(1);
    let block = raw.dtype.block_len();
    if !row.is_multiple_of(block as u64) {
        let dtype = raw.dtype;
        return Err(FormatError::RowNotBlocks {
            tensor: tensor(),
            row,
            block,
            dtype,
        });
    }
    let overflow = || FormatError::SizeOverflow {
        tensor: tensor(),
        dims: raw.dims().to_vec(),
    };
    let shape = row_major(raw.dims().iter().rev()).ok_or_else(overflow)?;
    let elements = raw
        .dims()
        .iter()
        .try_fold(1, |n: u64, dim| n.checked_mul(*dim));
    let bytes = elements
        .and_then(|n| raw.dtype.bytes_for(n))
        .ok_or_else(overflow)?;
    if !raw.offset.is_multiple_of(alignment) {
        return Err(FormatError::Unaligned {
            tensor: tensor(),
            offset: raw.offset,
            alignment,
        });
    }
    let start = data_start.saturating_add(raw.offset);
    let end = start.saturating_add(bytes);
    if end > size && bytes > 0 {
        return Err(FormatError::TensorOutOfFile {
            tensor: tensor(),
            end,
            size,
        });
    }
    let range = if bytes == 0 { 0..0 } else { start..end };
    let name = raw.name.to_owned();
    Ok(TensorInfo {
        name,
        shape,
        dtype: raw.dtype,
        shard: 0,
        range,
    })
}
