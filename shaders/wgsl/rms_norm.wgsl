// Root-mean-square norm of chosen rows: y[i] = x[rows[i]] * gain / sqrt(mean(x^2) + eps).
//
// With RESIDUAL: y[i] = residual[i] + that.
// Memory: x [*][stride], y and residual [R][stride] f32, stride a multiple of 32, pad
//   columns zero (gain is padded with zeros); rows [R] u32.
// Workgroup: LANES lanes share one row; with LANES = 1 a lane owns a row and no
//   barrier runs (software adapters).
// Grid: x = rows.
// Limits: 5 storage buffers, one uniform, LANES floats of workgroup memory.

@group(0) @binding(auto) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(auto) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(auto) var<storage, read_write> gain: array<vec4<f32>>;
@group(0) @binding(auto) var<storage, read_write> rows: array<u32>;
#if RESIDUAL
@group(0) @binding(auto) var<storage, read_write> residual: array<vec4<f32>>;
#endif

struct Params {
    stride: u32,
    width: u32,
    eps: f32,
    rows_at: u32,
}
@group(0) @binding(auto) var<uniform> p: Params;

#if SHARED
var<workgroup> sums: array<f32, LANES>;
#endif

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quads = p.stride >> 2u;
    let source = rows[p.rows_at + group.x] * quads;
    let to = group.x * quads;
    var partial = vec4<f32>(0.0);
    for (var i = lane; i < quads; i += LANES) {
        let v = x[source + i];
        partial = fma(v, v, partial);
    }
    var total = (partial.x + partial.y) + (partial.z + partial.w);
#if SHARED
    sums[lane] = total;
    workgroupBarrier();
    for (var step = LANES / 2u; step > 0u; step >>= 1u) {
        if (lane < step) {
            sums[lane] += sums[lane + step];
        }
        workgroupBarrier();
    }
    total = sums[0];
#endif
    let scale = inverseSqrt(total / f32(p.width) + p.eps);
    for (var i = lane; i < quads; i += LANES) {
#if RESIDUAL
        y[to + i] = residual[to + i] + x[source + i] * scale * gain[i];
#else
        y[to + i] = x[source + i] * scale * gain[i];
#endif
    }
}
