//! Encodes f32 values: as blocks of Q8_0, Q4_0 and Q4_1, or as plain floats.

use half::f16;

use crate::{DType, FormatError};

/// The types that [`quantize`] writes.
const ENCODED: [DType; 5] = [
    DType::F32,
    DType::F16,
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_1,
];

/// Appends `values`, a row or any whole number of `dtype`'s blocks, to `out` in that format: F32, F16,
/// Q8_0, Q4_0 or Q4_1.
///
/// Every byte equals that of `gguf.quants.quantize` in the `gguf` Python package, with two exceptions:
/// the sign of a zero minimum of Q4_1 where a block has zeros of both signs, and blocks whose values
/// are so small that the inverse of their scale is infinite. Those become zeros here, and are undefined
/// there; their scale is zero in both.
///
/// # Errors
///
/// [`FormatError::NotEncodable`] for another type, [`FormatError::PartialValues`] if the values end
/// inside a block, [`FormatError::ValueOutOfRange`] for a value that is not finite or that the type's
/// 16-bit floats cannot reach. `out` has no more than the blocks before it then.
pub fn quantize(dtype: DType, values: &[f32], out: &mut Vec<u8>) -> Result<(), FormatError> {
    if !ENCODED.contains(&dtype) {
        return Err(FormatError::NotEncodable { dtype });
    }
    let block = dtype.block_len();
    let (blocks, rest) = values.as_chunks::<32>();
    if block == 32 && !rest.is_empty() {
        return Err(FormatError::PartialValues {
            dtype,
            elements: values.len(),
            block,
        });
    }
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(out_of_range(dtype, *value));
    }
    let bytes = (values.len() / block).saturating_mul(dtype.block_bytes());
    out.reserve(bytes);
    match dtype {
        DType::Q8_0 => blocks.iter().try_for_each(|block| q8_0(block, out)),
        DType::Q4_0 => blocks.iter().try_for_each(|block| q4_0(block, out)),
        DType::Q4_1 => blocks.iter().try_for_each(|block| q4_1(block, out)),
        DType::F16 => values
            .iter()
            .try_for_each(|value| put_half(DType::F16, *value, *value, out)),
        _ => {
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            Ok(())
        }
    }
}

fn out_of_range(dtype: DType, value: f32) -> FormatError {
    FormatError::ValueOutOfRange { dtype, value }
}

/// Appends a number as a 16-bit float; `of` is the value it comes from.
fn put_half(dtype: DType, number: f32, of: f32, out: &mut Vec<u8>) -> Result<(), FormatError> {
    let half = f16::from_f32(number);
    if !half.is_finite() {
        return Err(out_of_range(dtype, of));
    }
    out.extend(half.to_le_bytes());
    Ok(())
}

/// One over a scale; zero where that is no number to multiply with.
fn inverse(scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// The first of the values that are largest in size.
fn largest(block: &[f32; 32]) -> f32 {
    let first = block[0];
    block.iter().fold(
        first,
        |most, v| if v.abs() > most.abs() { *v } else { most },
    )
}

/// Appends 32 numbers of 0 to 15, the second half above the first.
fn put_nibbles(q: impl Fn(f32) -> f32, block: &[f32; 32], out: &mut Vec<u8>) {
    // Truncates; what lies past the ends goes to them.
    let nibble = |v: &f32| (q(*v) as u8).min(15);
    let (low, high) = block.split_at(16);
    let pairs = low.iter().zip(high);
    out.extend(pairs.map(|(low, high)| nibble(low) | nibble(high) << 4));
}

fn q8_0(block: &[f32; 32], out: &mut Vec<u8>) -> Result<(), FormatError> {
    let most = largest(block);
    let scale = most.abs() / 127.0;
    put_half(DType::Q8_0, scale, most, out)?;
    let inverse = inverse(scale);
    // Halves are rounded away from zero.
    let quants = block.iter().map(|v| (v * inverse).round() as i8);
    out.extend(quants.map(i8::cast_unsigned));
    Ok(())
}

fn q4_0(block: &[f32; 32], out: &mut Vec<u8>) -> Result<(), FormatError> {
    let most = largest(block);
    let scale = most / -8.0;
    put_half(DType::Q4_0, scale, most, out)?;
    let inverse = inverse(scale);
    put_nibbles(|v| v * inverse + 8.5, block, out);
    Ok(())
}

fn q4_1(block: &[f32; 32], out: &mut Vec<u8>) -> Result<(), FormatError> {
    let (mut min, mut max) = (block[0], block[0]);
    for v in block {
        if *v < min {
            min = *v;
        }
        if *v > max {
            max = *v;
        }
    }
    let scale = (max - min) / 15.0;
    put_half(DType::Q4_1, scale, max, out)?;
    put_half(DType::Q4_1, min, min, out)?;
    let inverse = inverse(scale);
    put_nibbles(|v| (v - min) * inverse + 0.5, block, out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dequantize;

    const QUANTIZED: [DType; 3] = [DType::Q8_0, DType::Q4_0, DType::Q4_1];

    fn encoded(dtype: DType, values: &[f32]) -> Result<Vec<u8>, FormatError> {
        let mut out = Vec::new();
        quantize(dtype, values, &mut out)?;
        Ok(out)
    }

    #[test]
    fn widths_that_are_no_blocks_are_refused_with_the_width() {
        for dtype in QUANTIZED {
            let error = encoded(dtype, &[1.0; 40]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("40 values are not a whole number of {dtype} blocks of 32")
            );
        }
        assert_eq!(encoded(DType::F16, &[1.0; 3]).unwrap().len(), 6);
    }

    #[test]
    fn values_that_the_type_cannot_hold_are_named() {
        for dtype in QUANTIZED.into_iter().chain([DType::F16, DType::F32]) {
            for bad in [f32::NAN, f32::INFINITY] {
                let mut values = [0.5; 32];
                values[7] = bad;
                let error = encoded(dtype, &values).unwrap_err();
                assert!(
                    matches!(error, FormatError::ValueOutOfRange { .. }),
                    "{error}"
                );
            }
        }
        for dtype in QUANTIZED.into_iter().chain([DType::F16]) {
            let error = encoded(dtype, &[1e9; 32]).unwrap_err().to_string();
            assert!(error.starts_with("value 1000000000 "), "{error}");
        }
        let whole_range = [f32::MAX, -f32::MAX].repeat(16);
        assert!(encoded(DType::Q4_1, &whole_range).is_err());
    }

    #[test]
    fn types_without_an_encoder_are_refused() {
        assert_eq!(
            encoded(DType::Q6_K, &[0.0; 256]).unwrap_err().to_string(),
            "Q6_K cannot be made of f32, expected F32, F16, Q8_0, Q4_0 or Q4_1"
        );
    }

    #[test]
    fn values_too_small_for_a_scale_become_zeros() {
        for dtype in QUANTIZED {
            let tiny = [f32::from_bits(1), -f32::from_bits(3)].repeat(16);
            let mut values = vec![1.0; 32];
            dequantize(dtype, &encoded(dtype, &tiny).unwrap(), &mut values).unwrap();
            assert!(values.iter().all(|v| *v == 0.0), "{dtype}: {values:?}");
        }
    }
}
