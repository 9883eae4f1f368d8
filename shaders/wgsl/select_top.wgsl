// Last step, for top-k: the `keep` largest logits of the chosen groups, in order.
//
// Output: after the 8 words of select_best, pairs (id, logit bits), largest first, the
//   lower id first among equals; ids past the vocabulary are 0xffffffff.
// Memory: out [S][out_stride] u32; logits [S][stride] f32; chosen [S][keep] groups.
// Workgroup: LANES lanes, one candidate each. Grid: x = candidate sets, y = rows.
// Limits: 3 storage buffers and one uniform.

@group(0) @binding(auto) var<storage, read_write> out: array<u32>;
@group(0) @binding(auto) var<storage, read_write> logits: array<f32>;
@group(0) @binding(auto) var<storage, read_write> chosen: array<u32>;
#include "select.wgsl"
@group(0) @binding(auto) var<uniform> p: Params;

fn id_of(row: u32, candidate: u32) -> u32 {
    return element(chosen[row * p.keep + candidate / EACH], candidate % EACH);
}
// A NaN logit counts as the lowest.
fn value_of(row: u32, id: u32) -> f32 {
    if (id >= p.vocab) {
        return LOWEST;
    }
    let l = logits[row * p.stride + id];
    return select(l, LOWEST, is_nan(l));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let own = group.x * LANES + lane;
    let row = group.y;
    let candidates = p.keep * EACH;
    if (own >= candidates) {
        return;
    }
    let id = id_of(row, own);
    let value = value_of(row, id);
    var rank = 0u;
    for (var c = 0u; c < candidates; c++) {
        let other = id_of(row, c);
        rank += select(0u, 1u, before(value_of(row, other), other, value, id));
    }
    if (rank < p.keep) {
        let at = row * p.out_stride + 8u + rank * 2u;
        out[at] = select(0xffffffffu, id, id < p.vocab);
        out[at + 1u] = bitcast<u32>(value);
    }
}
