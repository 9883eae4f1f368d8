// Embedding gather: y[t] = scale * W[tokens[t]], W in the planes of weights.wgsl; with ADD what is
//   in y already is added.
//
// Memory: y [T][y_stride] f32; tokens [T] u32 inside the step buffer at tokens_at.
//   A table larger than one binding comes in shards: a launch serves the tokens in
//   [first, first + count) and leaves the others alone.
// Workgroup: LANES lanes, one chunk of one token each.
// Grid: x = chunk groups, y = tokens.
// Limits: 4 storage buffers and one uniform.

#include "common.wgsl"

@group(0) @binding(auto) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(auto) var<storage, read_write> tokens: array<u32>;
#include "weights.wgsl"

struct Params {
    chunks: u32,
    y_stride: u32,
    tokens_at: u32,
    first: u32,
    count: u32,
    scale: f32,
    pad0: u32,
    pad1: u32,
}
@group(0) @binding(auto) var<uniform> p: Params;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let chunk = group.x * LANES + lane;
    let token = tokens[p.tokens_at + group.y];
    if (chunk >= p.chunks || token < p.first || token - p.first >= p.count) {
        return;
    }
    let row = token - p.first;
    let q = unpack(quants[cell(chunk, row, p.chunks)]);
    let a = affine(chunk, row, p.chunks) * p.scale;
    let to = group.y * (p.y_stride >> 2u) + chunk * NV;
    for (var i = 0u; i < NV; i++) {
#if ADD
        y[to + i] += q[i] * a.x + vec4<f32>(a.y);
#else
        y[to + i] = q[i] * a.x + vec4<f32>(a.y);
#endif
    }
}
