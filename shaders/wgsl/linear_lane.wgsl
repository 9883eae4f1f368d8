// Matrix product for software adapters: y = activation(W * norm(x) + bias) + residual.
//
// Formula: y[t][n] = sum_k W[n][k] * x[t][k], weights per weights.wgsl.
//   NORM      x is first RMS-normalised: x * gain / sqrt(mean(x^2) + eps)
//   GLU       rows come in pairs (n, n + glu_offset): y = act(W[n] x) * (W[n + glu_offset] x)
//   BIAS      y += bias[n];  RESIDUAL  y += residual[t][n]
//   ACTIVATE  y = act(y), after the bias
//   SOFT_CAP  y = cap * tanh(y / cap), after all else
//   EXPERTS   W is that of the experts which are chosen for t, see experts.wgsl; COLS is one
// Memory: x is [T][x_stride], y and residual [T][y_stride], strides multiples of 32;
//   columns past the matrix's own are zero and stay zero.
// Workgroup: LANES lanes; a lane owns ROW_GROUPS groups of four neighbouring rows, whose scales
//   come in one load, and COLS tokens; it shares nothing, so no barrier is needed. K goes in
//   blocks of 32 columns, PARTS chunks each.
//   Every lane needs all 32 activations of a block. A software adapter loads lane by lane,
//   32 bits at a time, uniform address or not, so with SUBGROUPS each of eight lanes loads
//   one vec4 and broadcasts it: an eighth of the loads.
//   Quants become floats where they stand in their word, see weights.wgsl: SwiftShader shifts lane by lane.
//   With SUBGROUPS the activations are scaled for it once, by the lane that loads them.
// Grid: x = LANES * ROW_GROUPS_OUT groups of four rows, y = token groups of COLS, the first of
//   them at token `first`; with EXPERTS as many as are launched.
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

