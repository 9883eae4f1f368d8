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
// Workgroup: LANES lanes serve TOKENS tokens of one sequence times the GROUP heads
//   that share a kv head, so each key and value is read once for all of them. For
//   scores a lane owns BLOCK / LANES positions, for values its part of the head.
// Grid: x = tiles, y = kv heads.
// Limits: 5 storage buffers, one uniform, 2 * GROUP * TOKENS * BLOCK + 4 words of
//   workgroup memory, below 16 KiB.

#include "common.wgsl"
#include "activation.wgsl"
#include "cache.wgsl"

@group(0) @binding(auto) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(auto) var<storage, read_write> q: array<vec4<f32>>;
@group(0) @binding(auto) var<storage, read_write> keys: array<Stored>;
@group(0) @binding(auto) var<storage, read_write> values: array<Stored>;
@group(0) @binding(auto) var<storage, read_write> info: array<u32>;

#include "attention_params.wgsl"

const QUERIES: u32 = GROUP * TOKENS;
const POSITIONS: u32 = BLOCK / LANES;
const PARTS: u32 = (HEAD_QUADS + LANES - 1u) / LANES;

var<workgroup> tile: vec4<u32>;
var<workgroup> end: u32;
var<workgroup> scores: array<f32, QUERIES * BLOCK>;
var<workgroup> weights: array<f32, QUERIES * BLOCK>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (lane == 0u) {
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

    // Queries past the tile's tokens repeat its last one and are not stored.
    var query_at: array<u32, QUERIES>;
    for (var i = 0u; i < QUERIES; i++) {
        let token = first + min(i / GROUP, count - 1u);
        query_at[i] = token * q_quads + (kv * GROUP + i % GROUP) * HEAD_QUADS;
    }

    var acc: array<array<vec4<f32>, PARTS>, QUERIES>;
    var top: array<f32, QUERIES>;
    var sum: array<f32, QUERIES>;
    for (var i = 0u; i < QUERIES; i++) {
        top[i] = MASKED;
    }

    for (var b = begin; b * BLOCK < length; b++) {
        let block = info[table + b];
        // Zeroed by hand: some compilers zero a variable of a loop's body once, not each time around.
        var s: array<array<f32, POSITIONS>, QUERIES>;
        for (var i = 0u; i < QUERIES; i++) {
            for (var j = 0u; j < POSITIONS; j++) {
                s[i][j] = 0.0;
            }
        }
        for (var quad = 0u; quad < HEAD_QUADS; quad++) {
            var k: array<vec4<f32>, POSITIONS>;
            for (var j = 0u; j < POSITIONS; j++) {
                k[j] = stored_load(keys[key_at(block, kv, p.kv_heads, quad, lane + j * LANES)]);
            }
            for (var i = 0u; i < QUERIES; i++) {
                let v = q[query_at[i] + quad];
                for (var j = 0u; j < POSITIONS; j++) {
                    s[i][j] = dot_add(v, k[j], s[i][j]);
                }
            }
        }
        for (var i = 0u; i < QUERIES; i++) {
            var own = start + min(i / GROUP, count - 1u);
            if (p.ends_at > 0u) {
                own = length - 1u;
            }
            for (var j = 0u; j < POSITIONS; j++) {
                let position = b * BLOCK + lane + j * LANES;
                let seen = position <= own && (p.window == 0u || position + p.window > own);
                var score = s[i][j] * p.scale;
                if (p.cap > 0.0) {
                    score = soft_cap(score, p.cap);
                }
                s[i][j] = select(MASKED, score, seen);
                scores[i * BLOCK + lane + j * LANES] = s[i][j];
            }
        }
        workgroupBarrier();
        for (var i = 0u; i < QUERIES; i++) {
            var highest = top[i];
            for (var j = 0u; j < BLOCK; j++) {
                highest = max(highest, scores[i * BLOCK + j]);
            }
            let shrink = exp(top[i] - highest);
            top[i] = highest;
            sum[i] *= shrink;
            for (var part = 0u; part < PARTS; part++) {
                acc[i][part] *= shrink;
            }
            for (var j = 0u; j < POSITIONS; j++) {
                // A block of masked positions only must not count as exp(0).
                let w = select(exp(s[i][j] - highest), 0.0, s[i][j] == MASKED);
                weights[i * BLOCK + lane + j * LANES] = w;
            }
        }
        workgroupBarrier();
        let filled = min(BLOCK, length - b * BLOCK);
        for (var j = 0u; j < filled; j++) {
            var v: array<vec4<f32>, PARTS>;
            for (var part = 0u; part < PARTS; part++) {
                let quad = min(lane + part * LANES, HEAD_QUADS - 1u);
                v[part] = stored_load(values[value_at(block, kv, p.kv_heads, quad, j)]);
            }
            for (var i = 0u; i < QUERIES; i++) {
                let w = weights[i * BLOCK + j];
                sum[i] += w;
                for (var part = 0u; part < PARTS; part++) {
                    acc[i][part] = fma(v[part], vec4<f32>(w), acc[i][part]);
                }
            }
        }
    }

    for (var i = 0u; i < QUERIES; i++) {
        if (i / GROUP < count) {
            for (var part = 0u; part < PARTS; part++) {
                let quad = lane + part * LANES;
                if (quad < HEAD_QUADS) {
                    out[query_at[i] + quad] = acc[i][part] / sum[i];
                }
            }
        }
    }
    // Columns past the last head stay zero for the next product.
    if (kv + 1u == p.kv_heads) {
        for (var t = 0u; t < count; t++) {
            for (var quad = p.heads * HEAD_QUADS + lane; quad < q_quads; quad += LANES) {
                out[(first + t) * q_quads + quad] = vec4<f32>(0.0);
            }
        }
    }
}
