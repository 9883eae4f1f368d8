// What the selection kernels share: groups of logits, row settings, noise.
//
// A row of logits is cut into groups of EACH elements, one lane a group; the
// elements of a group lie LANES apart so that neighbouring lanes read neighbours.
// A row's settings, 8 words in the step buffer: 1 / temperature (f32 bits), noise
// (0 or 1), seed low, seed high, draw index, a token whose logit is wanted (one past
// the vocabulary for none), two spare.

struct Params {
    stride: u32,
    vocab: u32,
    groups: u32,
    rows_at: u32,
    keep: u32,
    out_stride: u32,
    pad0: u32,
    pad1: u32,
}

const LOWEST: f32 = -3.4028234e38;

fn element(group: u32, i: u32) -> u32 {
    return (group / LANES) * (LANES * EACH) + i * LANES + group % LANES;
}

// The group that element `id` is in.
fn group_of(id: u32) -> u32 {
    return (id / (LANES * EACH)) * LANES + id % LANES;
}

fn is_nan(v: f32) -> bool {
    return (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u;
}

// True when candidate (a, id_a) stands before (b, id_b): larger first, then lower id.
fn before(a: f32, id_a: u32, b: f32, id_b: u32) -> bool {
    return a > b || (a == b && id_a < id_b);
}
