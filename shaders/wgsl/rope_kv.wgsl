// Rotary position embedding of queries and keys, and the write of keys and values
// to the paged cache.
//
// Formula, for a pair (a, b) of a head and its angle: (a cos - b sin, b cos + a sin).
//   Pairs are neighbours, (2i, 2i + 1): models that pair the halves of a head have their
//   rows reordered at load. Dimensions past `rotary` pass through. Angles come as a table per step, so that every adapter
//   uses the same bits.
// With HEAD_NORM each query and key head is first divided by its root mean square over
//   `head_width` elements (those past it are zero) and multiplied by a gain. With WHOLE_NORM
//   all query heads are divided by the root mean square of them all, and the key heads by theirs.
// Memory: qkv [T][stride] f32 holds q heads, then k heads, then v heads; q [T][q_stride];
//   in the step buffer slots [T] u32: block * BLOCK + offset of each token, and the
//   angles as f32 bits: cos [T][rotary / 2], then sin as many; gains [2][head] f32, of
//   queries and of keys, or with WHOLE_NORM [heads + kv_heads][head].
//   The cache is per cache.wgsl. With KV_Q8 each lane finds the scale of its whole head, by the same
//   sums, and the lane with the first quad stores it.
// Workgroup: LANES lanes, PARTS vec4 of one head each: a divisor of HEAD_QUADS, all of them where
//   loads are dear and a lane reads its whole head anyway. Grid: x = groups of LANES * PARTS vec4, y = tokens.
// Limits: 6 storage buffers and one uniform; with WHOLE_NORM 2 * LANES floats of workgroup memory.

#include "common.wgsl"

@group(0) @binding(auto) var<storage, read_write> q_out: array<vec4<f32>>;
#include "cache.wgsl"
@group(0) @binding(auto) var<storage, read_write> keys: array<Stored>;
@group(0) @binding(auto) var<storage, read_write> values: array<Stored>;
@group(0) @binding(auto) var<storage, read_write> qkv: array<vec4<f32>>;
@group(0) @binding(auto) var<storage, read_write> info: array<u32>;
#if HEAD_NORM
@group(0) @binding(auto) var<storage, read_write> gains: array<vec4<f32>>;
#endif

struct Params {
    tokens: u32,
    stride: u32,
    q_stride: u32,
    heads: u32,
    kv_heads: u32,
    rotary: u32,
    slots_at: u32,
    angles_at: u32,
    head_width: u32,
    eps: f32,
    pad0: u32,
    pad1: u32,
}
@group(0) @binding(auto) var<uniform> p: Params;

fn cos_at(token: u32, i: u32) -> f32 {
    return bitcast<f32>(info[p.angles_at + token * (p.rotary >> 1u) + i]);
}
fn sin_at(token: u32, i: u32) -> f32 {
    return bitcast<f32>(info[p.angles_at + (p.tokens + token) * (p.rotary >> 1u) + i]);
}
// One pair after its rotation; pairs past `rotary` pass through.
fn rotate(token: u32, pair: u32, v: vec2<f32>) -> vec2<f32> {
    if (pair * 2u >= p.rotary) {
        return v;
    }
    let c = cos_at(token, pair);
    let s = sin_at(token, pair);
    return vec2<f32>(v.x * c - v.y * s, v.y * c + v.x * s);
}

#if HEAD_NORM
#if WHOLE_NORM
// Squares of the token's queries and of its keys, a part from each lane.
var<workgroup> squares: array<vec2<f32>, LANES>;

