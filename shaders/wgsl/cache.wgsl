// The paged KV cache: where an element lies and how it is stored.
//
// keys    [block][kv_head][HEAD_QUADS][BLOCK]   a vec4 of the head per position:
//         neighbouring lanes read neighbouring positions
// values  [block][kv_head][BLOCK][HEAD_QUADS]   neighbouring lanes read
//         neighbouring parts of the head
// A vec4 is four floats, or (KV_F16) four halves in two words.

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

fn key_at(block: u32, head: u32, kv_heads: u32, quad: u32, offset: u32) -> u32 {
    return ((block * kv_heads + head) * HEAD_QUADS + quad) * BLOCK + offset;
}
fn value_at(block: u32, head: u32, kv_heads: u32, quad: u32, offset: u32) -> u32 {
    return ((block * kv_heads + head) * BLOCK + offset) * HEAD_QUADS + quad;
}
