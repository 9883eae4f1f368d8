// First step of selection: each lane sums up one group of logits.
//
// Output per group, 8 words: maximum, sum of exp(l - maximum), sum of
//   exp((l - maximum) / temperature), id of the best key, the best key, count of
//   NaN logits, the wanted token's logit if it is in the group, one spare. The key is the logit, or with noise
//   l / temperature + gumbel(seed, draw, id): its argmax is an exact sample.
// Memory: logits [S][stride] f32; partials [S][groups][8].
// Workgroup: LANES lanes, one group each. Grid: x = group sets, y = rows.
// Limits: 3 storage buffers and one uniform.

@group(0) @binding(auto) var<storage, read_write> partials: array<vec4<f32>>;
@group(0) @binding(auto) var<storage, read_write> logits: array<f32>;
@group(0) @binding(auto) var<storage, read_write> info: array<u32>;
#include "select.wgsl"
@group(0) @binding(auto) var<uniform> p: Params;

// Four rounds of a 32-bit mix over (seed, draw, token): equal on every adapter.
fn scramble(value: u32) -> u32 {
    var v = value;
    v = (v ^ (v >> 16u)) * 0x7feb352du;
    v = (v ^ (v >> 15u)) * 0x846ca68bu;
    return v ^ (v >> 16u);
}

fn gumbel(seed_low: u32, seed_high: u32, draw: u32, token: u32) -> f32 {
    let bits = scramble(scramble(scramble(scramble(seed_low) ^ seed_high) ^ draw) ^ token);
    // 23 bits and a half are exact, so this is never 0 or 1.
    let v = (f32(bits >> 9u) + 0.5) * 1.1920929e-7;
    // -log(1 - v). Near zero, where the largest noise comes from, a logarithm of what is nearly 1
    // may have an error as large as the result.
    var exponential = v * (1.0 + v * (0.5 + v * (0.33333334 + v * (0.25 + v * 0.2))));
    if (v >= 0.0625) {
        exponential = -log(1.0 - v);
    }
    return -log(exponential);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let own = group.x * LANES + lane;
    let row = group.y;
    let settings = p.rows_at + row * 8u;
    let inverse_temperature = bitcast<f32>(info[settings]);
    let noise = info[settings + 1u] != 0u;

    var top = LOWEST;
    var broken = 0u;
    for (var i = 0u; i < EACH; i++) {
        let id = element(own, i);
        if (id < p.vocab) {
            let l = logits[row * p.stride + id];
            if (is_nan(l)) {
                broken += 1u;
            } else {
                top = max(top, l);
            }
        }
    }
    var sum = 0.0;
    var tempered = 0.0;
    var best = LOWEST;
    var best_id = 0xffffffffu;
    for (var i = 0u; i < EACH; i++) {
        let id = element(own, i);
        if (id < p.vocab) {
            let l = logits[row * p.stride + id];
            if (!is_nan(l) && l > LOWEST) {
                sum += exp(l - top);
                tempered += exp((l - top) * inverse_temperature);
                var key = l;
                if (noise) {
                    key = l * inverse_temperature + gumbel(info[settings + 2u], info[settings + 3u], info[settings + 4u], id);
                }
                if (before(key, id, best, best_id)) {
                    best = key;
                    best_id = id;
                }
            }
        }
    }
    let wanted = info[settings + 5u];
    var found = LOWEST;
    if (wanted < p.vocab && group_of(wanted) == own) {
        found = logits[row * p.stride + wanted];
    }
    let at = (row * p.groups + own) * 2u;
    partials[at] = vec4<f32>(top, sum, tempered, bitcast<f32>(best_id));
    partials[at + 1u] = vec4<f32>(best, f32(broken), found, 0.0);
}
