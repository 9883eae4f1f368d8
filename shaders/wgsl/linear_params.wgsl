// Parameters and the epilogue that the matrix kernels share.
//
// rows is the padded row count of the planes, rows_out the rows
// to store (also padded to 32, zeros included), row_offset where they go in y;
// first is the token that the launch begins with; cap is that of SOFT_CAP. EXPERTS: see experts.wgsl.

#if EXPERTS
#include "experts.wgsl"
#endif

struct Params {
    tokens: u32,
    chunks: u32,
    rows: u32,
    rows_out: u32,
    x_stride: u32,
    y_stride: u32,
    row_offset: u32,
    glu_offset: u32,
    norm_width: u32,
    eps: u32,
    activation: u32,
    first: u32,
    cap: f32,
    slots: u32,
    share: u32,
    expert_rows: u32,
#if EXPERTS
    first_expert: u32,
    experts: u32,
    routes_at: u32,
    pad0: u32,
#endif
}
@group(0) @binding(auto) var<uniform> p: Params;

#include "activation.wgsl"

#if ROW_QUADS
#else
// The weight row of a lane's slot r, whose first is row0. Slots past the matrix repeat its last row.
fn row_of(row0: u32, r: u32) -> u32 {
#if GLU
    if (r >= ROWS_OUT) {
        return min(row0 + (r - ROWS_OUT) * LANES + p.glu_offset, p.rows - 1u);
    }
#endif
    return min(row0 + r * LANES, p.rows - 1u);
}
#endif

fn store(token: u32, row: u32, value: f32, up: f32) {
    var out = value;
#if GLU
    out = activate(value, p.activation) * up;
#if EXPERTS
    out *= bitcast<f32>(routes[p.routes_at + token].y);
#endif
#endif
    let column = p.row_offset + row;
#if BIAS
    out += bias[column];
#endif
#if ACTIVATE
    out = activate(out, p.activation);
#endif
    let at = token * p.y_stride + column;
#if RESIDUAL
    out += residual[at];
#endif
#if SOFT_CAP
    out = soft_cap(out, p.cap);
#endif
    y[at] = out;
}
