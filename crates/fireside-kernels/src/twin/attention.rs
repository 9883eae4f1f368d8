//! Twins of the rotary embedding with its cache write, and of attention over block tables.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::for_each_chunk;
use super::linear::soft_cap;
use crate::layout::padded;
use crate::params::{AttentionParams, BLOCK, KvDtype, RopeParams};

/// Where a key or value of one head lies in its cache, and how it is stored: see `cache.wgsl`.
#[derive(Debug, Clone, Copy)]
pub struct KvPlace {
    /// Element type of the cache.
    pub kv: KvDtype,
    /// Of keys; else of values, whose elements lie in another order.
    pub key: bool,
    /// The position's place: its block, times [`BLOCK`], and its offset there.
    pub slot: usize,
    /// The kv head.
    pub head: usize,
    /// Kv heads.
    pub kv_heads: usize,
    /// Elements of a head, a multiple of 4.
    pub head_dim: usize,
}

impl KvPlace {
    /// The word where the block's share of the head begins.
    fn share_at(self) -> usize {
        (self.slot / BLOCK * self.kv_heads + self.head) * self.kv.head_words(self.head_dim)
    }

    /// Where an element is in the share, in elements.
    fn element(self, dim: usize) -> usize {
        let offset = self.slot % BLOCK;
        if self.key {
            (dim / 4 * BLOCK + offset) * 4 + dim % 4
        } else {
            offset * self.head_dim + dim
        }
    }

    /// The word of the scale, where the cache has scales.
    pub fn scale_at(self) -> Option<usize> {
        let quants = self.head_dim / 4 * BLOCK;
        (self.kv == KvDtype::Q8).then(|| self.share_at() + quants + self.slot % BLOCK)
    }

    /// What loaded elements are multiplied with: 1 where the cache has no scales.
    pub fn scale(self, cache: &[u32]) -> f32 {
        self.scale_at().map_or(1.0, |at| f32::from_bits(cache[at]))
    }

    /// An element, in units of the scale.
    pub fn load(self, cache: &[u32], dim: usize) -> f32 {
        let (share, at) = (self.share_at(), self.element(dim));
        match self.kv {
            KvDtype::F32 => f32::from_bits(cache[share + at]),
            KvDtype::F16 => {
                f16::from_bits((cache[share + at / 2] >> (16 * (at % 2))) as u16).to_f32()
            }
            KvDtype::Q8 => f32::from((cache[share + at / 4] >> (8 * (at % 4))) as i8),
        }
    }

    /// The elements of the head, in units of the scale.
    pub fn load_head(self, cache: &[u32], head: &mut [f32]) {
        let offset = self.slot % BLOCK;
        let (first, step) = match self.key {
            true => (offset, BLOCK),
            false => (offset * (self.head_dim / 4), 1),
        };
        let share = &cache[self.share_at()..];
        let quads = head.as_chunks_mut::<4>().0.iter_mut();
        let quads = quads.zip((first..).step_by(step));
        match self.kv {
            KvDtype::F32 => quads.for_each(|(to, at)| {
                let words = &share[at * 4..][..4];
                to.iter_mut()
                    .zip(words)
                    .for_each(|(to, w)| *to = f32::from_bits(*w));
            }),
            KvDtype::F16 => quads.for_each(|(to, at)| {
                let [a, b] = [share[at * 2], share[at * 2 + 1]];
                let bits = [a as u16, (a >> 16) as u16, b as u16, (b >> 16) as u16];
                bits.map(f16::from_bits).convert_to_f32_slice(to);
            }),
            KvDtype::Q8 => quads.for_each(|(to, at)| {
                *to = share[at].to_le_bytes().map(|byte| f32::from(byte as i8));
            }),
        }
    }

    /// Stores the elements of the head.
    pub fn store(self, cache: &mut [u32], head: &[f32]) {
        let mut factor = 1.0;
        if let Some(at) = self.scale_at() {
            let scale;
            (scale, factor) = scale_of(head);
            cache[at] = scale.to_bits();
        }
        for (dim, value) in head.iter().enumerate() {
            let (share, at) = (self.share_at(), self.element(dim));
            // The elements that share a word, the bits of each, and its own.
            let (each, bits) = match self.kv {
                KvDtype::F32 => (1, value.to_bits()),
                KvDtype::F16 => (2, u32::from(f16::from_f32(*value).to_bits())),
                KvDtype::Q8 => (4, quant(value * factor)),
            };
            let width = 32 / each;
            let shift = width * (at % each);
            let cell = &mut cache[share + at / each];
            *cell = (*cell & !(u32::MAX >> (32 - width) << shift)) | bits << shift;
        }
    }
}

