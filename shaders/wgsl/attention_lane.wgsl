// Grouped-query attention over block tables for software adapters with subgroups.
//
// Formula: as attention.wgsl, with its options.
// Memory: as attention.wgsl.
// Workgroup: eight lanes, one subgroup, serve TOKENS tokens of one sequence times the GROUP heads that
//   share a kv head. The cache goes by in runs of eight positions: for scores a lane owns one of
//   them, for values PARTS quads of the head. A load costs a software adapter as much when all lanes
//   want the same, so queries and weights stay in the lanes and are broadcast: keys and values
//   alone are loaded, once each, and nothing needs a barrier.
// Grid: x = tiles, y = kv heads.
// Limits: 5 storage buffers, one uniform, no workgroup memory; subgroups of at least eight lanes, all active.
//   GROUP * TOKENS * PARTS quads are accumulated in registers.

#include "common.wgsl"
#include "activation.wgsl"
#include "attention_params.wgsl"


@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
) {
    let lane = subgroup_lane & 7u;
    let tile = p.tiles_at + group.x * 4u;
    let first = info[tile];
    let count = info[tile + 1u];
    let table = info[tile + 2u];
    let start = info[tile + 3u];
    let kv = group.y;
    let q_quads = p.q_stride >> 2u;
    var length = start + count;
    if (p.ends_at > 0u) {
        length = info[p.ends_at + group.x];
    }
    var begin = 0u;
    if (p.window > 0u && start + 1u > p.window) {
        begin = (start + 1u - p.window) / 8u * 8u;
    }

#include "attention_queries.wgsl"
#repeat t TOKENS
#repeat g GROUP
#repeat i PARTS
    // Quads past the head are zeros.
    let scale_$t_$g_$i = select(0.0, p.scale, $iu * 8u + lane <= LAST_QUAD);
    let q_$t_$g_$i = q[query_$t_$g + min($iu * 8u + lane, LAST_QUAD)] * scale_$t_$g_$i;
#endrepeat
#endrepeat
#endrepeat

    for (var base = begin; base < length; base += 8u) {
        let block = info[table + base / BLOCK];
        let offset = base % BLOCK;
        let key = key_at(block, kv, p.kv_heads, 0u, offset + lane);
#repeat t TOKENS
#repeat g GROUP
        var s_$t_$g = 0.0;
#endrepeat
#endrepeat
#repeat i PARTS
#repeat l 8
        {
            let k = stored_load(keys[key + min($iu * 8u + $lu, LAST_QUAD) * BLOCK]);
#repeat t TOKENS
#repeat g GROUP
            s_$t_$g = dot_add(subgroupBroadcast(q_$t_$g_$i, $lu), k, s_$t_$g);
#endrepeat
#endrepeat
        }
#endrepeat
#endrepeat
        let position = base + lane;
        let key_size = key_scale(block, kv, offset + lane);
        let value_size = value_scale(block, kv, offset + lane, position < length);
#repeat t TOKENS
        let seen_$t = position <= own_$t && (p.window == 0u || position + p.window > own_$t);
#repeat g GROUP
        s_$t_$g *= key_size;
        if (p.cap > 0.0) {
            s_$t_$g = soft_cap(s_$t_$g, p.cap);
        }
        s_$t_$g = select(MASKED, s_$t_$g, seen_$t);
        var highest_$t_$g = top_$t_$g;
#repeat l 8
        highest_$t_$g = max(highest_$t_$g, subgroupBroadcast(s_$t_$g, $lu));
#endrepeat
        let shrink_$t_$g = exp(top_$t_$g - highest_$t_$g);
        top_$t_$g = highest_$t_$g;
        // Where all eight positions are masked they must not count as exp(0).
        let w_$t_$g = select(exp(s_$t_$g - highest_$t_$g), 0.0, s_$t_$g == MASKED);
        // Of the lane's own positions until the end.
        sum_$t_$g = fma(sum_$t_$g, shrink_$t_$g, w_$t_$g);
        let share_$t_$g = w_$t_$g * value_size;
#repeat i PARTS
        acc_$t_$g_$i *= shrink_$t_$g;
#endrepeat
#endrepeat
#endrepeat
        // Positions past the end weigh nothing, but what lies there may be no number.
        let filled = min(8u, length - base) - 1u;
#repeat l 8
        {
            let value = value_at(block, kv, p.kv_heads, 0u, offset + min($lu, filled));
#repeat i PARTS
            let v_$i = stored_load(values[value + min($iu * 8u + lane, LAST_QUAD)]);
#endrepeat
#repeat t TOKENS
#repeat g GROUP
            let w_$l_$t_$g = vec4<f32>(subgroupBroadcast(share_$t_$g, $lu));
#repeat i PARTS
            acc_$t_$g_$i = fma(v_$i, w_$l_$t_$g, acc_$t_$g_$i);
#endrepeat
#endrepeat
#endrepeat
        }
#endrepeat
    }

#repeat t TOKENS
#repeat g GROUP
    var all_$t_$g = 0.0;
#repeat l 8
    all_$t_$g += subgroupBroadcast(sum_$t_$g, $lu);
#endrepeat
#repeat i PARTS
    if ($tu < count && $iu * 8u + lane <= LAST_QUAD) {
        out[query_$t_$g + $iu * 8u + lane] = acc_$t_$g_$i / all_$t_$g;
    }
#endrepeat
#endrepeat
#endrepeat
    clear_padding(first, count, kv, lane);
}
