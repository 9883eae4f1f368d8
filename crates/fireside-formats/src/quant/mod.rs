//! Decodes quantized blocks, to f32 or to small integers with their scale and minimum, and encodes some.
//!
//! Both ways of decoding go through one description of each block layout, [`Block32`], so the values that a
//! repacked tensor stands for are those that [`dequantize`] returns.

mod encode;
mod k_quants;
mod legacy;
mod tables;
mod traits;

use half::{bf16, f16};

pub use encode::quantize;
pub use traits::{F16Fit, Plane, QuantTraits, quant_traits};

use crate::{DType, FormatError};

/// Added to a product by the formats that have no minimum: the one number that changes neither
/// value nor sign of what it is added to.
const NO_MIN: f32 = -0.0;

/// 32 consecutive weights: weight `i` is `scale[i / 16] * q[i] + min[i / 16]`.
///
/// Evaluated in f32 the product is exact in every format, so that only the sum rounds, and a fused
/// multiply-add gives the same bits as a product followed by a sum. The result equals
/// [`dequantize`]'s bit for bit, with one exception: a zero of Q4_0 whose scale is negative is
/// `-0.0` there and `0.0` here. (Scales are taken to be finite, as they are in every sound file.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Block32 {
    /// The quantized weights, in the range that [`quant_traits`] gives.
    pub q: [i8; 32],
    /// One scale for each half.
    pub scale: [f32; 2],
    /// One minimum for each half; `-0.0` in formats without a minimum.
    pub min: [f32; 2],
}

impl Block32 {
    /// The value of each weight.
    pub fn values(&self) -> [f32; 32] {
        let mut out = [0.0; 32];
        let (halves, _) = out.as_chunks_mut::<16>();
        let (q, _) = self.q.as_chunks::<16>();
        for (((out, q), scale), min) in halves.iter_mut().zip(q).zip(self.scale).zip(self.min) {
            for (out, q) in out.iter_mut().zip(q) {
                *out = scale * f32::from(*q) + min;
            }
        }
        out
    }
}

fn half_at<const N: usize>(block: &[u8; N], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Calls `visit` with the number and contents of each group of 32 weights in `bytes`, in order.
///
/// `bytes` is any whole number of `dtype`'s blocks: a row, or a tensor. A block of a K-quant yields
/// 8 groups.
///
/// # Errors
///
/// [`FormatError::NotQuantized`] for a type without blocks, [`FormatError::PartialBlock`] if `bytes`
/// ends inside a block; `visit` is not called then.
pub fn unpack_row(
    dtype: DType,
    bytes: &[u8],
    mut visit: impl FnMut(usize, &Block32),
) -> Result<(), FormatError> {
    if dtype == DType::Q4_0 {
        check_blocks(dtype, bytes)?;
        legacy::q4_0(bytes, |index, block| {
            let mut shifted = *block;
            for q in &mut shifted.q {
                *q += 8;
            }
            shifted.min = block.scale.map(|d| -8.0 * d);
            visit(index, &shifted);
        });
        return Ok(());
    }
    signed_blocks(dtype, bytes, visit)
}

/// As [`unpack_row`], but Q4_0 keeps its signed form, which also has the sign of every zero.
fn signed_blocks(
    dtype: DType,
    bytes: &[u8],
    visit: impl FnMut(usize, &Block32),
) -> Result<(), FormatError> {
    check_blocks(dtype, bytes)?;
    match dtype {
        DType::Q4_0 => legacy::q4_0(bytes, visit),
        DType::Q4_1 => legacy::q4_1(bytes, visit),
        DType::Q5_0 => legacy::q5_0(bytes, visit),
        DType::Q5_1 => legacy::q5_1(bytes, visit),
        DType::Q8_0 => legacy::q8_0(bytes, visit),
        DType::Q2_K => k_quants::q2_k(bytes, visit),
        DType::Q3_K => k_quants::q3_k(bytes, visit),
        DType::Q4_K => k_quants::q4_k(bytes, visit),
        DType::Q5_K => k_quants::q5_k(bytes, visit),
        DType::Q6_K => k_quants::q6_k(bytes, visit),
        DType::Q4_F32 => legacy::q4_f32(bytes, visit),
        DType::IQ4_NL => tables::iq4_nl(bytes, visit),
        DType::IQ4_XS => tables::iq4_xs(bytes, visit),
        DType::MXFP4 => tables::mxfp4(bytes, visit),
        dtype => return Err(FormatError::NotQuantized { dtype }),
    }
    Ok(())
}

fn check_blocks(dtype: DType, bytes: &[u8]) -> Result<(), FormatError> {
    let block = dtype.block_bytes();
    if !bytes.len().is_multiple_of(block) {
        return Err(FormatError::PartialBlock {
            dtype,
            bytes: bytes.len(),
            block,
        });
    }
    Ok(())
}

/// Decodes `bytes`, a whole number of `dtype`'s blocks, to f32.
///
/// Every value equals, bit for bit, that of `gguf.quants.dequantize` in the `gguf` Python package
/// (the payload of a NaN excepted).
///
/// # Errors
///
/// [`FormatError::NotDecodable`] for a type that is not a weight, [`FormatError::PartialBlock`] if
/// `bytes` ends inside a block, [`FormatError::OutputLength`] if `out` is not of the data's length.
pub fn dequantize(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), FormatError> {
    if !dtype.is_weight() {
        return Err(FormatError::NotDecodable { dtype });
    }
    check_blocks(dtype, bytes)?;
    let elements = (bytes.len() / dtype.block_bytes()).saturating_mul(dtype.block_len());
    if elements != out.len() {
        return Err(FormatError::OutputLength {
            dtype,
            elements,
            out: out.len(),
        });
    }
    match dtype {
        DType::F32 => each(bytes, out, f32::from_le_bytes),
        DType::F16 => each(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
        DType::BF16 => each(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        _ => {
            let (groups, _) = out.as_chunks_mut::<32>();
            signed_blocks(dtype, bytes, |index, block| {
                if let Some(group) = groups.get_mut(index) {
                    *group = block.values();
                }
            })?;
        }
    }
    Ok(())
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], decode: impl Fn([u8; N]) -> f32) {
    let (elements, _) = bytes.as_chunks::<N>();
    for (out, element) in out.iter_mut().zip(elements) {
        *out = decode(*element);
    }
}
