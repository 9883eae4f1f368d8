// Second step of selection: the groups of a row become its best token and sums.
//
// Output, the first 8 words of a row of `out`: id of the best key, the best key,
//   maximum logit, log-sum-exp, log-sum-exp at the temperature (of l / temperature),
//   count of NaN logits, the wanted token's logit (the lowest number for none), one
//   spare. Floats as bits.
// Memory: out [S][out_stride] u32; partials as written by select_groups.
// Workgroup: LANES lanes share a row; with LANES = 1 no barrier runs.
// Grid: x = rows. Limits: 3 storage buffers, one uniform, 6 * LANES words of
//   workgroup memory.

@group(0) @binding(auto) var<storage, read_write> out: array<u32>;
@group(0) @binding(auto) var<storage, read_write> partials: array<vec4<f32>>;
@group(0) @binding(auto) var<storage, read_write> info: array<u32>;
#include "select.wgsl"
@group(0) @binding(auto) var<uniform> p: Params;

struct Best {
    top: f32,
    sum: f32,
    tempered: f32,
    key: f32,
    id: u32,
    broken: f32,
}

var<workgroup> shared_best: array<Best, LANES>;

fn join(a: Best, b: Best, inverse_temperature: f32) -> Best {
    let top = max(a.top, b.top);
    let drop_a = a.top - top;
    let drop_b = b.top - top;
    let first = before(a.key, a.id, b.key, b.id);
    return Best(
        top,
        a.sum * exp(drop_a) + b.sum * exp(drop_b),
        a.tempered * exp(drop_a * inverse_temperature) + b.tempered * exp(drop_b * inverse_temperature),
        select(b.key, a.key, first),
        select(b.id, a.id, first),
        a.broken + b.broken,
    );
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    let inverse_temperature = bitcast<f32>(info[p.rows_at + row * 8u]);
    var best = Best(LOWEST, 0.0, 0.0, LOWEST, 0xffffffffu, 0.0);
    for (var g = lane; g < p.groups; g += LANES) {
        let a = partials[(row * p.groups + g) * 2u];
        let b = partials[(row * p.groups + g) * 2u + 1u];
        best = join(best, Best(a.x, a.y, a.z, b.x, bitcast<u32>(a.w), b.y), inverse_temperature);
    }
    shared_best[lane] = best;
    workgroupBarrier();
    if (lane == 0u) {
        for (var i = 1u; i < LANES; i++) {
            best = join(best, shared_best[i], inverse_temperature);
        }
        let at = row * p.out_stride;
        out[at] = best.id;
        out[at + 1u] = bitcast<u32>(best.key);
        out[at + 2u] = bitcast<u32>(best.top);
        out[at + 3u] = bitcast<u32>(best.top + log(best.sum));
        out[at + 4u] = bitcast<u32>(best.top * inverse_temperature + log(best.tempered));
        out[at + 5u] = u32(best.broken);
        let wanted = info[p.rows_at + row * 8u + 5u];
        var found = LOWEST;
        if (wanted < p.vocab) {
            found = partials[(row * p.groups + group_of(wanted)) * 2u + 1u].z;
        }
        out[at + 6u] = bitcast<u32>(found);
        out[at + 7u] = 0u;
    }
}
