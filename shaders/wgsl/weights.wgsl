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

#if ROW_QUADS
#if QUANTIZED
// Quants become floats where they stand in their word, by masks: some software adapters shift lane by
// lane. A quant is then too large by a power of two, and the activation it is multiplied with is made
// smaller by the same (brought_down), so that every product keeps its bits.
#if Q4
fn low_in_place(word: u32) -> vec4<f32> {
    let w = vec4<u32>(word) & vec4<u32>(0xfu, 0xf00u, 0xf0000u, 0xf000000u);
    return vec4<f32>(vec4<i32>(w));
}
// The topmost would stand in the sign's place: it alone is shifted.
fn high_in_place(word: u32) -> vec4<f32> {
    let top = (word >> 4u) & 0xf000000u;
    let w = vec4<u32>(word & 0xf0u, word & 0xf000u, word & 0xf00000u, top);
    return vec4<f32>(vec4<i32>(w));
}
fn unpack_in_place(w: vec4<u32>) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(
        low_in_place(w.x), low_in_place(w.y), low_in_place(w.z), low_in_place(w.w),
        high_in_place(w.x), high_in_place(w.y), high_in_place(w.z), high_in_place(w.w),
    );
}
fn brought_down(x: vec4<f32>, quad: u32) -> vec4<f32> {
    let low = vec4<f32>(1.0, 0.00390625, 0.0000152587890625, 5.9604644775390625e-8);
    let high = vec4<f32>(0.0625, 0.000244140625, 9.5367431640625e-7, 5.9604644775390625e-8);
    return x * select(high, low, quad < 4u);
}
#else
fn unpack_in_place(w: vec4<u32>) -> array<vec4<f32>, 4> {
    return array<vec4<f32>, 4>(
        bytes_in_place(w.x), bytes_in_place(w.y), bytes_in_place(w.z), bytes_in_place(w.w),
    );
}
fn brought_down(x: vec4<f32>, quad: u32) -> vec4<f32> {
    return x * BYTE_UNIT;
}
#endif
#endif
#endif

#if SCALE_HALF
#if ROW_QUADS
// A pair of halves as floats, exactly.
fn scale_pair(word: u32) -> vec2<f32> {
#if SUBGROUPS
    return half2(word);
#else
    // As half2 gives it, by products in place of shifts.
    let h = vec2<u32>(word & 0xffffu, word >> 16u);
    let magnitude = h & vec2<u32>(0x7fffu);
    let normal = bitcast<vec2<f32>>(magnitude * 8192u) * 5.192296858534828e33;
    // Below the normal halves a unit is 2^-24, and a float of the same bits may count as zero.
    let small = vec2<f32>(vec2<i32>(magnitude)) * 5.9604644775390625e-8;
    let value = select(normal, small, magnitude < vec2<u32>(0x400u));
    return select(value, -value, h >= vec2<u32>(0x8000u));
#endif
}
#endif
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
    return array<vec2<f32>, 4>(scale_pair(s.x), scale_pair(s.y), scale_pair(s.z), scale_pair(s.w));
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