/// The scale of a head, and what its elements are multiplied with to count in units of it.
fn scale_of(head: &[f32]) -> (f32, f32) {
    /// See `cache.wgsl`.
    const LEAST: f32 = 1e-30;
    let most = head.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    if most > LEAST {
        (most * (1.0 / 127.0), 127.0 / most)
    } else {
        (0.0, 0.0)
    }
}

/// The nearest byte, ties to even, in the lowest bits.
fn quant(value: f32) -> u32 {
    u32::from(value.round_ties_even().clamp(-127.0, 127.0) as i8 as u8)
}

/// Twin of `rope_kv.wgsl`: rotates the queries of `qkv` into `q_out` and the keys into the
/// cache, and copies the values to theirs.
pub fn rope_kv(
    qkv: &[f32],
    keys: &mut [u32],
    values: &mut [u32],
    step: &[u32],
    gains: Option<&[f32]>,
    params: &RopeParams,
    q_out: &mut [f32],
) {
    let dim = params.head_dim;
    // Heads `first .. first + count` of a token, normed; `kind` is 0 for queries and 1 for keys.
    let normed = |row: &[f32], first: usize, count: usize, kind: usize| -> Vec<f32> {
        let heads = &row[first * dim..][..count * dim];
        let (Some(norm), Some(gains)) = (params.norm, gains) else {
            return heads.to_vec();
        };
        let scale = |of: &[f32], count: usize| -> f32 {
            let squares: f32 = of.iter().map(|v| v * v).sum();
            1.0 / (squares / (count * norm.width) as f32 + norm.eps).sqrt()
        };
        let whole = scale(heads, count);
        let mut all = Vec::with_capacity(heads.len());
        for (h, head) in heads.chunks_exact(dim).enumerate() {
            let (scale, gains) = match norm.whole {
                true => (whole, &gains[(first + h) * dim..][..dim]),
                false => (scale(head, 1), &gains[kind * dim..][..dim]),
            };
            all.extend(head.iter().zip(gains).map(|(v, g)| v * scale * g));
        }
        all
    };
    let half = params.rotary / 2;
    let stride = padded((params.heads + 2 * params.kv_heads) * dim);
    let q_stride = padded(params.heads * dim);
    let angle = |at: usize| f32::from_bits(step[params.angles_at + at]);
    q_out.fill(0.0);
    for t in 0..params.tokens {
        let row = &qkv[t * stride..][..stride];
        let rotate = |head: &[f32], d: usize| -> f32 {
            if d >= params.rotary {
                return head[d];
            }
            let pair = d / 2;
            let cos = angle(t * half + pair);
            let sin = angle((params.tokens + t) * half + pair);
            if d.is_multiple_of(2) {
                head[d] * cos - head[d + 1] * sin
            } else {
                head[d] * cos + head[d - 1] * sin
            }
        };
        let queries = normed(row, 0, params.heads, 0);
        for (h, head) in queries.chunks_exact(dim).enumerate() {
            for d in 0..dim {
                q_out[t * q_stride + h * dim + d] = rotate(head, d);
            }
        }
        let new_keys = normed(row, params.heads, params.kv_heads, 1);
        for h in 0..params.kv_heads {
            let key = &new_keys[h * dim..][..dim];
            let key: Vec<f32> = (0..dim).map(|d| rotate(key, d)).collect();
            let value = &row[(params.heads + params.kv_heads + h) * dim..][..dim];
            let place = KvPlace {
                kv: params.kv,
                key: true,
                slot: step[params.slots_at + t] as usize,
                head: h,
                kv_heads: params.kv_heads,
                head_dim: dim,
            };
            place.store(keys, &key);
            KvPlace {
                key: false,
                ..place
            }
            .store(values, value);
        }
    }
}

