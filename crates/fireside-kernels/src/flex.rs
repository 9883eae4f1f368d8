//! The operations on Burn's Flex backend: the twins on its tensors' memory.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{DType, Flex, TensorMetadata};
use burn::tensor::Shape;

use crate::layout::padded;
use crate::ops::{FiresideOps, MaybeFloat, MaybeInt};
use crate::params::{
    AdjustParams, AttentionParams, EmbedParams, ExpertsParams, GluParams, LinearParams, NormParams,
    RopeParams, RouteParams, SelectParams,
};
use crate::twin::{self, PlanesView};

type Float = FloatTensor<Flex>;
type Int = IntTensor<Flex>;

fn planes<'a>(
    matrix: &crate::params::MatrixShape,
    quants: &'a Int,
    scales: Option<&'a Int>,
) -> PlanesView<'a> {
    PlanesView {
        layout: matrix.layout,
        columns: matrix.columns,
        quants: quants.storage(),
        scales: scales.map_or(&[], |s| s.storage()),
    }
}

fn zeros(rows: usize, stride: usize) -> Float {
    Float::zeros(Shape::new([rows, stride]), DType::F32)
}

fn stride(tensor: &Float) -> usize {
    tensor.shape()[1]
}

impl FiresideOps for Flex {
    fn fireside_embed(
        quants: Int,
        scales: MaybeInt<Flex>,
        step: Int,
        out: MaybeFloat<Flex>,
        params: EmbedParams,
    ) -> Float {
        let scales = scales.into_option();
        let mut out = out
            .into_option()
            .unwrap_or_else(|| zeros(params.tokens, padded(params.table.columns)));
        let table = planes(&params.table, &quants, scales.as_ref());
        twin::embed(&table, step.storage(), &params, out.storage_mut());
        out
    }

    fn fireside_norm(
        x: Float,
        gain: Float,
        step: Int,
        bias: MaybeFloat<Flex>,
        residual: MaybeFloat<Flex>,
        params: NormParams,
    ) -> Float {
        let (bias, residual) = (bias.into_option(), residual.into_option());
        let mut out = zeros(params.rows, padded(params.width));
        twin::norm(
            x.storage(),
            gain.storage(),
            step.storage(),
            bias.as_ref().map(|t| t.storage()),
            residual.as_ref().map(|t| t.storage()),
            &params,
            out.storage_mut(),
        );
        out
    }

    fn fireside_linear(
        x: Float,
        quants: Int,
        scales: MaybeInt<Flex>,
        gain: MaybeFloat<Flex>,
        bias: MaybeFloat<Flex>,
        residual: MaybeFloat<Flex>,
        out: MaybeFloat<Flex>,
        params: LinearParams,
    ) -> Float {
        let (scales, gain) = (scales.into_option(), gain.into_option());
        let (bias, residual) = (bias.into_option(), residual.into_option());
        let mut out = out
            .into_option()
            .unwrap_or_else(|| zeros(params.tokens, params.y_stride));
        twin::linear(
            &planes(&params.matrix, &quants, scales.as_ref()),
            x.storage(),
            gain.as_ref().map(|t| t.storage()),
            bias.as_ref().map(|t| t.storage()),
            residual.as_ref().map(|t| t.storage()),
            &params,
            out.storage_mut(),
        );
        out
    }

    fn fireside_route(logits: Float, params: RouteParams) -> Int {
        let shape = Shape::new([logits.shape()[0], 2 * params.chosen]);
        let mut routes = Int::zeros(shape, DType::U32);
        twin::route(
            logits.storage(),
            stride(&logits),
            &params,
            routes.storage_mut(),
        );
        routes
    }

    fn fireside_experts(
        x: Float,
        quants: Int,
        scales: MaybeInt<Flex>,
        routes: Int,
        gain: MaybeFloat<Flex>,
        residual: MaybeFloat<Flex>,
        out: MaybeFloat<Flex>,
        params: ExpertsParams,
    ) -> Float {
        let (scales, gain) = (scales.into_option(), gain.into_option());
        let residual = residual.into_option();
        let rows = match params.glu {
            Some(_) => x.shape()[0] * params.chosen,
            None => x.shape()[0] / params.chosen,
        };
        let routed = rows
            * if params.glu.is_some() {
                1
            } else {
                params.chosen
            };
        let mut out = out
            .into_option()
            .unwrap_or_else(|| zeros(rows, params.y_stride));
        twin::experts(
            &planes(&params.matrix, &quants, scales.as_ref()),
            x.storage(),
            &routes.storage()[params.routes_at..][..2 * routed],
            gain.as_ref().map(|t| t.storage()),
            residual.as_ref().map(|t| t.storage()),
            &params,
            out.storage_mut(),
        );
        out
    }

    fn fireside_rope_kv(
        qkv: Float,
        mut keys: Int,
        mut values: Int,
        step: Int,
        gains: MaybeFloat<Flex>,
        params: RopeParams,
    ) -> (Float, Int, Int) {
        let gains = gains.into_option();
        let mut q = zeros(params.tokens, padded(params.heads * params.head_dim));
        twin::rope_kv(
            qkv.storage(),
            keys.storage_mut(),
            values.storage_mut(),
            step.storage(),
            gains.as_ref().map(|t| t.storage()),
            &params,
            q.storage_mut(),
        );
        (q, keys, values)
    }

    fn fireside_attention(
        q: Float,
        keys: Int,
        values: Int,
        step: Int,
        params: AttentionParams,
    ) -> Float {
        let mut out = zeros(q.shape()[0], stride(&q));
        twin::attention(
            q.storage(),
            keys.storage(),
            values.storage(),
            step.storage(),
            &params,
            out.storage_mut(),
        );
        out
    }

    fn fireside_glu(x: Float, params: GluParams) -> Float {
        let mut out = zeros(x.shape()[0], padded(params.width));
        twin::glu(x.storage(), stride(&x), &params, out.storage_mut());
        out
    }

    fn fireside_adjust_logits(mut logits: Float, step: Int, params: AdjustParams) -> Float {
        let stride = stride(&logits);
        twin::adjust_logits(logits.storage_mut(), stride, step.storage(), &params);
        logits
    }

    fn fireside_select(logits: Float, step: Int, params: SelectParams) -> Int {
        let shape = Shape::new([logits.shape()[0], params.out_stride()]);
        let mut out = Int::zeros(shape, DType::U32);
        twin::select(
            logits.storage(),
            stride(&logits),
            step.storage(),
            &params,
            out.storage_mut(),
        );
        out
    }
}
