// Helpers that every kernel includes.
//
// half2: two halves of one word as floats, exactly. It uses WGSL's core unpacking on
// every adapter: bitcast<vec2<f16>> gives wrong values on some of those with
// shader-f16 (lavapipe of Mesa 22.3 is one).

fn half2(word: u32) -> vec2<f32> {
    return unpack2x16float(word);
}

fn half4(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(half2(words.x), half2(words.y));
}

// Four signed bytes as floats, each raised to the top of a word of its own and so 2^24 times too large: no shift
// takes them there, which SwiftShader does lane by lane. BYTE_UNIT brings down what they are multiplied with.
const BYTE_UNIT: f32 = 5.9604644775390625e-8;
fn bytes_in_place(word: u32) -> vec4<f32> {
    let w = vec4<u32>(word) * vec4<u32>(0x1000000u, 0x10000u, 0x100u, 1u);
    return vec4<f32>(bitcast<vec4<i32>>(w & vec4<u32>(0xff000000u)));
}

// Dot product as four fused multiply-adds on a running sum.
fn dot_add(a: vec4<f32>, b: vec4<f32>, sum: f32) -> f32 {
    return fma(a.x, b.x, fma(a.y, b.y, fma(a.z, b.z, fma(a.w, b.w, sum))));
}

// Rounds a float to the nearest half (ties to even) and gives its 16 bits.
// Written with integers because adapters differ in how pack2x16float rounds,
// and the KV cache must hold the same bits everywhere.
fn half_bits(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if (magnitude >= 0x7f800000u) {
        return sign | select(0x7c00u, 0x7e00u, magnitude > 0x7f800000u);
    }
    if (magnitude >= 0x477ff000u) {
        return sign | 0x7c00u;
    }
    if (magnitude < 0x38800000u) {
        // Subnormal half: a unit is 2^-24.
        if (magnitude < 0x33000001u) {
            return sign;
        }
        let shift = 126u - (magnitude >> 23u);
        let mantissa = (magnitude & 0x7fffffu) | 0x800000u;
        let kept = mantissa >> shift;
        let rest = mantissa & ((1u << shift) - 1u);
        let tie = 1u << (shift - 1u);
        let up = select(0u, 1u, rest > tie || (rest == tie && (kept & 1u) == 1u));
        return sign | (kept + up);
    }
    let rebased = magnitude - 0x38000000u;
    let rounded = rebased + 0xfffu + ((rebased >> 13u) & 1u);
    return sign | (rounded >> 13u);
}

fn half_pair(a: f32, b: f32) -> u32 {
    return half_bits(a) | (half_bits(b) << 16u);
}