/// Twin of `attention.wgsl`; `q` and `out` are `[tokens][stride]`.
pub fn attention(
    q: &[f32],
    keys: &[u32],
    values: &[u32],
    step: &[u32],
    params: &AttentionParams,
    out: &mut [f32],
) {
    let dim = params.head_dim;
    let stride = padded(params.heads * dim);
    let group = params.heads / params.kv_heads;
    // Table, position and end of what is seen of every token, so that tokens can be worked on in any order.
    let mut places = vec![None; out.len() / stride];
    for tile in 0..params.tiles {
        let at = params.tiles_at + tile * 4;
        for i in 0..step[at + 1] as usize {
            let position = step[at + 3] as usize + i;
            let end = match params.ends_at {
                Some(ends_at) => step[ends_at + tile] as usize,
                None => position + 1,
            };
            places[step[at] as usize + i] = Some((step[at + 2] as usize, position, end));
        }
    }
    for_each_chunk(out, stride, |token, row| {
        row.fill(0.0);
        let Some((table, position, end)) = places[token] else {
            return;
        };
        let begin = match params.window {
            0 => 0,
            window => (position + 1).saturating_sub(window),
        };
        let slot = |p: usize| step[table + p / BLOCK] as usize * BLOCK + p % BLOCK;
        let seen = end - begin;
        let mut scores = vec![0.0f32; group * seen];
        let mut sums = vec![0.0f32; group * dim];
        let mut stored = vec![0.0f32; dim];
        for kv_head in 0..params.kv_heads {
            let place = |key: bool, p: usize| KvPlace {
                kv: params.kv,
                key,
                slot: slot(p),
                head: kv_head,
                kv_heads: params.kv_heads,
                head_dim: dim,
            };
            let queries = &q[token * stride + kv_head * group * dim..][..group * dim];
            // A key or value is taken out of the cache once for all heads that share it.
            for (i, p) in (begin..end).enumerate() {
                let place = place(true, p);
                place.load_head(keys, &mut stored);
                let scale = params.scale * place.scale(keys);
                for (g, query) in queries.chunks_exact(dim).enumerate() {
                    let score = scale * query.iter().zip(&stored).map(|(q, k)| q * k).sum::<f32>();
                    scores[g * seen + i] = params.cap.map_or(score, |cap| soft_cap(score, cap));
                }
            }
            let mut totals = vec![0.0f32; group];
            for (own, total) in scores.chunks_exact_mut(seen).zip(&mut totals) {
                let top = own.iter().copied().fold(f32::MIN, f32::max);
                for score in own.iter_mut() {
                    *score = (*score - top).exp();
                    *total += *score;
                }
            }
            sums.fill(0.0);
            for (i, p) in (begin..end).enumerate() {
                let place = place(false, p);
                place.load_head(values, &mut stored);
                let scale = place.scale(values);
                for (g, sums) in sums.chunks_exact_mut(dim).enumerate() {
                    let share = scores[g * seen + i] * scale;
                    for (sum, value) in sums.iter_mut().zip(&stored) {
                        *sum += share * value;
                    }
                }
            }
            let heads = row[kv_head * group * dim..][..group * dim].chunks_exact_mut(dim);
            for ((to, sums), total) in heads.zip(sums.chunks_exact(dim)).zip(&totals) {
                for (to, sum) in to.iter_mut().zip(sums) {
                    *to = sum / total;
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heads stored in scattered places of a cache that holds anything, read back.
    #[test]
    fn bytes_are_within_half_a_unit_and_the_largest_is_exact() {
        let (kv_heads, head_dim) = (2, 12);
        let words = 3 * kv_heads * KvDtype::Q8.head_words(head_dim);
        for key in [true, false] {
            let mut cache = vec![0xdead_beef; words];
            let mut bits = 1u32;
            let mut stored = Vec::new();
            for (number, slot) in [0, 31, 32, 70, 95].into_iter().enumerate() {
                for head in 0..kv_heads {
                    let size = 10f32.powi(7 * number as i32 - 14);
                    let values: Vec<f32> = (0..head_dim)
                        .map(|_| {
                            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                            (bits as i32) as f32 / (1u32 << 31) as f32 * size
                        })
                        .collect();
                    let place = KvPlace {
                        kv: KvDtype::Q8,
                        key,
                        slot,
                        head,
                        kv_heads,
                        head_dim,
                    };
                    place.store(&mut cache, &values);
                    stored.push((place, values));
                }
            }
            for (place, values) in stored {
                let scale = place.scale(&cache);
                let most = values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
                for (dim, value) in values.iter().enumerate() {
                    let found = place.load(&cache, dim) * scale;
                    // A last bit of a quotient and of a product beside the half.
                    let bound = if value.abs() == most {
                        1e-6
                    } else {
                        0.5001 / 127.0
                    };
                    assert!(
                        (found - value).abs() <= bound * most,
                        "{place:?}, {dim}: {found} for {value} of {most}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_head_of_nothing_is_stored_as_nothing() {
        for tiny in [0.0, 1e-38, -1e-45] {
            let place = KvPlace {
                kv: KvDtype::Q8,
                key: true,
                slot: 5,
                head: 0,
                kv_heads: 1,
                head_dim: 8,
            };
            let mut cache = vec![u32::MAX; KvDtype::Q8.head_words(8)];
            place.store(&mut cache, &[tiny; 8]);
            assert_eq!(place.scale(&cache), 0.0);
            assert!((0..8).all(|dim| place.load(&cache, dim) == 0.0));
        }
    }
}
