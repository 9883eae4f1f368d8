// The paged KV cache: where an element lies and how it is stored.
//
// keys    [block][kv_head][HEAD_QUADS][BLOCK]   a vec4 of the head per position:
//         neighbouring lanes read neighbouring positions
// values  [block][kv_head][BLOCK][HEAD_QUADS]   neighbouring lanes read
//         neighbouring parts of the head
// A vec4 is four floats, or (KV_F16) four halves in two words, or (KV_Q8) four signed bytes in one.
// Bytes count in units of their position's scale, the largest magnitude of its head over 127: the
// bytes of a block's head are followed by its scales, [BLOCK] f32, in keys and in values alike.

#if KV_Q8
alias Stored = u32;
// Quads that the scales of a block's head take the place of.
const SCALE_QUADS: u32 = 1u;
// A head whose largest magnitude is not above this is stored as zeros: its inverse might not be finite.
const LEAST: f32 = 1.0e-30;
// In units of which stored_scale gives the size.
fn stored_load(v: u32) -> vec4<f32> {
    return bytes_in_place(v);
}
fn stored_scale(word: u32) -> f32 {
    return bitcast<f32>(word) * BYTE_UNIT;
}
// Of what is in units of the scale: the nearest whole numbers, not past the largest by a last bit.
fn stored_make(v: vec4<f32>) -> u32 {
    let whole = clamp(round(v), vec4<f32>(-127.0), vec4<f32>(127.0));
    let bytes = bitcast<vec4<u32>>(vec4<i32>(whole)) & vec4<u32>(0xffu);
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}
#else
const SCALE_QUADS: u32 = 0u;
#if KV_F16
alias Stored = vec2<u32>;
fn stored_load(v: vec2<u32>) -> vec4<f32> {
    return half4(v);
}
fn stored_make(v: vec4<f32>) -> vec2<u32> {
    return vec2<u32>(half_pair(v.x, v.y), half_pair(v.z, v.w));
}
#else
alias Stored = vec4<f32>;
fn stored_load(v: vec4<f32>) -> vec4<f32> {
    return v;
}
fn stored_make(v: vec4<f32>) -> vec4<f32> {
    return v;
}
#endif
#endif

// Where a block's share of a kv head begins.
fn share_at(block: u32, head: u32, kv_heads: u32) -> u32 {
    return (block * kv_heads + head) * (HEAD_QUADS + SCALE_QUADS) * BLOCK;
}
fn key_at(block: u32, head: u32, kv_heads: u32, quad: u32, offset: u32) -> u32 {
    return share_at(block, head, kv_heads) + quad * BLOCK + offset;
}
fn value_at(block: u32, head: u32, kv_heads: u32, quad: u32, offset: u32) -> u32 {
    return share_at(block, head, kv_heads) + offset * HEAD_QUADS + quad;
}
#if KV_Q8
fn scale_at(block: u32, head: u32, kv_heads: u32, offset: u32) -> u32 {
    return share_at(block, head, kv_heads) + HEAD_QUADS * BLOCK + offset;
}
#endif
