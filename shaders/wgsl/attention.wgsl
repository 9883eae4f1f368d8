// Grouped-query attention over block tables, for prefill and decode alike.
//
// Formula: out = softmax(scale * q K^T) V per head, over the positions up to the
//   query's own (and within `window` of it, where a window is set), or where
//   `ends_at` is set over all of the sequence; the running maximum and sum make one
//   pass over the cache enough. With a `cap` above zero a score s counts as
//   cap * tanh(s / cap).
// Memory: q, out [T][q_stride] f32; keys and values per cache.wgsl; the step buffer
//   holds tiles [tile][4] u32: first token, token count (<= TOKENS), where the
//   sequence's block table starts in the step buffer, position of the first token;
//   and, where `ends_at` is set, [tile] u32: positions of the tile's sequence.
// Workgroup: SPLITS times LANES lanes serve TOKENS tokens of one sequence times the GROUP heads
//   that share a kv head, so each key and value is read once for all of them. The waves share the cache's blocks
//   out among them, and their parts meet at the end. For
//   scores a lane owns BLOCK / LANES positions, for values its part of the head.
// Grid: x = tiles, y = kv heads.
// Limits: 5 storage buffers, one uniform; LANES <= BLOCK; SPLITS * (2 * GROUP * TOKENS * BLOCK + 4 * HEAD_QUADS) and
//   some words of workgroup memory, below 16 KiB.

#include "common.wgsl"
#include "activation.wgsl"
#include "attention_params.wgsl"

const QUERIES: u32 = GROUP * TOKENS;

var<workgroup> tile: vec4<u32>;
var<workgroup> end: u32;
var<workgroup> scores: array<f32, SPLITS * QUERIES * BLOCK>;
var<workgroup> weights: array<f32, SPLITS * QUERIES * BLOCK>;
#if SPLIT
var<workgroup> tops: array<f32, SPLITS * QUERIES>;
// What the waves have of one query.
var<workgroup> parts: array<vec4<f32>, SPLITS * HEAD_QUADS>;
#endif

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let lane = index % LANES;
    let wave = index / LANES;
    let queries = wave * QUERIES;
    if (index == 0u) {
        let at = p.tiles_at + group.x * 4u;
        tile = vec4<u32>(info[at], info[at + 1u], info[at + 2u], info[at + 3u]);
        end = info[at + 3u] + info[at + 1u];
        if (p.ends_at > 0u) {
            end = info[p.ends_at + group.x];
        }
    }
    // The loop over blocks has barriers, so its bounds must be uniform in the language's eyes.
    let own_tile = workgroupUniformLoad(&tile);
    let first = own_tile.x;
    let count = own_tile.y;
    let table = own_tile.z;
    let start = own_tile.w;
    let kv = group.y;
    let q_quads = p.q_stride >> 2u;
    let length = workgroupUniformLoad(&end);
    var begin = 0u;
    if (p.window > 0u && start + 1u > p.window) {
        begin = (start + 1u - p.window) / BLOCK;
    }

