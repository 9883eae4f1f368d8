// Matrix times a few columns for GPUs: y = activation(W * norm(x)) + residual.
//
// Formula and options as linear_lane.wgsl.
// Memory: as linear_lane.wgsl.
// Workgroup: 32 rows times SPLITS parts of K; a lane owns one row (two with GLU)
//   and COLS tokens over every SPLITS-th chunk; parts meet in workgroup memory.
// Grid: x = row groups of 32, y = token groups of COLS; with EXPERTS from token `first` on, as many as are
//   launched.
// Limits: 7 storage buffers, one uniform; (SPLITS * 32 * COLS * SLOTS + SPLITS * COLS)
//   * 4 bytes of workgroup memory, below 16 KiB for SPLITS = 8 and COLS <= 4.

#include "common.wgsl"

@group(0) @binding(auto) var<storage, read_write> y: array<f32>;
@group(0) @binding(auto) var<storage, read_write> x: array<vec4<f32>>;
#include "weights.wgsl"
#if NORM
@group(0) @binding(auto) var<storage, read_write> gain: array<vec4<f32>>;
#endif
#if BIAS
@group(0) @binding(auto) var<storage, read_write> bias: array<f32>;
#endif
#if RESIDUAL
@group(0) @binding(auto) var<storage, read_write> residual: array<f32>;
#endif

#include "linear_params.wgsl"

var<workgroup> partial: array<f32, SPLITS * COLS * ROWS * LANES>;
#if NORM
var<workgroup> square_sums: array<f32, SPLITS * COLS>;
#endif

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let lane = index % LANES;
    let split = index / LANES;
    let row0 = group.x * LANES + lane;
#if EXPERTS
    let col0 = p.first + group.y;
#else
    let col0 = group.y * COLS;
#endif
    let x_quads = p.x_stride >> 2u;

    var acc: array<array<f32, COLS>, ROWS>;
#if NORM
    var squares: array<f32, COLS>;
#endif
#if EXPERTS
    for (var slot = 0u; slot < p.slots; slot++) {
    let route = col0 * p.slots + slot;
    let expert = expert_of(route);
    if (expert < p.experts) {
    let top = row0 + expert * p.expert_rows;
    let column = route / p.share;
#else
    let top = row0;
#endif
    for (var chunk = split; chunk < p.chunks; chunk += SPLITS) {
        var xs: array<array<vec4<f32>, NV>, COLS>;
#if HAS_MIN
        var x_sum: array<f32, COLS>;
#endif
        for (var c = 0u; c < COLS; c++) {
#if EXPERTS
            let base = column * x_quads + chunk * NV;
#else
            let base = min(col0 + c, p.tokens - 1u) * x_quads + chunk * NV;
#endif
#if HAS_MIN
            x_sum[c] = 0.0;
#endif
            for (var i = 0u; i < NV; i++) {
                var v = x[base + i];
#if NORM
                squares[c] = dot_add(v, v, squares[c]);
                v = v * gain[chunk * NV + i];
#endif
                xs[c][i] = v;
#if HAS_MIN
                x_sum[c] += (v.x + v.y) + (v.z + v.w);
#endif
            }
        }
        for (var r = 0u; r < ROWS; r++) {
            let row = row_of(top, r);
            let q = unpack(quants[cell(chunk, row, p.chunks)]);
            let a = affine(chunk, row, p.chunks);
            for (var c = 0u; c < COLS; c++) {
                var sum = 0.0;
                for (var i = 0u; i < NV; i++) {
                    sum = dot_add(q[i], xs[c][i], sum);
                }
#if HAS_MIN
                acc[r][c] = fma(a.x, sum, fma(a.y, x_sum[c], acc[r][c]));
#else
                acc[r][c] = fma(a.x, sum, acc[r][c]);
#endif
            }
        }
    }
#if EXPERTS
    }
    }
#endif

    for (var c = 0u; c < COLS; c++) {
        for (var r = 0u; r < ROWS; r++) {
            partial[((split * COLS + c) * ROWS + r) * LANES + lane] = acc[r][c];
        }
#if NORM
        if (lane == 0u) {
            square_sums[split * COLS + c] = squares[c];
        }
#endif
    }
    workgroupBarrier();

    // One lane per row and token sums the parts, in a fixed order.
    for (var c = split; c < COLS; c += SPLITS) {
        let token = col0 + c;
        var wanted = token < p.tokens && row0 < p.rows_out;
#if EXPERTS
#if GLU
        // Results of other planes' experts are theirs to store.
        wanted = wanted && expert_of(token) < p.experts;
#endif
#endif
        if (wanted) {
            var sums: array<f32, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                sums[r] = 0.0;
            }
            for (var s = 0u; s < SPLITS; s++) {
                for (var r = 0u; r < ROWS; r++) {
                    sums[r] += partial[((s * COLS + c) * ROWS + r) * LANES + lane];
                }
            }
            var factor = 1.0;
#if NORM
            var total = 0.0;
            for (var s = 0u; s < SPLITS; s++) {
                total += square_sums[s * COLS + c];
            }
            factor = inverseSqrt(total / f32(p.norm_width) + bitcast<f32>(p.eps));
#endif
#if GLU
            store(token, row0, sums[0] * factor, sums[1] * factor);
#else
            store(token, row0, sums[0] * factor, 0.0);
#endif
        }
    }
}
