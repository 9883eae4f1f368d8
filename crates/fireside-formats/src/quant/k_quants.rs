//! Block layouts of 256 weights, the K-quants: Q2_K to Q6_K.
//!
//! A block holds 8 groups of 32 weights. The bits of a weight lie in planes: byte `i` of a plane
//! carries bits of weight `i` of several groups, one group per shift.

use std::array;

use super::{Block32, NO_MIN, half_at};

/// Bits `mask` of 32 bytes from `at`, after a shift to the right.
fn plane<const N: usize>(block: &[u8; N], at: usize, shift: usize, mask: u8) -> [u8; 32] {
    let mut out = [0; 32];
    for (out, byte) in out.iter_mut().zip(&block[at..at + 32]) {
        *out = (byte >> shift) & mask;
    }
    out
}

/// `low | high << by`, less `offset`.
fn join(low: [u8; 32], high: [u8; 32], by: usize, offset: i8) -> [i8; 32] {
    let mut q = [0; 32];
    for ((q, low), high) in q.iter_mut().zip(low).zip(high) {
        *q = (low | (high << by)).cast_signed() - offset;
    }
    q
}

/// Scale bytes (scale in the low, minimum in the high nibble) 16, quants 64, d, dmin.
pub(super) fn q2_k(bytes: &[u8], mut visit: impl FnMut(usize, &Block32)) {
    for (index, block) in bytes.as_chunks::<84>().0.iter().enumerate() {
        let (d, dmin) = (half_at(block, 80), half_at(block, 82));
        for group in 0..8 {
            let q = plane(block, 16 + 32 * (group / 4), 2 * (group % 4), 3);
            let scales = [block[2 * group], block[2 * group + 1]];
            let scale = scales.map(|s| d * f32::from(s & 0x0F));
            let min = scales.map(|s| -(dmin * f32::from(s >> 4)));
            visit(
                8 * index + group,
                &Block32 {
                    q: q.map(u8::cast_signed),
                    scale,
                    min,
                },
            );
        }
    }
}

/// High-bit mask 32, quants 64, scales 12 (6 bits each, less 32), d.
pub(super) fn q3_k(bytes: &[u8], mut visit: impl FnMut(usize, &Block32)) {
    for (index, block) in bytes.as_chunks::<110>().0.iter().enumerate() {
        let d = half_at(block, 108);
        let scale_at = |i: usize| {
            let low = (block[96 + i % 8] >> (4 * (i / 8))) & 0x0F;
            let high = (block[104 + i % 4] >> (2 * (i / 4))) & 0x03;
            d * f32::from((low | (high << 4)).cast_signed() - 32)
        };
        for group in 0..8 {
            let low = plane(block, 32 + 32 * (group / 4), 2 * (group % 4), 3);
            let high = plane(block, 0, group, 1);
            let q = join(low, high, 2, 4);
            let scale = [scale_at(2 * group), scale_at(2 * group + 1)];
            visit(
                8 * index + group,
                &Block32 {
                    q,
                    scale,
                    min: [NO_MIN; 2],
                },
            );
        }
    }
}

/// The 6-bit scale and minimum of each group from the 12 bytes at offset 4 of Q4_K and Q5_K: the
/// first four groups have a byte each, the others share a byte and two top bits of the first eight.
fn scales_and_minima<const N: usize>(block: &[u8; N]) -> [(f32, f32); 8] {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    array::from_fn(|group| {
        let (scale, min) = if group < 4 {
            (block[4 + group] & 0x3F, block[8 + group] & 0x3F)
        } else {
            let (scale, min, low) = (block[group], block[4 + group], block[8 + group]);
            (
                (low & 0x0F) | ((scale >> 2) & 0x30),
                (low >> 4) | ((min >> 2) & 0x30),
            )
        };
        (d * f32::from(scale), -(dmin * f32::from(min)))
    })
}

/// d, dmin, scales and minima 12, quants 128.
pub(super) fn q4_k(bytes: &[u8], mut visit: impl FnMut(usize, &Block32)) {
    for (index, block) in bytes.as_chunks::<144>().0.iter().enumerate() {
        for (group, (scale, min)) in scales_and_minima(block).into_iter().enumerate() {
            let q = plane(block, 16 + 32 * (group / 2), 4 * (group % 2), 0x0F);
            let q = q.map(u8::cast_signed);
            visit(
                8 * index + group,
                &Block32 {
                    q,
                    scale: [scale; 2],
                    min: [min; 2],
                },
            );
        }
    }
}

/// d, dmin, scales and minima 12, fifth bits 32, quants 128.
pub(super) fn q5_k(bytes: &[u8], mut visit: impl FnMut(usize, &Block32)) {
    for (index, block) in bytes.as_chunks::<176>().0.iter().enumerate() {
        for (group, (scale, min)) in scales_and_minima(block).into_iter().enumerate() {
            let low = plane(block, 48 + 32 * (group / 2), 4 * (group % 2), 0x0F);
            let q = join(low, plane(block, 16, group, 1), 4, 0);
            visit(
                8 * index + group,
                &Block32 {
                    q,
                    scale: [scale; 2],
                    min: [min; 2],
                },
            );
        }
    }
}

/// Low nibbles 128, high bit pairs 64, signed scales 16, d.
pub(super) fn q6_k(bytes: &[u8], mut visit: impl FnMut(usize, &Block32)) {
    for (index, block) in bytes.as_chunks::<210>().0.iter().enumerate() {
        let d = half_at(block, 208);
        let scale_at = |i: usize| d * f32::from(block[192 + i].cast_signed());
        for group in 0..8 {
            let (half, row) = (group / 4, group % 4);
            let low = plane(block, 64 * half + 32 * (row % 2), 4 * (row / 2), 0x0F);
            let high = plane(block, 128 + 32 * half, 2 * row, 3);
            let q = join(low, high, 4, 32);
            let scale = [scale_at(2 * group), scale_at(2 * group + 1)];
            visit(
                8 * index + group,
                &Block32 {
                    q,
                    scale,
                    min: [NO_MIN; 2],
                },
            );
        }
    }
}
