// Root-mean-square norm of chosen rows: y[i] = x[rows[i]] * gain / sqrt(mean(x^2) + eps).
//
// With CENTERED a layer norm: the row's mean is taken from x first, and a bias is added.
// With RESIDUAL: y[i] = residual[i] + that.
// Memory: x [*][stride], y and residual [R][stride] f32, stride a multiple of 32, pad
//   columns zero (gain and bias are padded with zeros); rows [R] u32.
// Workgroup: LANES lanes share one row.
// Grid: x = rows.
// Limits: 6 storage buffers, one uniform, LANES floats of workgroup memory.

@group(0) @binding(auto) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(auto) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(auto) var<storage, read_write> gain: array<vec4<f32>>;
@group(0) @binding(auto) var<storage, read_write> rows: array<u32>;
#if CENTERED
@group(0) @binding(auto) var<storage, read_write> bias: array<vec4<f32>>;
#endif
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

var<workgroup> sums: array<f32, LANES>;

// The sum of what the lanes of a row have.
fn sum_of(partial: vec4<f32>, lane: u32) -> f32 {
    sums[lane] = (partial.x + partial.y) + (partial.z + partial.w);
    workgroupBarrier();
    for (var step = LANES / 2u; step > 0u; step >>= 1u) {
        if (lane < step) {
            sums[lane] += sums[lane + step];
        }
        workgroupBarrier();
    }
    let total = sums[0];
    // Nobody writes the next sum before all have read this one.
    workgroupBarrier();
    return total;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quads = p.stride >> 2u;
    let source = rows[p.rows_at + group.x] * quads;
    let to = group.x * quads;
#if CENTERED
    var all = vec4<f32>(0.0);
    for (var i = lane; i < quads; i += LANES) {
        all += x[source + i];
    }
    let mean = sum_of(all, lane) / f32(p.width);
#endif
    var squares = vec4<f32>(0.0);
    for (var i = lane; i < quads; i += LANES) {
#if CENTERED
        // Columns past the width do not count.
        let inside = (vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u)) < vec4<u32>(p.width);
        let v = select(vec4<f32>(0.0), x[source + i] - mean, inside);
#else
        let v = x[source + i];
#endif
        squares = fma(v, v, squares);
    }
    let scale = inverseSqrt(sum_of(squares, lane) / f32(p.width) + p.eps);
    for (var i = lane; i < quads; i += LANES) {
#if CENTERED
        var own = (x[source + i] - mean) * scale * gain[i] + bias[i];
#else
        var own = x[source + i] * scale * gain[i];
#endif
#if RESIDUAL
        own += residual[to + i];
#endif
        y[to + i] = own;
    }
}
