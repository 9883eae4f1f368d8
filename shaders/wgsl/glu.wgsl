// Activation of separate halves, y[t][i] = act(x[t][i]) * x[t][offset + i], or without a second one,
// where offset is 0, y[t][i] = act(x[t][i]).
//
// Memory: x [T][x_stride], y [T][y_stride] f32, y_stride a multiple of 32.
// Workgroup: LANES lanes, one element each. Grid: x = element groups, y = tokens.
// Limits: 2 storage buffers and one uniform.

@group(0) @binding(auto) var<storage, read_write> y: array<f32>;
@group(0) @binding(auto) var<storage, read_write> x: array<f32>;

struct Params {
    x_stride: u32,
    y_stride: u32,
    width: u32,
    offset: u32,
    activation: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}
@group(0) @binding(auto) var<uniform> p: Params;

#include "activation.wgsl"

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.x * LANES + lane;
    if (i >= p.y_stride) {
        return;
    }
    let source = group.y * p.x_stride + i;
    var out = 0.0;
    if (i < p.width) {
        out = activate(x[source], p.activation);
        if (p.offset > 0u) {
            out *= x[source + p.offset];
        }
    }
    y[group.y * p.y_stride + i] = out;
}
