// Buffers and parameters that the attention kernels share, the score of a position that is not seen, the
// sizes of what is stored, and what the last kv head does besides.

#include "cache.wgsl"

@group(0) @binding(auto) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(auto) var<storage, read_write> q: array<vec4<f32>>;
@group(0) @binding(auto) var<storage, read_write> keys: array<Stored>;
@group(0) @binding(auto) var<storage, read_write> values: array<Stored>;
@group(0) @binding(auto) var<storage, read_write> info: array<u32>;

struct Params {
    q_stride: u32,
    heads: u32,
    kv_heads: u32,
    tiles_at: u32,
    scale: f32,
    window: u32,
    cap: f32,
    ends_at: u32,
}
@group(0) @binding(auto) var<uniform> p: Params;

const MASKED: f32 = -3.0e38;
const LAST_QUAD: u32 = HEAD_QUADS - 1u;

// The size of a position's stored key, which its scores are multiplied with, and of its value, which its
// weight is.
#if KV_Q8
fn key_scale(block: u32, kv: u32, offset: u32) -> f32 {
    return stored_scale(keys[scale_at(block, kv, p.kv_heads, offset)]);
}
// A position that is not `written` has a weight of 0, but its scale may be no number.
fn value_scale(block: u32, kv: u32, offset: u32, written: bool) -> f32 {
    return select(0.0, stored_scale(values[scale_at(block, kv, p.kv_heads, offset)]), written);
}
#else
fn key_scale(block: u32, kv: u32, offset: u32) -> f32 {
    return 1.0;
}
fn value_scale(block: u32, kv: u32, offset: u32, written: bool) -> f32 {
    return 1.0;
}
#endif

// Columns past the last head stay zero for the next product.
fn clear_padding(first: u32, count: u32, kv: u32, lane: u32) {
    if (kv + 1u < p.kv_heads) {
        return;
    }
    let q_quads = p.q_stride >> 2u;
    for (var t = 0u; t < count; t++) {
        for (var quad = p.heads * HEAD_QUADS + lane; quad < q_quads; quad += LANES) {
            out[(first + t) * q_quads + quad] = vec4<f32>(0.0);
        }
    }
}
