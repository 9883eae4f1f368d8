// Penalties and biases on logits, in place: l = (l > 0 ? l / r : l * r) + a.
//
// Memory: logits [S][stride] f32; entries [E][4] u32: row, token, repetition penalty r,
//   addend a (f32 bits), inside the step buffer at entries_at; a (row, token) pair
//   stands at most once, and an entry of row 0xffffffff is skipped.
// Workgroup: LANES lanes, one entry each. Grid: x = entry sets.
// Limits: 2 storage buffers and one uniform.

@group(0) @binding(auto) var<storage, read_write> logits: array<f32>;
@group(0) @binding(auto) var<storage, read_write> info: array<u32>;

struct Params {
    stride: u32,
    count: u32,
    entries_at: u32,
    pad: u32,
}
@group(0) @binding(auto) var<uniform> p: Params;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let own = group.x * LANES + lane;
    if (own >= p.count) {
        return;
    }
    let entry = p.entries_at + own * 4u;
    if (info[entry] == 0xffffffffu) {
        return;
    }
    let at = info[entry] * p.stride + info[entry + 1u];
    let repetition = bitcast<f32>(info[entry + 2u]);
    let l = logits[at];
    logits[at] = select(l * repetition, l / repetition, l > 0.0) + bitcast<f32>(info[entry + 3u]);
}
