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

#repeat c COLS
    // Tokens past the last repeat it; their results are not stored.
    let base_$c = min(col0 + $cu, p.tokens - 1u) * x_quads;
#if NORM
    var squares_$c = 0.0;
#endif
#repeat r ROWS
    var acc_$r_$c = 0.0;
#endrepeat
#endrepeat
#repeat r ROWS
    let row_$r = row_of(row0, $ru);
#endrepeat
    for (var chunk = 0u; chunk < p.chunks; chunk++) {
#repeat c COLS
#repeat i NV
#if NORM
        let raw_$c_$i = x[base_$c + chunk * NV + $iu];
        squares_$c = dot_add(raw_$c_$i, raw_$c_$i, squares_$c);
        let x_$c_$i = raw_$c_$i * gain[chunk * NV + $iu];
#else
        let x_$c_$i = x[base_$c + chunk * NV + $iu];
#endif
#endrepeat
#if HAS_MIN
        var sum_$c = vec4<f32>(0.0);
#repeat i NV
        sum_$c += x_$c_$i;
#endrepeat
        let x_sum_$c = (sum_$c.x + sum_$c.y) + (sum_$c.z + sum_$c.w);
#endif
#endrepeat
#repeat r ROWS
        {
            let q = unpack(quants[chunk * p.rows + row_$r]);
#if QUANTIZED
            let a = affine(chunk, row_$r, p.rows);
#endif
#repeat c COLS
#if QUANTIZED
            var dot_$c = 0.0;
#repeat i NV
            dot_$c = dot_add(q[$i], x_$c_$i, dot_$c);
#endrepeat
#if HAS_MIN
            acc_$r_$c = fma(a.x, dot_$c, fma(a.y, x_sum_$c, acc_$r_$c));
#else
            acc_$r_$c = fma(a.x, dot_$c, acc_$r_$c);
#endif
#else
#repeat i NV
            acc_$r_$c = dot_add(q[$i], x_$c_$i, acc_$r_$c);
#endrepeat
#endif
#endrepeat
        }
#endrepeat
    }

#repeat c COLS
    if (col0 + $cu < p.tokens) {
        var factor = 1.0;
#if NORM
        factor = inverseSqrt(squares_$c / f32(p.norm_width) + bitcast<f32>(p.eps));
#endif
#if GLU
        var gates: array<f32, ROWS>;
#repeat r ROWS
        gates[$r] = acc_$r_$c * factor;
#endrepeat
#repeat r ROWS_OUT
        if (row0 + $ru * LANES < p.rows_out) {
            store(col0 + $cu, row0 + $ru * LANES, gates[$r], gates[$ru + ROWS_OUT]);
        }
#endrepeat
#else
#repeat r ROWS
        if (row0 + $ru * LANES < p.rows_out) {
            store(col0 + $cu, row0 + $ru * LANES, acc_$r_$c * factor, 0.0);
        }
#endrepeat
#endif
    }
#endrepeat
}
