// The router of a layer of experts: the top of each token's logits, and their weights.
//
// Formula: a token's routes are the `chosen` experts of the largest logits, ties by id, largest first. Their
//   weights are exp(logit - max), over the sum of all experts' or (normalized) over that of the chosen ones.
// Memory: logits [T][stride] f32; routes [T][chosen] pairs of an expert's id and its weight's bits.
// Workgroup: LANES lanes for a token. An expert's place is the number of those that come before it, so
//   nothing is sorted; every place is taken by one expert, whatever the logits are.
// Grid: x = tokens.
// Limits: 2 storage buffers and one uniform, 128 bytes of workgroup memory; at most 32 are chosen.

@group(0) @binding(auto) var<storage, read_write> routes: array<vec2<u32>>;
@group(0) @binding(auto) var<storage, read_write> logits: array<f32>;

struct Params {
    stride: u32,
    experts: u32,
    chosen: u32,
    normalized: u32,
}
@group(0) @binding(auto) var<uniform> p: Params;

var<workgroup> parts: array<f32, 32>;

// Integers in the order of the floats, which also places what is not a number.
fn key(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x * p.stride;
    let first = group.x * p.chosen;
    var most = logits[row];
    for (var expert = 1u; expert < p.experts; expert++) {
        most = max(most, logits[row + expert]);
    }
    for (var expert = lane; expert < p.experts; expert += LANES) {
        let value = logits[row + expert];
        let own = key(value);
        var place = 0u;
        for (var other = 0u; other < p.experts; other++) {
            let theirs = key(logits[row + other]);
            place += select(0u, 1u, theirs > own || (theirs == own && other < expert));
        }
        if (place < p.chosen) {
            parts[place] = exp(value - most);
            routes[first + place].x = expert;
        }
    }
    workgroupBarrier();
    var sum = 0.0;
    if (p.normalized == 1u) {
        for (var place = 0u; place < p.chosen; place++) {
            sum += parts[place];
        }
    } else {
        for (var expert = 0u; expert < p.experts; expert++) {
            sum += exp(logits[row + expert] - most);
        }
    }
    for (var place = lane; place < p.chosen; place += LANES) {
        routes[first + place].y = bitcast<u32>(parts[place] / sum);
    }
}
