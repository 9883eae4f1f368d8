// Weight planes, and how one chunk of them becomes floats.
//
// Layout: a matrix of N rows and K columns is stored in tiles of 64 rows as
// `quants[tile][chunk][row of the tile]`, each element one vec4<u32> that holds CHUNK
// consecutive weights of one row. Neighbouring lanes read neighbouring 16 bytes, and a
// workgroup that walks along K reads one run of memory. Rows are padded to 64 and columns
// to 32 with zeros, so no kernel needs an edge case.
//
//   Q4    32 weights a chunk, 0..15; byte j of the chunk holds weight j in its
//         low and weight 16 + j in its high nibble; scale and minimum per 32,
//         as a pair of floats or (SCALE_HALF) of halves
//   Q8    16 weights a chunk, signed bytes; one f32 scale per 32, no minimum
//   Q8G   16 weights a chunk, signed bytes; f32 scale and minimum per 16
//   F16, BF16   8 weights a chunk
//   F32   4 weights a chunk
//
// value = scale * quant + minimum; the float layouts have neither.
// NV is the number of vec4 in a chunk.
//
// ROW_QUADS: a lane takes four neighbouring rows, so the scales are bound as vec4<u32> and
// four rows' come at once (affine4). Without it they come row by row (affine).

@group(0) @binding(auto) var<storage, read_write> quants: array<vec4<u32>>;

#if QUANTIZED
#if ROW_QUADS
@group(0) @binding(auto) var<storage, read_write> scales: array<vec4<u32>>;
#else
#if Q8
@group(0) @binding(auto) var<storage, read_write> scales: array<f32>;
#else
#if SCALE_HALF
@group(0) @binding(auto) var<storage, read_write> scales: array<u32>;
#else
@group(0) @binding(auto) var<storage, read_write> scales: array<vec2<f32>>;
#endif
#endif
#endif
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

// Where a plane of `chunks` chunks a row holds the one of a row.
fn cell(chunk: u32, row: u32, chunks: u32) -> u32 {
    return ((row >> 6u) * chunks + chunk) * 64u + (row & 63u);
}

// Scale and minimum: the product kernels multiply and add with them.
#if ROW_QUADS
#if QUANTIZED
// Of four neighbouring rows, the first of them at `at` in the plane.
fn affine4(at: u32) -> array<vec2<f32>, 4> {
#if Q8
    let s = bitcast<vec4<f32>>(scales[at >> 2u]);
    return array<vec2<f32>, 4>(
        vec2<f32>(s.x, 0.0), vec2<f32>(s.y, 0.0), vec2<f32>(s.z, 0.0), vec2<f32>(s.w, 0.0),
    );
#else
#if SCALE_HALF
    let s = scales[at >> 2u];
    return array<vec2<f32>, 4>(half2(s.x), half2(s.y), half2(s.z), half2(s.w));
#else
    let low = bitcast<vec4<f32>>(scales[at >> 1u]);
    let high = bitcast<vec4<f32>>(scales[(at >> 1u) + 1u]);
    return array<vec2<f32>, 4>(low.xy, low.zw, high.xy, high.zw);
#endif
#endif
}
#endif
#else
// Of one row's chunk.
fn affine(chunk: u32, row: u32, chunks: u32) -> vec2<f32> {
#if FLOAT_WEIGHTS
    return vec2<f32>(1.0, 0.0);
#else
#if Q8
    return vec2<f32>(scales[cell(chunk >> 1u, row, chunks >> 1u)], 0.0);
#else
#if SCALE_HALF
    return half2(scales[cell(chunk, row, chunks)]);
#else
    return scales[cell(chunk, row, chunks)];
#endif
#endif
#endif
}
#endif