#include "attention_queries.wgsl"

    for (var next = begin; next * BLOCK < length; next += SPLITS) {
        // A wave past the last block sees none of its positions.
        let b = next + wave;
        let block = info[table + min(b, (length - 1u) / BLOCK)];
#repeat t TOKENS
#repeat g GROUP
#repeat j POSITIONS
        // Zeroed by hand: some compilers zero a variable of a loop's body once, not each time around.
        var s_$t_$g_$j: f32;
        s_$t_$g_$j = 0.0;
#endrepeat
#endrepeat
#endrepeat
#if SPLIT
        let quads = select(0u, HEAD_QUADS, b * BLOCK < length);
#else
        const quads = HEAD_QUADS;
#endif
        for (var quad = 0u; quad < quads; quad++) {
#repeat j POSITIONS
            let k_$j = stored_load(keys[key_at(block, kv, p.kv_heads, quad, lane + $ju * LANES)]);
#endrepeat
#repeat t TOKENS
#repeat g GROUP
            let v_$t_$g = q[query_$t_$g + quad];
#repeat j POSITIONS
            s_$t_$g_$j = dot_add(v_$t_$g, k_$j, s_$t_$g_$j);
#endrepeat
#endrepeat
#endrepeat
        }
#repeat j POSITIONS
        let position_$j = b * BLOCK + lane + $ju * LANES;
        let key_scale_$j = p.scale * key_scale(block, kv, lane + $ju * LANES);
        let value_scale_$j = value_scale(block, kv, lane + $ju * LANES, position_$j < length);
#repeat t TOKENS
        let seen_$t_$j = position_$j <= own_$t && (p.window == 0u || position_$j + p.window > own_$t);
#repeat g GROUP
        s_$t_$g_$j *= key_scale_$j;
        if (p.cap > 0.0) {
            s_$t_$g_$j = soft_cap(s_$t_$g_$j, p.cap);
        }
        s_$t_$g_$j = select(MASKED, s_$t_$g_$j, seen_$t_$j);
        scores[(queries + $tu * GROUP + $gu) * BLOCK + lane + $ju * LANES] = s_$t_$g_$j;
#endrepeat
#endrepeat
#endrepeat
        workgroupBarrier();
#repeat t TOKENS
#repeat g GROUP
        var highest_$t_$g = top_$t_$g;
#endrepeat
#endrepeat
        for (var j = 0u; j < BLOCK; j += 4u) {
#repeat t TOKENS
#repeat g GROUP
#repeat j 4
            highest_$t_$g = max(highest_$t_$g, scores[(queries + $tu * GROUP + $gu) * BLOCK + j + $ju]);
#endrepeat
#endrepeat
#endrepeat
        }
#repeat t TOKENS
#repeat g GROUP
        let shrink_$t_$g = exp(top_$t_$g - highest_$t_$g);
        top_$t_$g = highest_$t_$g;
        sum_$t_$g *= shrink_$t_$g;
#repeat i PARTS
        acc_$t_$g_$i *= shrink_$t_$g;
#endrepeat
#repeat j POSITIONS
        // A block of masked positions only must not count as exp(0).
        let w_$t_$g_$j = select(exp(s_$t_$g_$j - highest_$t_$g), 0.0, s_$t_$g_$j == MASKED);
        // Of the lane's own positions until the end.
        sum_$t_$g += w_$t_$g_$j;
        weights[(queries + $tu * GROUP + $gu) * BLOCK + lane + $ju * LANES] = w_$t_$g_$j * value_scale_$j;
#endrepeat
#endrepeat
#endrepeat
        workgroupBarrier();
        let filled = min(BLOCK, max(length, b * BLOCK) - b * BLOCK);
        for (var j = 0u; j < filled; j++) {
            let value = value_at(block, kv, p.kv_heads, 0u, j);
#repeat i PARTS
            let v_$i = stored_load(values[value + min(lane + $iu * LANES, LAST_QUAD)]);
#endrepeat
#repeat t TOKENS
#repeat g GROUP
            let w_$t_$g = weights[(queries + $tu * GROUP + $gu) * BLOCK + j];
#repeat i PARTS
            acc_$t_$g_$i = fma(v_$i, vec4<f32>(w_$t_$g), acc_$t_$g_$i);
#endrepeat
#endrepeat
#endrepeat
        }
    }

    // Nobody reads scores any more: the lanes' sums take their place.
#repeat t TOKENS
#repeat g GROUP
    scores[(queries + $tu * GROUP + $gu) * BLOCK + lane] = sum_$t_$g;
#endrepeat
#endrepeat
#if SPLIT
#repeat t TOKENS
#repeat g GROUP
    tops[queries + $tu * GROUP + $gu] = top_$t_$g;
#endrepeat
#endrepeat
#endif
    workgroupBarrier();
#if SPLIT
#repeat t TOKENS
#repeat g GROUP
#repeat i PARTS
    if (lane + $iu * LANES <= LAST_QUAD) {
        parts[wave * HEAD_QUADS + lane + $iu * LANES] = acc_$t_$g_$i;
    }
#endrepeat
    workgroupBarrier();
    if ($tu < count) {
        var top = MASKED;
        for (var w = 0u; w < SPLITS; w++) {
            top = max(top, tops[w * QUERIES + $tu * GROUP + $gu]);
        }
        var all = 0.0;
        for (var w = 0u; w < SPLITS; w++) {
            let size = exp(tops[w * QUERIES + $tu * GROUP + $gu] - top);
            for (var i = 0u; i < LANES; i++) {
                all = fma(size, scores[(w * QUERIES + $tu * GROUP + $gu) * BLOCK + i], all);
            }
        }
        for (var quad = index; quad < HEAD_QUADS; quad += WORKGROUP) {
            var sum = vec4<f32>(0.0);
            for (var w = 0u; w < SPLITS; w++) {
                let size = exp(tops[w * QUERIES + $tu * GROUP + $gu] - top);
                sum = fma(vec4<f32>(size), parts[w * HEAD_QUADS + quad], sum);
            }
            out[query_$t_$g + quad] = sum / all;
        }
    }
    workgroupBarrier();
#endrepeat
#endrepeat
#else
#repeat t TOKENS
#repeat g GROUP
    var all_$t_$g = 0.0;
    for (var i = 0u; i < LANES; i++) {
        all_$t_$g += scores[(queries + $tu * GROUP + $gu) * BLOCK + i];
    }
#repeat i PARTS
    if ($tu < count && lane + $iu * LANES <= LAST_QUAD) {
        out[query_$t_$g + lane + $iu * LANES] = acc_$t_$g_$i / all_$t_$g;
    }
#endrepeat
#endrepeat
#endrepeat
#endif
    if (wave == 0u) {
        clear_padding(first, count, kv, lane);
    }
}
