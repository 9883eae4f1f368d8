// Tiled matrix product for GPUs and many tokens: y = activation(W * x + bias) + residual.
//
// Formula and options as linear_lane.wgsl, without NORM.
// Memory: as linear_lane.wgsl.
// Workgroup: 128 lanes make a tile of 64 rows (32 pairs with GLU) by 32 tokens;
//   each step stages 32 columns of W (as floats) and of x in workgroup memory and
//   a lane multiplies 4 rows by 4 tokens out of it.
// Grid: x = row tiles, y = token tiles.
// Limits: 6 storage buffers, one uniform, 12 KiB of workgroup memory.

#include "common.wgsl"

@group(0) @binding(auto) var<storage, read_write> y: array<f32>;
@group(0) @binding(auto) var<storage, read_write> x: array<vec4<f32>>;
#include "weights.wgsl"
#if BIAS
@group(0) @binding(auto) var<storage, read_write> bias: array<f32>;
#endif
#if RESIDUAL
@group(0) @binding(auto) var<storage, read_write> residual: array<f32>;
#endif

#include "linear_params.wgsl"

const STEP_QUADS: u32 = 8u;
// Chunks of one row in a step of 32 columns.
const STEP_CHUNKS: u32 = STEP_QUADS / NV;

var<workgroup> w_tile: array<vec4<f32>, STEP_QUADS * 64>;
var<workgroup> x_tile: array<vec4<f32>, STEP_QUADS * 32>;

// Tile row t of this group as a weight row: with GLU rows 2i and 2i + 1 are a pair.
fn weight_row(group: u32, t: u32) -> u32 {
#if GLU
    return min(group * 32u + (t >> 1u) + (t & 1u) * p.glu_offset, p.rows - 1u);
#else
    return min(group * 64u + t, p.rows - 1u);
#endif
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let tile_row = (index % 16u) * 4u;
    let tile_col = (index / 16u) * 4u;
    let col0 = group.y * 32u;
    let x_quads = p.x_stride >> 2u;
    let steps = p.chunks / STEP_CHUNKS;

    var acc: array<vec4<f32>, 4>;
    for (var step = 0u; step < steps; step++) {
        for (var job = index; job < 64u * STEP_CHUNKS; job += 128u) {
            let t = job % 64u;
            let part = job / 64u;
            let chunk = step * STEP_CHUNKS + part;
            let row = weight_row(group.x, t);
            let q = unpack(quants[cell(chunk, row, p.chunks)]);
            let a = affine(chunk, row, p.chunks);
            for (var i = 0u; i < NV; i++) {
                w_tile[(part * NV + i) * 64u + t] = q[i] * a.x + vec4<f32>(a.y);
            }
        }
        for (var job = index; job < 32u * STEP_QUADS; job += 128u) {
            let quad = job % STEP_QUADS;
            let t = job / STEP_QUADS;
            let token = min(col0 + t, p.tokens - 1u);
            x_tile[quad * 32u + t] = x[token * x_quads + step * STEP_QUADS + quad];
        }
        workgroupBarrier();
        for (var quad = 0u; quad < STEP_QUADS; quad++) {
            let w0 = w_tile[quad * 64u + tile_row];
            let w1 = w_tile[quad * 64u + tile_row + 1u];
            let w2 = w_tile[quad * 64u + tile_row + 2u];
            let w3 = w_tile[quad * 64u + tile_row + 3u];
            for (var c = 0u; c < 4u; c++) {
                let v = x_tile[quad * 32u + tile_col + c];
                acc[c].x = dot_add(w0, v, acc[c].x);
                acc[c].y = dot_add(w1, v, acc[c].y);
                acc[c].z = dot_add(w2, v, acc[c].z);
                acc[c].w = dot_add(w3, v, acc[c].w);
            }
        }
        workgroupBarrier();
    }

    for (var c = 0u; c < 4u; c++) {
        let token = col0 + tile_col + c;
        if (token < p.tokens) {
#if GLU
            let row = group.x * 32u + (tile_row >> 1u);
            if (row < p.rows_out) {
                store(token, row, acc[c].x, acc[c].y);
            }
            if (row + 1u < p.rows_out) {
                store(token, row + 1u, acc[c].z, acc[c].w);
            }
#else
            for (var r = 0u; r < 4u; r++) {
                let row = group.x * 64u + tile_row + r;
                if (row < p.rows_out) {
                    store(token, row, acc[c][r], 0.0);
                }
            }
#endif
        }
    }
}
