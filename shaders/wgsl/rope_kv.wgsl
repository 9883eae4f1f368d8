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
// Workgroup: LANES lanes, one vec4 of one head each. Grid: x = vec4 groups, y = tokens.
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

// A quad of a query or key after its rotation.
fn rotated(token: u32, quad: u32, own: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(rotate(token, quad * 2u, own.xy), rotate(token, quad * 2u + 1u, own.zw));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = group.x * LANES + lane;
    let token = group.y;
    let head = at / HEAD_QUADS;
    let quad = at % HEAD_QUADS;
    let row = token * (p.stride >> 2u);
    let q_quads = p.q_stride >> 2u;
#if HEAD_NORM
#if WHOLE_NORM
    let scales = whole_scales(row, lane);
#endif
#endif
    if (head >= p.heads + 2u * p.kv_heads) {
        return;
    }
    var own = qkv[row + at];
#if HEAD_NORM
    if (head < p.heads + p.kv_heads) {
        let key = head >= p.heads;
#if WHOLE_NORM
        own *= select(scales.x, scales.y, key) * gains[at];
#else
        own *= head_scale(row + head * HEAD_QUADS) * gains[select(quad, HEAD_QUADS + quad, key)];
#endif
    }
#endif
    if (head < p.heads) {
        q_out[token * q_quads + at] = rotated(token, quad, own);
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
    let kv = head - p.heads;
    if (kv < p.kv_heads) {
        let k = rotated(token, quad, own);
        keys[key_at(block, kv, p.kv_heads, quad, offset)] = stored_make(k);
    } else {
        values[value_at(block, kv - p.kv_heads, p.kv_heads, quad, offset)] = stored_make(own);
    }
}
