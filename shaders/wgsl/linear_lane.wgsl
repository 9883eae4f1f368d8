// Matrix product for software adapters: y = activation(W * norm(x) + bias) + residual.
//
// Formula: y[t][n] = sum_k W[n][k] * x[t][k], weights per weights.wgsl.
//   NORM      x is first RMS-normalised: x * gain / sqrt(mean(x^2) + eps)
//   GLU       rows come in pairs (n, n + glu_offset): y = act(W[n] x) * (W[n + glu_offset] x)
//   BIAS      y += bias[n];  RESIDUAL  y += residual[t][n]
// Memory: x is [T][x_stride], y and residual [T][y_stride], strides multiples of 32;
//   columns past the matrix's own are zero and stay zero.
// Workgroup: LANES lanes; a lane owns ROWS rows (LANES apart) and COLS tokens and shares
//   nothing, so no barrier is needed. K goes in blocks of 32 columns, PARTS chunks each.
//   Every lane needs all 32 activations of a block. A software adapter loads lane by lane,
//   32 bits at a time, uniform address or not, so with SUBGROUPS each of eight lanes loads
//   one vec4 and broadcasts it: an eighth of the loads.
// Grid: x = row groups of LANES * ROWS, y = token groups of COLS.
// Limits: 7 storage buffers and one uniform; no workgroup memory. SUBGROUPS wants subgroups
//   of at least eight lanes, all active.

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
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#if SUBGROUPS
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
#endif
) {
    let row0 = group.x * (LANES * ROWS_OUT) + lane;
    let col0 = group.y * COLS;
    let x_quads = p.x_stride >> 2u;
#if SUBGROUPS
    let mine = subgroup_lane & 7u;
#endif

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
    let blocks = p.chunks / PARTS;
    for (var block = 0u; block < blocks; block++) {
#if SUBGROUPS
#if NORM
        let gain_own = gain[block * 8u + mine];
#endif
#endif
#repeat c COLS
#if SUBGROUPS
#if NORM
        let raw_$c = x[base_$c + block * 8u + mine];
        squares_$c = dot_add(raw_$c, raw_$c, squares_$c);
        let own_$c = raw_$c * gain_own;
#else
        let own_$c = x[base_$c + block * 8u + mine];
#endif
#endif
#repeat s PARTS
#repeat i NV
#if SUBGROUPS
        let x_$c_$s_$i = subgroupBroadcast(own_$c, $su * NV + $iu);
#else
#if NORM
        let raw_$c_$s_$i = x[base_$c + block * 8u + $su * NV + $iu];
        squares_$c = dot_add(raw_$c_$s_$i, raw_$c_$s_$i, squares_$c);
        let x_$c_$s_$i = raw_$c_$s_$i * gain[block * 8u + $su * NV + $iu];
#else
        let x_$c_$s_$i = x[base_$c + block * 8u + $su * NV + $iu];
#endif
#endif
#endrepeat
#if HAS_MIN
        var sum_$c_$s = vec4<f32>(0.0);
#repeat i NV
        sum_$c_$s += x_$c_$s_$i;
#endrepeat
        let x_sum_$c_$s = (sum_$c_$s.x + sum_$c_$s.y) + (sum_$c_$s.z + sum_$c_$s.w);
#endif
#endrepeat
#endrepeat
#repeat r ROWS
#if Q8
        // One scale for both chunks of a block.
        let a_$r = affine(block * PARTS, row_$r, p.rows);
#endif
#repeat s PARTS
        {
            let q = unpack(quants[(block * PARTS + $su) * p.rows + row_$r]);
#if Q8
            let a = a_$r;
#else
#if QUANTIZED
            let a = affine(block * PARTS + $su, row_$r, p.rows);
#endif
#endif
#repeat c COLS
#if QUANTIZED
            var dot_$c = 0.0;
#repeat i NV
            dot_$c = dot_add(q[$i], x_$c_$s_$i, dot_$c);
#endrepeat
#if HAS_MIN
            acc_$r_$c = fma(a.x, dot_$c, fma(a.y, x_sum_$c_$s, acc_$r_$c));
#else
            acc_$r_$c = fma(a.x, dot_$c, acc_$r_$c);
#endif
#else
#repeat i NV
            acc_$r_$c = dot_add(q[$i], x_$c_$s_$i, acc_$r_$c);
#endrepeat
#endif
#endrepeat
        }
#endrepeat
#endrepeat
    }

#if SUBGROUPS
#if NORM
#repeat c COLS
    {
        // Every eight lanes hold the whole sum in parts.
        var all = 0.0;
#repeat i 8
        all += subgroupBroadcast(squares_$c, $iu);
#endrepeat
        squares_$c = all;
    }
#endrepeat
#endif
#endif
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
