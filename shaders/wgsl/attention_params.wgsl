// Buffers and parameters that the attention kernels share, the score of a position that is not seen, and
// what the last kv head does besides.

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
