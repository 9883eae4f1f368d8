//! Block layouts of 32 weights: Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0.
//!
//! Byte `i` of the nibbles holds weight `i` in its low and weight `i + 16` in its high half; bit `i`
//! of the fifth bits belongs to weight `i`.

use super::{Block32, NO_MIN, half_at};

/// Takes nibble `i` apart for weights `i` and `i + 16`.
pub(super) fn nibbles(bytes: &[u8]) -> [i8; 32] {
    let mut q = [0; 32];
    let (low, high) = q.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        *low = (byte & 0x0F) as i8;
        *high = (byte >> 4) as i8;
    }
    q
}

fn fifth_bits(q: &mut [i8; 32], bits: [u8; 4]) {
    let bits = u32::from_le_bytes(bits);
    for (i, q) in q.iter_mut().enumerate() {
        *q |= (((bits >> i) & 1) << 4) as i8;
    }
}

pub(super) fn q4_0(bytes: &[u8], mut visit: impl FnMut(usize, &Block32)) {
    for (index, block) in bytes.as_chunks::<18>().0.iter().enumerate() {
        let q = nibbles(&block[2..]).map(|q| q - 8);
        let scale = [half_at(block, 0); 2];
        visit(
            index,
            &Block32 {
                q,
                scale,
                min: [NO_MIN; 2],
            },
        );
    }
}

pub(super) fn q4_1(bytes: &[u8], mut visit: impl FnMut(usize, &Block32)) {
    for (index, block) in bytes.as_chunks::<20>().0.iter().enumerate() {
        let q = nibbles(&block[4..]);
        let (scale, min) = ([half_at(block, 0); 2], [half_at(block, 2); 2]);
        visit(index, &Block32 { q, scale, min });
    }
}

/// Scale, minimum, nibbles.
pub(super) fn q4_f32(bytes: &[u8], mut visit: impl FnMut(usize, &Block32)) {
    for (index, block) in bytes.as_chunks::<24>().0.iter().enumerate() {
        let float = |at: usize| {
            f32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
        };
        let q = nibbles(&block[8..]);
        let (scale, min) = ([float(0); 2], [float(4); 2]);
        visit(index, &Block32 { q, scale, min });
    }
}

pub(super) fn q5_0(bytes: &[u8], mut visit: impl FnMut(usize, &Block32)) {
    for (index, block) in bytes.as_chunks::<22>().0.iter().enumerate() {
        let mut q = nibbles(&block[6..]);
        fifth_bits(&mut q, [block[2], block[3], block[4], block[5]]);
        let q = q.map(|q| q - 16);
        let scale = [half_at(block, 0); 2];
        visit(
            index,
            &Block32 {
                q,
                scale,
                min: [NO_MIN; 2],
            },
        );
    }
}

pub(super) fn q5_1(bytes: &[u8], mut visit: impl FnMut(usize, &Block32)) {
    for (index, block) in bytes.as_chunks::<24>().0.iter().enumerate() {
        let mut q = nibbles(&block[8..]);
        fifth_bits(&mut q, [block[4], block[5], block[6], block[7]]);
        let (scale, min) = ([half_at(block, 0); 2], [half_at(block, 2); 2]);
        visit(index, &Block32 { q, scale, min });
    }
}

pub(super) fn q8_0(bytes: &[u8], mut visit: impl FnMut(usize, &Block32)) {
    for (index, block) in bytes.as_chunks::<34>().0.iter().enumerate() {
        let mut q = [0; 32];
        for (q, byte) in q.iter_mut().zip(&block[2..]) {
            *q = byte.cast_signed();
        }
        let scale = [half_at(block, 0); 2];
        visit(
            index,
            &Block32 {
                q,
                scale,
                min: [NO_MIN; 2],
            },
        );
    }
}
