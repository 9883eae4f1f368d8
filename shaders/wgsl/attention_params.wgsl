// Parameters that the attention kernels share, and the score of a position that is not seen.

struct Params {
    q_stride: u32,
    heads: u32,
    kv_heads: u32,
    tiles_at: u32,
    scale: f32,
    window: u32,
    cap: f32,
    ends_at: u32,
}
@group(0) @binding(auto) var<uniform> p: Params;

const MASKED: f32 = -3.0e38;