// What queries and keys are multiplied with before their gains.
fn whole_scales(row: u32, lane: u32) -> vec2<f32> {
    let key_row = row + p.heads * HEAD_QUADS;
    var own = vec2<f32>(0.0);
    for (var i = lane; i < p.heads * HEAD_QUADS; i += LANES) {
        own.x += dot(qkv[row + i], qkv[row + i]);
    }
    for (var i = lane; i < p.kv_heads * HEAD_QUADS; i += LANES) {
        own.y += dot(qkv[key_row + i], qkv[key_row + i]);
    }
    squares[lane] = own;
    workgroupBarrier();
    var all = vec2<f32>(0.0);
    for (var i = 0u; i < LANES; i++) {
        all += squares[i];
    }
    let counts = vec2<f32>(vec2<u32>(p.heads, p.kv_heads) * p.head_width);
    return inverseSqrt(all / counts + p.eps);
}
#else
// What a query or key is multiplied with before its gain.
fn head_scale(head_at: u32) -> f32 {
    var squares = 0.0;
    for (var i = 0u; i < HEAD_QUADS; i++) {
        let v = qkv[head_at + i];
        squares += dot(v, v);
    }
    return inverseSqrt(squares / f32(p.head_width) + p.eps);
}
#endif
#endif

// A quad of a head as it goes on: queries and keys normed (by `norm`, before their gains) and rotated,
// values as they are.
fn made(token: u32, head: u32, quad: u32, norm: f32) -> vec4<f32> {
    let at = head * HEAD_QUADS + quad;
    var own = qkv[token * (p.stride >> 2u) + at];
    if (head >= p.heads + p.kv_heads) {
        return own;
    }
#if HEAD_NORM
#if WHOLE_NORM
    own *= norm * gains[at];
#else
    own *= norm * gains[select(quad, HEAD_QUADS + quad, head >= p.heads)];
#endif
#endif
    return vec4<f32>(rotate(token, quad * 2u, own.xy), rotate(token, quad * 2u + 1u, own.zw));
}

#if KV_Q8
// The largest magnitude of a head.
fn largest(token: u32, head: u32, norm: f32) -> f32 {
    var most = 0.0;
    for (var quad = 0u; quad < HEAD_QUADS; quad++) {
        let v = abs(made(token, head, quad, norm));
        most = max(most, max(max(v.x, v.y), max(v.z, v.w)));
    }
    return most;
}
#endif

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = (group.x * LANES + lane) * PARTS;
    let token = group.y;
    let head = at / HEAD_QUADS;
    let first = at % HEAD_QUADS;
    let q_quads = p.q_stride >> 2u;
    var norm = 1.0;
#if HEAD_NORM
    let row = token * (p.stride >> 2u);
#if WHOLE_NORM
    let scales = whole_scales(row, lane);
    norm = select(scales.x, scales.y, head >= p.heads);
#endif
#endif
    if (head >= p.heads + 2u * p.kv_heads) {
        return;
    }
#if HEAD_NORM
#if WHOLE_NORM
#else
    if (head < p.heads + p.kv_heads) {
        norm = head_scale(row + head * HEAD_QUADS);
    }
#endif
#endif
    if (head < p.heads) {
        for (var i = 0u; i < PARTS; i++) {
            q_out[token * q_quads + at + i] = made(token, head, first + i, norm);
        }
        if (at == 0u) {
            for (var i = p.heads * HEAD_QUADS; i < q_quads; i++) {
                q_out[token * q_quads + i] = vec4<f32>(0.0);
            }
        }
        return;
    }
    let slot = info[p.slots_at + token];
    let block = slot / BLOCK;
    let offset = slot % BLOCK;
    let value = head >= p.heads + p.kv_heads;
    let kv = head - p.heads - select(0u, p.kv_heads, value);
    // What elements are multiplied with to be stored.
    var factor = 1.0;
#if KV_Q8
    let most = largest(token, head, norm);
    var scale = 0.0;
    factor = 0.0;
    if (most > LEAST) {
        scale = most * (1.0 / 127.0);
        factor = 127.0 / most;
    }
    if (first == 0u) {
        let scale_place = scale_at(block, kv, p.kv_heads, offset);
        if (value) {
            values[scale_place] = bitcast<u32>(scale);
        } else {
            keys[scale_place] = bitcast<u32>(scale);
        }
    }
#endif
    for (var i = 0u; i < PARTS; i++) {
        let stored = stored_make(made(token, head, first + i, norm) * factor);
        if (value) {
            values[value_at(block, kv, p.kv_heads, first + i, offset)] = stored;
        } else {
            keys[key_at(block, kv, p.kv_heads, first + i, offset)] = stored;
        }
    }
}
