//! The operations on wgpu: pick a shader variant for the adapter's profile and launch it.
//!
//! Outputs are fresh tensors except where an operation works in place, which it does through
//! the same buffer: the KV cache and the logits are owned by one holder at a time.

use burn::backend::DType;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::Shape;
use burn_wgpu::{CubeBackend, CubeTensor};
use fireside_shaders::{Constant, Flag, Kernel, Variant};

use crate::launch::{self, Launch};
use crate::layout::{COLUMN_PAD, Layout, padded};
use crate::ops::{FiresideOps, MaybeFloat, MaybeInt};
use crate::params::{
    AdjustParams, AttentionParams, BLOCK, EmbedParams, ExpertsParams, GluParams, KvDtype,
    LinearParams, MatrixShape, NormParams, Profile, RopeParams, RouteParams, SelectParams,
};

fn launch(variant: Variant, grid: [usize; 3], buffers: &[&CubeTensor], params: &[u32]) {
    let Some(first) = buffers.first() else {
        return;
    };
    let grid = grid.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let launch = Launch {
        variant,
        grid,
        buffers: buffers.iter().map(|t| t.handle.clone()).collect(),
        params: params.to_vec(),
    };
    launch::launch(first, launch);
}

fn empty(like: &CubeTensor, rows: usize, stride: usize, dtype: DType) -> CubeTensor {
    let shape = Shape::new([rows, stride]);
    let handle = like.client.empty(rows * stride * 4);
    CubeTensor::new_contiguous(
        like.client.clone(),
        like.device.clone(),
        shape,
        handle,
        dtype,
    )
}

fn word(value: usize) -> u32 {
    // Sizes and offsets are checked against the adapter's limits when a model is loaded.
    value as u32
}

fn with_layout(variant: Variant, layout: Layout) -> Variant {
    match layout {
        Layout::Q4 => variant.flag(Flag::Q4).flag(Flag::ScaleHalf),
        Layout::Q4Float => variant.flag(Flag::Q4),
        Layout::Q8 => variant.flag(Flag::Q8).flag(Flag::EightBit),
        Layout::Q8Group => variant.flag(Flag::Q8G).flag(Flag::EightBit),
        Layout::F16 => variant.flag(Flag::F16W),
        Layout::BF16 => variant.flag(Flag::BF16W),
        Layout::F32 => variant.flag(Flag::F32W),
    }
    .constant(Constant::Quads, word(layout.chunk() / 4))
    .constant(Constant::Parts, word(COLUMN_PAD / layout.chunk()))
    .flag_if(Flag::HasMin, layout.has_minimum())
    .flag_if(Flag::Quantized, layout.scale_group() > 0)
    .flag_if(Flag::FloatWeights, layout.scale_group() == 0)
}

fn chunks(matrix: &MatrixShape) -> usize {
    padded(matrix.columns) / matrix.layout.chunk()
}

fn padded_rows(matrix: &MatrixShape) -> usize {
    matrix.rows.next_multiple_of(crate::layout::ROW_PAD)
}

/// Lanes of a kernel whose lanes are independent of each other, or share a row of any length: a power of two.
fn free_lanes(profile: Profile) -> u32 {
    if profile.software { 8 } else { 64 }
}

/// A variant for a cache of these elements.
fn with_kv(variant: Variant, kv: KvDtype) -> Variant {
    match kv {
        KvDtype::F16 => variant.flag(Flag::KvF16),
        KvDtype::F32 => variant,
        KvDtype::Q8 => variant.flag(Flag::KvQ8),
    }
}

/// Most tokens of a software adapter's workgroup. Without subgroups it takes as long to compile for four as
/// with them for eight, and a browser compiles at each start.
fn most_columns(profile: Profile) -> usize {
    if profile.subgroups { 8 } else { 4 }
}