// The group of four rows in a lane's slot; with GLU the gates come first, then their up rows.
fn group_of(first: u32, slot: u32) -> u32 {
#if GLU
    if (slot >= ROW_GROUPS_OUT) {
        return first + (slot - ROW_GROUPS_OUT) * LANES + (p.glu_offset >> 2u);
    }
#endif
    return first + slot * LANES;
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#if SUBGROUPS
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
#endif
) {
    // Groups of four rows: the lane's first, and as many as the planes have.
    let first = group.x * (LANES * ROW_GROUPS_OUT) + lane;
    let last = (p.rows >> 2u) - 1u;
    let col0 = p.first + group.y * COLS;
    let x_quads = p.x_stride >> 2u;
#if SUBGROUPS
    let mine = subgroup_lane & 7u;
#if QUANTIZED
    let down = brought_down(vec4<f32>(1.0), mine);
#endif
#endif

#repeat c COLS
#if EXPERTS
#else
    // Tokens past the last repeat it; their results are not stored.
    let base_$c = min(col0 + $cu, p.tokens - 1u) * x_quads;
#endif
#if NORM
    var squares_$c = 0.0;
#endif
#repeat g ROW_GROUPS
#repeat r 4
    var acc_$g_$r_$c = 0.0;
#endrepeat
#endrepeat
#endrepeat
    let blocks = p.chunks / PARTS;
#if EXPERTS
    for (var slot = 0u; slot < p.slots; slot++) {
    let route = col0 * p.slots + slot;
    let expert = expert_of(route);
    if (expert < p.experts) {
    let base_0 = route / p.share * x_quads;
    let top = first + expert * (p.expert_rows >> 2u);
#else
    let top = first;
#endif
    // Groups past the matrix repeat its last one; their results are not stored.
#repeat g ROW_GROUPS
    let row_$g = min(group_of(top, $gu), last) * 4u;
    // Where the rows' first chunk lies; the next one is 64 cells on.
    let quants_$g = cell(0u, row_$g, p.chunks);
#if Q8
    let scales_$g = cell(0u, row_$g, p.chunks >> 1u);
#endif
#endrepeat
    for (var block = 0u; block < blocks; block++) {
#if SUBGROUPS
#if NORM
        let gain_own = gain[block * 8u + mine];
#endif
#endif
        // x_sum: of a chunk's activations; z: what its quants are multiplied with.
#repeat c COLS
#if SUBGROUPS
#if NORM
        let raw_$c = x[base_$c + block * 8u + mine];
        squares_$c = dot_add(raw_$c, raw_$c, squares_$c);
        let own_$c = raw_$c * gain_own;
#else
        let own_$c = x[base_$c + block * 8u + mine];
#endif
        let sum_own_$c = (own_$c.x + own_$c.y) + (own_$c.z + own_$c.w);
#if QUANTIZED
        let z_own_$c = own_$c * down;
#else
        let z_own_$c = own_$c;
#endif
#repeat s PARTS
#if HAS_MIN
        var x_sum_$c_$s = 0.0;
#repeat i NV
        x_sum_$c_$s += subgroupBroadcast(sum_own_$c, $su * NV + $iu);
#endrepeat
#endif
#repeat i NV
        let z_$c_$s_$i = subgroupBroadcast(z_own_$c, $su * NV + $iu);
#endrepeat
#endrepeat
#else
#repeat s PARTS
#repeat i NV
#if NORM
        let raw_$c_$s_$i = x[base_$c + block * 8u + $su * NV + $iu];
        squares_$c = dot_add(raw_$c_$s_$i, raw_$c_$s_$i, squares_$c);
        let x_$c_$s_$i = raw_$c_$s_$i * gain[block * 8u + $su * NV + $iu];
#else
        let x_$c_$s_$i = x[base_$c + block * 8u + $su * NV + $iu];
#endif
#if QUANTIZED
        let z_$c_$s_$i = brought_down(x_$c_$s_$i, $iu);
#else
        let z_$c_$s_$i = x_$c_$s_$i;
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
#endif
#endrepeat
#repeat g ROW_GROUPS
#if Q8
        // One scale for both chunks of a block.
        let whole_$g = affine4(scales_$g + block * 64u);
#endif
#repeat s PARTS
        {
            let at = quants_$g + (block * PARTS + $su) * 64u;
#if QUANTIZED
#if Q8
            let a = whole_$g;
#else
            let a = affine4(at);
#endif
#endif
#repeat r 4
#if QUANTIZED
            let q_$r = unpack_in_place(quants[at + $ru]);
#else
            let q_$r = unpack(quants[at + $ru]);
#endif
#repeat c COLS
#if QUANTIZED
            var dot_$r_$c = 0.0;
#repeat i NV
            dot_$r_$c = dot_add(q_$r[$i], z_$c_$s_$i, dot_$r_$c);
#endrepeat
#if HAS_MIN
            acc_$g_$r_$c = fma(a[$r].x, dot_$r_$c, fma(a[$r].y, x_sum_$c_$s, acc_$g_$r_$c));
#else
            acc_$g_$r_$c = fma(a[$r].x, dot_$r_$c, acc_$g_$r_$c);
#endif
#else
#repeat i NV
            acc_$g_$r_$c = dot_add(q_$r[$i], z_$c_$s_$i, acc_$g_$r_$c);
#endrepeat
#endif
#endrepeat
#endrepeat
        }
#endrepeat
#endrepeat
    }
#if EXPERTS
    }
    }
#endif

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
#if EXPERTS
#if GLU
    // Results of other planes' experts are theirs to store.
    if (expert_of(col0) < p.experts) {
#else
    {
#endif
#else
    if (col0 + $cu < p.tokens) {
#endif
        var factor = 1.0;
#if NORM
        factor = inverseSqrt(squares_$c / f32(p.norm_width) + bitcast<f32>(p.eps));
#endif
#if GLU
        var gates: array<f32, ROW_GROUPS * 4u>;
#repeat g ROW_GROUPS
#repeat r 4
        gates[$gu * 4u + $ru] = acc_$g_$r_$c * factor;
#endrepeat
#endrepeat
#endif
#repeat g ROW_GROUPS_OUT
#repeat r 4
        {
            let row = (first + $gu * LANES) * 4u + $ru;
            if (row < p.rows_out) {
#if GLU
                let slot = $gu * 4u + $ru;
                store(col0 + $cu, row, gates[slot], gates[slot + ROW_GROUPS_OUT * 4u]);
#else
                store(col0 + $cu, row, acc_$g_$r_$c * factor, 0.0);
#endif
            }
        }
#endrepeat
#endrepeat
    }
#endrepeat
}
