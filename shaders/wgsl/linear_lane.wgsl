// Matrix product for software adapters: y = activation(W * norm(x) + bias) + residual.
//
// Formula: y[t][n] = sum_k W[n][k] * x[t][k], weights per weights.wgsl.
//   NORM      x is first RMS-normalised: x * gain / sqrt(mean(x^2) + eps)
//   GLU       rows come in pairs (n, n + glu_offset): y = act(W[n] x) * (W[n + glu_offset] x)
//   BIAS      y += bias[n];  RESIDUAL  y += residual[t][n]
// Memory: x is [T][x_stride], y and residual [T][y_stride], strides multiples of 32;
//   columns past the matrix's own are zero and stay zero.
// Workgroup: LANES lanes; a lane owns ROWS rows (LANES apart) and COLS tokens,
//   reads x uniformly and shares nothing, so no barrier is needed.
// Grid: x = row groups of LANES * ROWS, y = token groups of COLS.
// Limits: 7 storage buffers and one uniform; no workgroup memory.

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

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row0 = group.x * (LANES * ROWS_OUT) + lane;
    let col0 = group.y * COLS;
    let x_quads = p.x_stride >> 2u;

    var acc: array<array<f32, COLS>, ROWS>;
#if NORM
    var squares: array<f32, COLS>;
#endif
    for (var chunk = 0u; chunk < p.chunks; chunk++) {
        var xs: array<array<vec4<f32>, NV>, COLS>;
#if HAS_MIN
        var x_sum: array<f32, COLS>;
#endif
        for (var c = 0u; c < COLS; c++) {
            // Tokens past the last repeat it; their results are not stored.
            let base = min(col0 + c, p.tokens - 1u) * x_quads + chunk * NV;
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
            let row = row_of(row0, r);
            let q = unpack(quants[chunk * p.rows + row]);
#if QUANTIZED
            let a = affine(chunk, row, p.rows);
#endif
            for (var c = 0u; c < COLS; c++) {
#if QUANTIZED
                var sum = 0.0;
                for (var i = 0u; i < NV; i++) {
                    sum = dot_add(q[i], xs[c][i], sum);
                }
#if HAS_MIN
                acc[r][c] = fma(a.x, sum, fma(a.y, x_sum[c], acc[r][c]));
#else
                acc[r][c] = fma(a.x, sum, acc[r][c]);
#endif
#else
                for (var i = 0u; i < NV; i++) {
                    acc[r][c] = dot_add(q[i], xs[c][i], acc[r][c]);
                }
#endif
            }
        }
    }

    for (var c = 0u; c < COLS; c++) {
        let token = col0 + c;
        if (token >= p.tokens) {
            break;
        }
        var factor = 1.0;
#if NORM
        factor = inverseSqrt(squares[c] / f32(p.norm_width) + bitcast<f32>(p.eps));
#endif
        for (var r = 0u; r < ROWS_OUT; r++) {
            let row = row0 + r * LANES;
            if (row < p.rows_out) {
#if GLU
                store(token, row, acc[r][c] * factor, acc[r + ROWS_OUT][c] * factor);
#else
                store(token, row, acc[r][c] * factor, 0.0);
#endif
            }
        }
    }
}