/// Runs of tokens, first and count, that a product takes one after the other. A software adapter's
/// workgroup has up to four tokens or as many as it may, and pays for those that it lacks: what is left over
/// after the full ones is made of smaller groups, where these are less work. Without subgroups it is not: tokens
/// that are lacking are cheaper than kernels for fewer, which a browser compiles at each start.
fn token_runs(params: &LinearParams) -> Vec<(usize, usize)> {
    let tokens = params.tokens;
    let most = most_columns(params.profile);
    let rest = tokens % most;
    if !params.profile.subgroups || tokens <= 4 || rest == 0 || rest == most - 1 {
        return vec![(0, tokens)];
    }
    let whole = tokens - rest;
    let four = rest.min(4);
    [(0, whole), (whole, four), (whole + four, rest - four)]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// The product kernel of a software adapter: variant and rows of one workgroup.
fn lane_variant(profile: Profile, glu: bool, cols: u32) -> (Variant, usize) {
    // More rows of a lane share the activations that it loads; more columns leave fewer registers for them.
    let (lanes, groups_out) = match (profile.subgroups, cols, glu) {
        (false, 1, false) => (4, 6),
        (false, 1, true) | (false, _, false) => (4, 3),
        (false, _, true) => (4, 2),
        (true, 1, true) | (true, _, false) => (8, 2),
        (true, _, true) => (8, 1),
    };
    // A gate and its up row are two rows for one result.
    let groups = if glu { 2 * groups_out } else { groups_out };
    let variant = Variant::new(Kernel::LinearLane)
        .constant(Constant::Lanes, lanes)
        .constant(Constant::RowGroups, groups)
        .constant(Constant::RowGroupsOut, groups_out)
        .constant(Constant::Cols, cols)
        .flag(Flag::RowQuads)
        .flag_if(Flag::Subgroups, profile.subgroups);
    (variant, (4 * lanes * groups_out) as usize)
}

/// The product kernel of a GPU for few tokens; a workgroup has 32 rows.
fn split_variant(glu: bool, cols: usize) -> Variant {
    let few = glu && cols > 3;
    Variant::new(Kernel::LinearSplit)
        .constant(Constant::Lanes, 32)
        .constant(Constant::Rows, if glu { 2 } else { 1 })
        .constant(Constant::RowsOut, 1)
        .constant(Constant::Cols, word(cols))
        .constant(Constant::Splits, if few { 4 } else { 8 })
        .constant(Constant::Workgroup, if few { 128 } else { 256 })
}

/// The product kernel for a run of tokens: variant, rows and tokens of one workgroup.
fn linear_variant(params: &LinearParams, tokens: usize) -> (Variant, usize, usize) {
    let glu = params.glu.is_some();
    if params.profile.software {
        let cols = if tokens > 4 {
            most_columns(params.profile)
        } else {
            tokens
        };
        let (variant, rows) = lane_variant(params.profile, glu, word(cols));
        return (variant, rows, cols);
    }
    if tokens > 16 && params.norm.is_none() {
        let variant = Variant::new(Kernel::LinearTile)
            .constant(Constant::Lanes, 1)
            .constant(Constant::Rows, if glu { 2 } else { 1 })
            .constant(Constant::RowsOut, 1);
        return (variant, if glu { 32 } else { 64 }, 32);
    }
    let cols = tokens.min(4);
    (split_variant(glu, cols), 32, cols)
}

/// Waves of a GPU's attention workgroup: of few tiles there are few workgroups, and each has a long way along
/// the cache. As many as workgroup memory and invocations of the base limits take.
fn attention_splits(params: &AttentionParams) -> u32 {
    /// Words of workgroup memory, less those that any number of waves takes.
    const WORDS: usize = 4096 - 64;
    const MOST: usize = 8;
    /// Waves that a GPU has enough of.
    const ENOUGH: usize = 256;
    let lacking = ENOUGH / (params.tiles * params.kv_heads).max(1);
    if params.profile.software || params.tile_tokens > 1 || lacking < 2 {
        return 1;
    }
    let queries = params.heads / params.kv_heads;
    // Scores and weights of a block, a query's part of the head, a maximum for each.
    let each = queries * (2 * BLOCK + 1) + params.head_dim;
    word(1 << (WORDS / each).min(lacking).clamp(1, MOST).ilog2())
}

/// Workgroups that a launch may have along an axis.
const MOST_GROUPS: usize = 65535;

impl FiresideOps for CubeBackend {
    fn fireside_embed(
        quants: IntTensor<Self>,
        scales: MaybeInt<Self>,
        step: IntTensor<Self>,
        out: MaybeFloat<Self>,
        params: EmbedParams,
    ) -> FloatTensor<Self> {
        let stride = padded(params.table.columns);
        let scales = scales.into_option();
        let out = out.into_option();
        let out = out.unwrap_or_else(|| empty(&quants, params.tokens, stride, DType::F32));
        let chunks = chunks(&params.table);
        let lanes = free_lanes(params.profile);
        let variant = with_layout(
            Variant::new(Kernel::Embed).constant(Constant::Lanes, lanes),
            params.table.layout,
        )
        .flag_if(Flag::Add, params.add);
        let mut buffers = vec![&out, &step, &quants];
        buffers.extend(scales.as_ref());
        launch(
            variant,
            [chunks.div_ceil(lanes as usize), params.tokens, 1],
            &buffers,
            &[
                word(chunks),
                word(stride),
                word(params.tokens_at),
                word(params.first),
                word(params.table.rows),
                params.scale.to_bits(),
            ],
        );
        out
    }

    fn fireside_norm(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        step: IntTensor<Self>,
        bias: MaybeFloat<Self>,
        residual: MaybeFloat<Self>,
        params: NormParams,
    ) -> FloatTensor<Self> {
        let (bias, residual) = (bias.into_option(), residual.into_option());
        let stride = padded(params.width);
        let out = empty(&x, params.rows, stride, DType::F32);
        let variant = Variant::new(Kernel::RmsNorm)
            .constant(Constant::Lanes, free_lanes(params.profile))
            .flag_if(Flag::Centered, bias.is_some())
            .flag_if(Flag::Residual, residual.is_some());
        let mut buffers = vec![&out, &x, &gain, &step];
        buffers.extend(bias.as_ref());
        buffers.extend(residual.as_ref());
        launch(
            variant,
            [params.rows, 1, 1],
            &buffers,
            &[
                word(stride),
                word(params.width),
                params.eps.to_bits(),
                word(params.rows_at),
            ],
        );
        out
    }

    fn fireside_linear(
        x: FloatTensor<Self>,
        quants: IntTensor<Self>,
        scales: MaybeInt<Self>,
        gain: MaybeFloat<Self>,
        bias: MaybeFloat<Self>,
        residual: MaybeFloat<Self>,
        out: MaybeFloat<Self>,
        params: LinearParams,
    ) -> FloatTensor<Self> {
        let (scales, gain) = (scales.into_option(), gain.into_option());
        let (bias, residual) = (bias.into_option(), residual.into_option());
        let out = out.into_option();
        let out = out.unwrap_or_else(|| empty(&x, params.tokens, params.y_stride, DType::F32));
        let mut buffers = vec![&out, &x, &quants];
        buffers.extend(scales.as_ref());
        buffers.extend(gain.as_ref());
        buffers.extend(bias.as_ref());
        buffers.extend(residual.as_ref());
        let glu_offset = params.glu.map_or(0, |(offset, _)| word(offset));
        let activation = params.glu.map(|(_, gate)| gate).or(params.activation);
        let activation = activation.map_or(0, |function| function as u32);
        let (norm_width, eps) = params.norm.map_or((1, 0.0), |(w, e)| (word(w), e));
        for (first, count) in token_runs(&params) {
            let (variant, rows, cols) = linear_variant(&params, count);
            let variant = with_layout(variant, params.matrix.layout)
                .flag_if(Flag::Norm, params.norm.is_some())
                .flag_if(Flag::Glu, params.glu.is_some())
                .flag_if(Flag::Bias, bias.is_some())
                .flag_if(Flag::Residual, residual.is_some())
                .flag_if(Flag::Activate, params.activation.is_some())
                .flag_if(Flag::SoftCap, params.cap.is_some());
            launch(
                variant,
                [params.rows_out.div_ceil(rows), count.div_ceil(cols), 1],
                &buffers,
                &[
                    word(params.tokens),
                    word(chunks(&params.matrix)),
                    word(padded_rows(&params.matrix)),
                    word(params.rows_out),
                    word(padded(params.matrix.columns)),
                    word(params.y_stride),
                    word(params.row_offset),
                    glu_offset,
                    norm_width,
                    eps.to_bits(),
                    activation,
                    word(first),
                    params.cap.unwrap_or(0.0).to_bits(),
                ],
            );
        }
        out
    }

    fn fireside_route(logits: FloatTensor<Self>, params: RouteParams) -> IntTensor<Self> {
        let (tokens, stride) = (logits.meta.shape()[0], logits.meta.shape()[1]);
        let routes = empty(&logits, tokens, 2 * params.chosen, DType::U32);
        launch(
            Variant::new(Kernel::Route).constant(Constant::Lanes, free_lanes(params.profile)),
            [tokens, 1, 1],
            &[&routes, &logits],
            &[
                word(stride),
                word(params.experts),
                word(params.chosen),
                u32::from(params.normalized),
            ],
        );
        routes
    }

    fn fireside_experts(
        x: FloatTensor<Self>,
        quants: IntTensor<Self>,
        scales: MaybeInt<Self>,
        routes: IntTensor<Self>,
        gain: MaybeFloat<Self>,
        residual: MaybeFloat<Self>,
        out: MaybeFloat<Self>,
        params: ExpertsParams,
    ) -> FloatTensor<Self> {
        let (scales, gain) = (scales.into_option(), gain.into_option());
        let (residual, out) = (residual.into_option(), out.into_option());
        let glu = params.glu.is_some();
        // Routes of a result, results of a row of x.
        let (slots, share) = if glu {
            (1, params.chosen)
        } else {
            (params.chosen, 1)
        };
        let results = x.meta.shape()[0] * share / slots;
        let out = out.unwrap_or_else(|| empty(&x, results, params.y_stride, DType::F32));
        let mut buffers = vec![&out, &x, &quants];
        buffers.extend(scales.as_ref());
        buffers.extend(gain.as_ref());
        buffers.extend(residual.as_ref());
        buffers.push(&routes);
        let layout = params.matrix.layout;
        let (variant, rows) = if params.profile.software {
            lane_variant(params.profile, glu, 1)
        } else {
            (split_variant(glu, 1), 32)
        };
        let variant = with_layout(variant, layout)
            .flag(Flag::Experts)
            .flag_if(Flag::Norm, params.norm.is_some())
            .flag_if(Flag::Glu, glu)
            .flag_if(Flag::Residual, residual.is_some());
        let (norm_width, eps) = params.norm.map_or((1, 0.0), |(w, e)| (word(w), e));
        let (first_expert, held) = params.held;
        for first in (0..results).step_by(MOST_GROUPS) {
            let count = MOST_GROUPS.min(results - first);
            launch(
                variant,
                [params.y_stride.div_ceil(rows), count, 1],
                &buffers,
                &[
                    word(results),
                    word(chunks(&params.matrix)),
                    word(padded_rows(&params.matrix)),
                    word(params.y_stride),
                    word(padded(params.matrix.columns)),
                    word(params.y_stride),
                    0,
                    params.glu.map_or(0, |(offset, _)| word(offset)),
                    norm_width,
                    eps.to_bits(),
                    params.glu.map_or(0, |(_, function)| function as u32),
                    word(first),
                    0,
                    word(slots),
                    word(share),
                    word(params.expert_rows),
                    word(first_expert),
                    word(held),
                    word(params.routes_at / 2),
                ],
            );
        }
        out
    }

    fn fireside_rope_kv(
        qkv: FloatTensor<Self>,
        keys: IntTensor<Self>,
        values: IntTensor<Self>,
        step: IntTensor<Self>,
        gains: MaybeFloat<Self>,
        params: RopeParams,
    ) -> (FloatTensor<Self>, IntTensor<Self>, IntTensor<Self>) {
        let q_stride = padded(params.heads * params.head_dim);
        let q = empty(&qkv, params.tokens, q_stride, DType::F32);
        let quads = params.head_dim / 4;
        let lanes = free_lanes(params.profile);
        // A lane reads its whole head for a scale. Where loads are what a launch costs it stores all of it too.
        let parts = match params.kv {
            KvDtype::Q8 if params.profile.software => quads,
            _ => 1,
        };
        let variant = Variant::new(Kernel::RopeKv)
            .constant(Constant::Lanes, lanes)
            .constant(Constant::Parts, word(parts))
            .constant(Constant::HeadQuads, word(quads))
            .constant(Constant::Block, word(BLOCK))
            .flag_if(Flag::HeadNorm, params.norm.is_some())
            .flag_if(Flag::WholeNorm, params.norm.is_some_and(|norm| norm.whole));
        let variant = with_kv(variant, params.kv);
        let gains = gains.into_option();
        let mut buffers = vec![&q, &keys, &values, &qkv, &step];
        buffers.extend(gains.as_ref());
        let (norm_width, eps) = params.norm.map_or((0, 0.0), |norm| (norm.width, norm.eps));
        let width = (params.heads + 2 * params.kv_heads) * quads / parts;
        launch(
            variant,
            [width.div_ceil(lanes as usize), params.tokens, 1],
            &buffers,
            &[
                word(params.tokens),
                word(qkv.meta.shape()[1]),
                word(q_stride),
                word(params.heads),
                word(params.kv_heads),
                word(params.rotary),
                word(params.slots_at),
                word(params.angles_at),
                word(norm_width),
                eps.to_bits(),
                0,
                0,
            ],
        );
        (q, keys, values)
    }

    fn fireside_attention(
        q: FloatTensor<Self>,
        keys: IntTensor<Self>,
        values: IntTensor<Self>,
        step: IntTensor<Self>,
        params: AttentionParams,
    ) -> FloatTensor<Self> {
        let stride = q.meta.shape()[1];
        let out = empty(&q, q.meta.shape()[0], stride, DType::F32);
        let lanes = if params.profile.software { 8 } else { 32 };
        let variant = if params.profile.subgroups {
            Variant::new(Kernel::AttentionLane).flag(Flag::Subgroups)
        } else {
            let splits = attention_splits(&params);
            Variant::new(Kernel::Attention)
                .constant(Constant::Positions, word(BLOCK) / lanes)
                .constant(Constant::Splits, splits)
                .constant(Constant::Workgroup, splits * lanes)
                .flag_if(Flag::Split, splits > 1)
        };
        let variant = variant
            .constant(Constant::Lanes, lanes)
            .constant(Constant::Parts, word(params.head_dim / 4).div_ceil(lanes))
            .constant(Constant::HeadQuads, word(params.head_dim / 4))
            .constant(Constant::Block, word(BLOCK))
            .constant(Constant::Group, word(params.heads / params.kv_heads))
            .constant(Constant::Tokens, word(params.tile_tokens));
        launch(
            with_kv(variant, params.kv),
            [params.tiles, params.kv_heads, 1],
            &[&out, &q, &keys, &values, &step],
            &[
                word(stride),
                word(params.heads),
                word(params.kv_heads),
                word(params.tiles_at),
                params.scale.to_bits(),
                word(params.window),
                params.cap.unwrap_or(0.0).to_bits(),
                word(params.ends_at.unwrap_or(0)),
            ],
        );
        out
    }

    fn fireside_glu(x: FloatTensor<Self>, params: GluParams) -> FloatTensor<Self> {
        let (tokens, x_stride) = (x.meta.shape()[0], x.meta.shape()[1]);
        let stride = padded(params.width);
        let out = empty(&x, tokens, stride, DType::F32);
        let lanes = free_lanes(params.profile);
        launch(
            Variant::new(Kernel::Glu).constant(Constant::Lanes, lanes),
            [stride.div_ceil(lanes as usize), tokens, 1],
            &[&out, &x],
            &[
                word(x_stride),
                word(stride),
                word(params.width),
                word(params.offset.unwrap_or(0)),
                params.activation as u32,
            ],
        );
        out
    }

    fn fireside_adjust_logits(
        logits: FloatTensor<Self>,
        step: IntTensor<Self>,
        params: AdjustParams,
    ) -> FloatTensor<Self> {
        let lanes = free_lanes(params.profile);
        launch(
            Variant::new(Kernel::AdjustLogits).constant(Constant::Lanes, lanes),
            [params.count.div_ceil(lanes as usize), 1, 1],
            &[&logits, &step],
            &[
                word(logits.meta.shape()[1]),
                word(params.count),
                word(params.entries_at),
            ],
        );
        logits
    }

    fn fireside_select(
        logits: FloatTensor<Self>,
        step: IntTensor<Self>,
        params: SelectParams,
    ) -> IntTensor<Self> {
        let (rows, stride) = (logits.meta.shape()[0], logits.meta.shape()[1]);
        let (groups, keep) = (params.groups(), params.kept());
        let partials = empty(&logits, rows, groups * 8, DType::F32);
        let out = empty(&logits, rows, params.out_stride(), DType::U32);
        let words = [
            word(stride),
            word(params.vocab),
            word(groups),
            word(params.rows_at),
            word(keep),
            word(params.out_stride()),
        ];
        let variant = |kernel| {
            Variant::new(kernel)
                .constant(Constant::Lanes, word(SelectParams::LANES))
                .constant(Constant::Each, word(params.each()))
        };
        let sets = groups / SelectParams::LANES;
        launch(
            variant(Kernel::SelectGroups),
            [sets, rows, 1],
            &[&partials, &logits, &step],
            &words,
        );
        launch(
            variant(Kernel::SelectBest),
            [rows, 1, 1],
            &[&out, &partials, &step],
            &words,
        );
        if keep > 0 {
            let chosen = empty(&logits, rows, keep, DType::U32);
            launch(
                variant(Kernel::SelectTopGroups),
                [sets, rows, 1],
                &[&chosen, &partials],
                &words,
            );
            launch(
                variant(Kernel::SelectTop),
                [
                    (keep * params.each()).div_ceil(SelectParams::LANES),
                    rows,
                    1,
                ],
                &[&out, &logits, &chosen],
                &words,
            );
        }
        out
    }
}
