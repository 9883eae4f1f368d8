// Buffers and parameters that the attention kernels share, and the score of a position that is not seen.

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
