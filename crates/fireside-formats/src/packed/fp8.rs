//! 8-bit floats with scales, as 16-bit floats.

use half::f16;

use super::{bad, find, floats};
use crate::{DType, FormatError, TensorInfo, TensorSource};

/// Rows and columns that share a scale where scales are a matrix.
const SQUARE: usize = 128;

/// The weight that a tensor of 8-bit floats stands for, and the name of its scales; `None` for any
/// other tensor.
pub(super) fn described(
    source: &dyn TensorSource,
    info: &TensorInfo,
) -> Result<Option<(TensorInfo, String)>, FormatError> {
    if info.dtype != DType::F8_E4M3 {
        return Ok(None);
    }
    let scale = ["weight_scale_inv", "weight_scale"]
        .into_iter()
        .filter_map(|part| Some(format!("{}.{part}", info.name.strip_suffix(".weight")?)))
        .find(|name| find(source, name).is_ok())
        .ok_or_else(|| {
            bad(
                &info.name,
                "its scales are missing: weight_scale_inv or weight_scale",
            )
        })?;
    let described = TensorInfo {
        dtype: DType::F16,
        ..info.clone()
    };
    side(info, &find(source, &scale)?.shape, &scale)?;
    Ok(Some((described, scale)))
}

/// Rows and columns that share a scale.
fn side(info: &TensorInfo, scales: &[usize], name: &str) -> Result<(usize, usize), FormatError> {
    let &[rows, columns] = info.shape.as_slice() else {
        return Err(bad(&info.name, "it is not a matrix"));
    };
    let squares = [rows.div_ceil(SQUARE), columns.div_ceil(SQUARE)];
    match scales {
        [] | [1] | [1, 1] => Ok((rows.max(1), columns.max(1))),
        [own] | [own, 1] if *own == rows => Ok((1, columns.max(1))),
        own if *own == squares => Ok((SQUARE, SQUARE)),
        own => Err(bad(
            name,
            format!("it has shape {own:?}; expected [1], [{rows}, 1] or {squares:?}"),
        )),
    }
}

/// The values as 16-bit floats.
pub(super) fn halves(
    source: &dyn TensorSource,
    tensor: &str,
    scale: &str,
) -> Result<Vec<u8>, FormatError> {
    let info = find(source, tensor)?;
    let (rows, columns) = side(info, &find(source, scale)?.shape, scale)?;
    let scales = floats(source, scale)?;
    let bytes = source.raw(tensor)?;
    let width = info.shape.last().copied().unwrap_or(1).max(1);
    let per_row = width.div_ceil(columns);
    let mut out = Vec::with_capacity(bytes.len().saturating_mul(2));
    for (row, values) in bytes.chunks_exact(width).enumerate() {
        for (column, value) in values.iter().enumerate() {
            let scale = scales[row / rows * per_row + column / columns];
            let value = f16::from_f32(e4m3(*value) * scale);
            if !value.is_finite() {
                return Err(bad(
                    tensor,
                    "its values times their scales are no 16-bit floats",
                ));
            }
            out.extend(value.to_le_bytes());
        }
    }
    Ok(out)
}

/// A float with 4 bits of exponent (less 7) and 3 of mantissa; no infinities, one pattern for NaN.
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (u32::from(byte >> 3) & 0x0F, u32::from(byte) & 0x07);
    let size = match (exponent, mantissa) {
        (0x0F, 0x07) => f32::NAN,
        (0, m) => m as f32 / 512.0,
        (e, m) => f32::from_bits(((e + 120) << 23) | (m << 20)),
    };
    if byte & 0x80 == 0 { size } else { -size }
}
