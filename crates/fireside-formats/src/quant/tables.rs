//! Block layouts whose 4 bits choose a value from a table: IQ4_NL, IQ4_XS and MXFP4.
//!
//! The tables hold small integers, so a weight is an 8-bit quant times its scale.

use super::legacy::nibbles;
use super::{Block32, NO_MIN, half_at};

/// What the 4 bits of IQ4_NL and IQ4_XS stand for.
const UNEVEN: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Twice what 4-bit floats (2 bits of exponent, 1 of mantissa) stand for.
const FLOATS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

fn block(bytes: &[u8], table: &[i8; 16], scale: f32) -> Block32 {
    Block32 {
        q: nibbles(bytes).map(|q| table[usize::from(q.cast_unsigned() & 0x0F)]),
        scale: [scale; 2],
        min: [NO_MIN; 2],
    }
}

/// d, nibbles 16.
pub(super) fn iq4_nl(bytes: &[u8], mut visit: impl FnMut(usize, &Block32)) {
    for (index, own) in bytes.as_chunks::<18>().0.iter().enumerate() {
        visit(index, &block(&own[2..], &UNEVEN, half_at(own, 0)));
    }
}

/// d, the upper 2 bits of 8 scales in 2 bytes, their lower 4 in 4, nibbles 128; scales less 32.
pub(super) fn iq4_xs(bytes: &[u8], mut visit: impl FnMut(usize, &Block32)) {
    for (index, own) in bytes.as_chunks::<136>().0.iter().enumerate() {
        let d = half_at(own, 0);
        let high = u16::from_le_bytes([own[2], own[3]]);
        for group in 0..8 {
            let low = (own[4 + group / 2] >> (4 * (group % 2))) & 0x0F;
            let high = ((high >> (2 * group)) & 0x03) as u8;
            let scale = d * f32::from((low | (high << 4)).cast_signed() - 32);
            let quants = &own[8 + 16 * group..][..16];
            visit(8 * index + group, &block(quants, &UNEVEN, scale));
        }
    }
}

/// Exponent 1 (of 2, less 127), nibbles 16.
pub(super) fn mxfp4(bytes: &[u8], mut visit: impl FnMut(usize, &Block32)) {
    for (index, own) in bytes.as_chunks::<17>().0.iter().enumerate() {
        visit(index, &block(&own[1..], &FLOATS, half_of_power(own[0])));
    }
}

/// Half of 2 to the power of `exponent` less 127.
fn half_of_power(exponent: u8) -> f32 {
    f32::from_bits(match exponent {
        // Below the smallest normal number.
        0 => 0x0020_0000,
        1 => 0x0040_0000,
        e => (u32::from(e) - 1) << 23,
    })
}
