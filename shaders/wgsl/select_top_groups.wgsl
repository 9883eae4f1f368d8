// Third step, for top-k: the groups with the `keep` largest maxima, in order.
//
// The k largest logits lie in the k groups with the largest maxima. A lane ranks its
// group by counting those that stand before it, so nothing is sorted and no barrier runs.
// Memory: partials as written by select_groups; chosen [S][keep] group numbers.
// Workgroup: LANES lanes, one group each. Grid: x = group sets, y = rows.
// Limits: 2 storage buffers and one uniform.

@group(0) @binding(auto) var<storage, read_write> chosen: array<u32>;
@group(0) @binding(auto) var<storage, read_write> partials: array<vec4<f32>>;
#include "select.wgsl"
@group(0) @binding(auto) var<uniform> p: Params;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let own = group.x * LANES + lane;
    let base = group.y * p.groups;
    let top = partials[(base + own) * 2u].x;
    var rank = 0u;
    for (var g = 0u; g < p.groups; g++) {
        rank += select(0u, 1u, before(partials[(base + g) * 2u].x, g, top, own));
    }
    if (rank < p.keep) {
        chosen[group.y * p.keep + rank] = own;
    }
}
