// Weight planes in block-major order, and how one chunk of them becomes floats.
//
// Layout: a matrix of N rows and K columns is stored as `quants[chunk][row]`,
// each element one vec4<u32> that holds CHUNK consecutive weights of one row.
// Rows are padded to 64 and columns to 32 with zeros, so neighbouring lanes
// read neighbouring 16 bytes and no kernel needs an edge case.
//
//   Q4    32 weights a chunk, 0..15; byte j of the chunk holds weight j in its
//         low and weight 16 + j in its high nibble; scale and minimum per 32,
//         as a pair of halves or (SCALE_F32) of floats
//   Q8    16 weights a chunk, signed bytes; one f32 scale per 32, no minimum
//   Q8G   16 weights a chunk, signed bytes; f32 scale and minimum per 16
//   F16, BF16   8 weights a chunk
//   F32   4 weights a chunk
//
// value = scale * quant + minimum; the float layouts have neither.
// NV is the number of vec4 in a chunk.

@group(0) @binding(auto) var<storage, read_write> quants: array<vec4<u32>>;

#if Q4
#if SCALE_F32
@group(0) @binding(auto) var<storage, read_write> scales: array<vec2<f32>>;
#else
@group(0) @binding(auto) var<storage, read_write> scales: array<u32>;
#endif
#endif
#if Q8
@group(0) @binding(auto) var<storage, read_write> scales: array<f32>;
#endif
#if Q8G
@group(0) @binding(auto) var<storage, read_write> scales: array<vec2<f32>>;
#endif

fn bytes_u(word: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(
        i32(word & 0xffu),
        i32((word >> 8u) & 0xffu),
        i32((word >> 16u) & 0xffu),
        i32(word >> 24u),
    ));
}

fn bytes_i(word: u32) -> vec4<f32> {
    let w = bitcast<i32>(word);
    return vec4<f32>(vec4<i32>((w << 24u) >> 24u, (w << 16u) >> 24u, (w << 8u) >> 24u, w >> 24u));
}

#if Q4
fn unpack(w: vec4<u32>) -> array<vec4<f32>, 8> {
    let lo = w & vec4<u32>(0x0f0f0f0fu);
    let hi = (w >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu);
    return array<vec4<f32>, 8>(
        bytes_u(lo.x), bytes_u(lo.y), bytes_u(lo.z), bytes_u(lo.w),
        bytes_u(hi.x), bytes_u(hi.y), bytes_u(hi.z), bytes_u(hi.w),
    );
}
fn affine(chunk: u32, row: u32, rows: u32) -> vec2<f32> {
#if SCALE_F32
    return scales[chunk * rows + row];
#else
    return half2(scales[chunk * rows + row]);
#endif
}
#endif

#if Q8
fn affine(chunk: u32, row: u32, rows: u32) -> vec2<f32> {
    return vec2<f32>(scales[(chunk >> 1u) * rows + row], 0.0);
}
#endif
#if Q8G
fn affine(chunk: u32, row: u32, rows: u32) -> vec2<f32> {
    return scales[chunk * rows + row];
}
#endif
#if EIGHT_BIT
fn unpack(w: vec4<u32>) -> array<vec4<f32>, 4> {
    return array<vec4<f32>, 4>(bytes_i(w.x), bytes_i(w.y), bytes_i(w.z), bytes_i(w.w));
}
#endif

#if F16W
fn unpack(w: vec4<u32>) -> array<vec4<f32>, 2> {
    return array<vec4<f32>, 2>(half4(w.xy), half4(w.zw));
}
#endif

#if BF16W
fn bf2(word: u32) -> vec2<f32> {
    return vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}
fn unpack(w: vec4<u32>) -> array<vec4<f32>, 2> {
    return array<vec4<f32>, 2>(vec4<f32>(bf2(w.x), bf2(w.y)), vec4<f32>(bf2(w.z), bf2(w.w)));
}
#endif

#if F32W
fn unpack(w: vec4<u32>) -> array<vec4<f32>, 1> {
    return array<vec4<f32>, 1>(bitcast<vec4<f32>>(w));
}
#endif

#if FLOAT_WEIGHTS
fn affine(chunk: u32, row: u32, rows: u32) -> vec2<f32> {
    return vec2<f32>(1.0, 0.0);
}
#endif
