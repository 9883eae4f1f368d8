//! Twins of the rotary embedding with its cache write, and of attention over block tables.

use half::f16;

use super::for_each_chunk;
use super::linear::soft_cap;
use crate::layout::padded;
use crate::params::{AttentionParams, BLOCK, KvDtype, RopeParams};

/// Where element `dim` of a key or value lies in its cache, in elements: see `cache.wgsl`.
pub fn kv_index(
    key: bool,
    slot: usize,
    head: usize,
    kv_heads: usize,
    head_dim: usize,
    dim: usize,
) -> usize {
    let base = (slot / BLOCK * kv_heads + head) * head_dim * BLOCK;
    let offset = slot % BLOCK;
    if key {
        base + (dim / 4 * BLOCK + offset) * 4 + dim % 4
    } else {
        base + offset * head_dim + dim
    }
}

fn store(cache: &mut [u32], kv: KvDtype, at: usize, value: f32) {
    match kv {
        KvDtype::F32 => cache[at] = value.to_bits(),
        KvDtype::F16 => {
            let shift = 16 * (at % 2);
            let cell = &mut cache[at / 2];
            let bits = u32::from(f16::from_f32(value).to_bits());
            *cell = (*cell & !(0xffff << shift)) | bits << shift;
        }
    }
}

fn load(cache: &[u32], kv: KvDtype, at: usize) -> f32 {
    match kv {
        KvDtype::F32 => f32::from_bits(cache[at]),
        KvDtype::F16 => f16::from_bits((cache[at / 2] >> (16 * (at % 2))) as u16).to_f32(),
    }
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
        let slot = step[params.slots_at + t] as usize;
        for h in 0..params.kv_heads {
            let key = &new_keys[h * dim..][..dim];
            let value = &row[(params.heads + params.kv_heads + h) * dim..][..dim];
            for (d, own) in value.iter().enumerate() {
                let at = kv_index(true, slot, h, params.kv_heads, dim, d);
                store(keys, params.kv, at, rotate(key, d));
                let at = kv_index(false, slot, h, params.kv_heads, dim, d);
                store(values, params.kv, at, *own);
            }
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
        let mut scores = vec![0.0f32; end - begin];
        let mut head_values = vec![0.0f32; dim];
        for kv_head in 0..params.kv_heads {
            for h in kv_head * group..(kv_head + 1) * group {
                let query = &q[token * stride + h * dim..][..dim];
                for (score, p) in scores.iter_mut().zip(begin..) {
                    let mut sum = 0.0;
                    for (d, v) in query.iter().enumerate() {
                        let at = kv_index(true, slot(p), kv_head, params.kv_heads, dim, d);
                        sum += v * load(keys, params.kv, at);
                    }
                    *score = sum * params.scale;
                    if let Some(cap) = params.cap {
                        *score = soft_cap(*score, cap);
                    }
                }
                let top = scores.iter().copied().fold(f32::MIN, f32::max);
                let mut total = 0.0;
                head_values.fill(0.0);
                for (score, p) in scores.iter().zip(begin..) {
                    let weight = (score - top).exp();
                    total += weight;
                    let at = kv_index(false, slot(p), kv_head, params.kv_heads, dim, 0);
                    for (d, sum) in head_values.iter_mut().enumerate() {
                        *sum += weight * load(values, params.kv, at + d);
                    }
                }
                for (to, v) in row[h * dim..][..dim].iter_mut().zip(&head_values) {
                    *to = v / total;
                }
            }
        }
    });
}
