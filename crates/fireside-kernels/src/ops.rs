//! The operations on tensors: each dispatches to a WGSL kernel on a GPU and to its twin on the CPU.
//!
//! Activations are `[tokens][stride]` floats whose stride is the width rounded up to 32, with
//! zeros in the padding; every operation keeps that true. Plain data (token ids, cache slots,
//! block tables, angles) comes in one step buffer of `u32` words, uploaded once a step.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, ExtensionType, backend_extension};
use burn::tensor::{Int, Tensor};

use crate::params::{
    AdjustParams, AttentionParams, EmbedParams, ExpertsParams, GluParams, LinearParams, NormParams,
    RopeParams, RouteParams, SelectParams,
};

/// A tensor of floats that may be absent, as it crosses to a backend.
#[derive(ExtensionType)]
pub enum MaybeFloat<B: Backend> {
    /// Absent.
    None,
    /// Present.
    Some {
        /// The tensor.
        tensor: FloatTensor<B>,
    },
}

/// A tensor of integers that may be absent, as it crosses to a backend.
#[derive(ExtensionType)]
pub enum MaybeInt<B: Backend> {
    /// Absent.
    None,
    /// Present.
    Some {
        /// The tensor.
        tensor: IntTensor<B>,
    },
}

impl<B: Backend> MaybeFloat<B> {
    pub(crate) fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::None => None,
            Self::Some { tensor } => Some(tensor),
        }
    }
}

impl<B: Backend> MaybeInt<B> {
    pub(crate) fn into_option(self) -> Option<IntTensor<B>> {
        match self {
            Self::None => None,
            Self::Some { tensor } => Some(tensor),
        }
    }
}

fn maybe_float<const D: usize>(tensor: Option<Tensor<D>>) -> MaybeFloat<Dispatch> {
    match tensor {
        None => MaybeFloat::None,
        Some(tensor) => MaybeFloat::Some {
            tensor: tensor.into_dispatch(),
        },
    }
}

fn maybe_int<const D: usize>(tensor: Option<Tensor<D, Int>>) -> MaybeInt<Dispatch> {
    match tensor {
        None => MaybeInt::None,
        Some(tensor) => MaybeInt::Some {
            tensor: tensor.into_dispatch(),
        },
    }
}

/// The backend side of the operations, implemented for wgpu and Flex; use the functions of this
/// module instead.
#[backend_extension(Cube, Flex)]
pub trait FiresideOps: Backend {
    /// See [`embed`].
    fn fireside_embed(
        quants: IntTensor<Self>,
        #[extension_type] scales: MaybeInt<Self>,
        step: IntTensor<Self>,
        #[extension_type] out: MaybeFloat<Self>,
        params: EmbedParams,
    ) -> FloatTensor<Self>;

    /// See [`norm`].
    fn fireside_norm(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        step: IntTensor<Self>,
        #[extension_type] bias: MaybeFloat<Self>,
        #[extension_type] residual: MaybeFloat<Self>,
        params: NormParams,
    ) -> FloatTensor<Self>;

    /// See [`linear`].
    fn fireside_linear(
        x: FloatTensor<Self>,
        quants: IntTensor<Self>,
        #[extension_type] scales: MaybeInt<Self>,
        #[extension_type] gain: MaybeFloat<Self>,
        #[extension_type] bias: MaybeFloat<Self>,
        #[extension_type] residual: MaybeFloat<Self>,
        #[extension_type] out: MaybeFloat<Self>,
        params: LinearParams,
    ) -> FloatTensor<Self>;

    /// See [`route`].
    fn fireside_route(logits: FloatTensor<Self>, params: RouteParams) -> IntTensor<Self>;

    /// See [`experts`].
    fn fireside_experts(
        x: FloatTensor<Self>,
        quants: IntTensor<Self>,
        #[extension_type] scales: MaybeInt<Self>,
        routes: IntTensor<Self>,
        #[extension_type] gain: MaybeFloat<Self>,
        #[extension_type] residual: MaybeFloat<Self>,
        #[extension_type] out: MaybeFloat<Self>,
        params: ExpertsParams,
    ) -> FloatTensor<Self>;

    /// See [`rope_kv`].
    fn fireside_rope_kv(
        qkv: FloatTensor<Self>,
        keys: IntTensor<Self>,
        values: IntTensor<Self>,
        step: IntTensor<Self>,
        #[extension_type] gains: MaybeFloat<Self>,
        params: RopeParams,
    ) -> (FloatTensor<Self>, IntTensor<Self>, IntTensor<Self>);

    /// See [`attention`].
    fn fireside_attention(
        q: FloatTensor<Self>,
        keys: IntTensor<Self>,
        values: IntTensor<Self>,
        step: IntTensor<Self>,
        params: AttentionParams,
    ) -> FloatTensor<Self>;

    /// See [`glu`].
    fn fireside_glu(x: FloatTensor<Self>, params: GluParams) -> FloatTensor<Self>;

    /// See [`adjust_logits`].
    fn fireside_adjust_logits(
        logits: FloatTensor<Self>,
        step: IntTensor<Self>,
        params: AdjustParams,
    ) -> FloatTensor<Self>;

    /// See [`select`].
    fn fireside_select(
        logits: FloatTensor<Self>,
        step: IntTensor<Self>,
        params: SelectParams,
    ) -> IntTensor<Self>;
}

/// A weight matrix on a device: its planes as tensors of words.
#[derive(Debug, Clone)]
pub struct PlaneTensors {
    /// Tiles of 64 rows x chunks x 64 x 4 words.
    pub quants: Tensor<1, Int>,
    /// Tiles x groups x 64 x scale words; none for the float layouts.
    pub scales: Option<Tensor<1, Int>>,
}

/// Gathers the embedding rows of the step's tokens: `[tokens][stride]`.
///
/// A table in shards is gathered by one call per shard, each after the first getting the
/// `out` of the one before. Where rows are added, the first gets the tensor to add them to.
pub fn embed(
    planes: &PlaneTensors,
    step: &Tensor<1, Int>,
    out: Option<Tensor<2>>,
    params: EmbedParams,
) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fireside_embed(
        planes.quants.clone().into_dispatch(),
        maybe_int(planes.scales.clone()),
        step.clone().into_dispatch(),
        maybe_float(out),
        params,
    ))
}

/// What a norm may take besides x and its gain.
#[derive(Debug, Clone, Copy, Default)]
pub struct NormExtras<'a> {
    /// Makes it a layer norm, which takes the mean away and adds this; as long as the gain.
    pub bias: Option<&'a Tensor<1>>,
    /// What the normed rows are added to.
    pub residual: Option<&'a Tensor<2>>,
}

/// Root-mean-square norm of chosen rows of `x`, or layer norm where there is a bias: `[rows][stride]`.
/// `gain` has the stride's length, zeros in the padding.
pub fn norm(
    x: &Tensor<2>,
    gain: &Tensor<1>,
    step: &Tensor<1, Int>,
    extras: NormExtras<'_>,
    params: NormParams,
) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fireside_norm(
        x.clone().into_dispatch(),
        gain.clone().into_dispatch(),
        step.clone().into_dispatch(),
        maybe_float(extras.bias.cloned()),
        maybe_float(extras.residual.cloned()),
        params,
    ))
}

/// What a product may take besides x and the matrix.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinearExtras<'a> {
    /// Gain of the norm on x, with [`LinearParams::norm`].
    pub gain: Option<&'a Tensor<1>>,
    /// Added to each row of the result, `y_stride` long; not together with a gate.
    pub bias: Option<&'a Tensor<1>>,
    /// Added to the result, of its shape.
    pub residual: Option<&'a Tensor<2>>,
}

/// Matrix product `y = W x` with optional norm, gate, bias, activation, residual and soft cap: `[tokens][y_stride]`.
///
/// A matrix in parts takes one call per part, each after the first getting the `out` of the
/// one before; together they must write every column of `y`.
pub fn linear(
    x: &Tensor<2>,
    planes: &PlaneTensors,
    extras: LinearExtras<'_>,
    out: Option<Tensor<2>>,
    params: LinearParams,
) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fireside_linear(
        x.clone().into_dispatch(),
        planes.quants.clone().into_dispatch(),
        maybe_int(planes.scales.clone()),
        maybe_float(extras.gain.cloned()),
        maybe_float(extras.bias.cloned()),
        maybe_float(extras.residual.cloned()),
        maybe_float(out),
        params,
    ))
}

/// Chooses the experts of each token by the largest of its `logits`, ties by id: `[tokens][2 * chosen]` words,
/// an expert's id and the bits of its weight in turn, the largest first.
pub fn route(logits: &Tensor<2>, params: RouteParams) -> Tensor<2, Int> {
    Tensor::from_dispatch(Dispatch::fireside_route(
        logits.clone().into_dispatch(),
        params,
    ))
}

/// What a product with experts may take besides x, the planes and the routes.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExpertsExtras<'a> {
    /// Gain of the norm on x, with [`ExpertsParams::norm`].
    pub gain: Option<&'a Tensor<1>>,
    /// Added to the result, of its shape; not together with a gate.
    pub residual: Option<&'a Tensor<2>>,
}

/// Products with the experts that [`route`] chose, or that a step's words name.
///
/// With a gate, `x` has a row for each token and the result one for each route, times the route's weight:
/// `[tokens * chosen][y_stride]`. Without one, `x` has a row for each route and the result one for each
/// token, the sum of its routes' products: `[tokens][y_stride]`.
///
/// Experts in parts take one call per part. With a gate, each after the first gets the `out` of the one before;
/// without one, each gets the result of the one before as its residual.
pub fn experts<const D: usize>(
    x: &Tensor<2>,
    planes: &PlaneTensors,
    routes: &Tensor<D, Int>,
    extras: ExpertsExtras<'_>,
    out: Option<Tensor<2>>,
    params: ExpertsParams,
) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fireside_experts(
        x.clone().into_dispatch(),
        planes.quants.clone().into_dispatch(),
        maybe_int(planes.scales.clone()),
        routes.clone().into_dispatch(),
        maybe_float(extras.gain.cloned()),
        maybe_float(extras.residual.cloned()),
        maybe_float(out),
        params,
    ))
}

/// Rotates queries and keys, writes keys and values to the cache; gives the queries
/// `[tokens][stride]` and the cache, updated in place. `gains` are those of `params.norm`, of queries
/// and then of keys, `[2 * head_dim]`, or of all heads where they are normed as one.
pub fn rope_kv(
    qkv: Tensor<2>,
    keys: Tensor<1, Int>,
    values: Tensor<1, Int>,
    step: &Tensor<1, Int>,
    gains: Option<&Tensor<1>>,
    params: RopeParams,
) -> (Tensor<2>, Tensor<1, Int>, Tensor<1, Int>) {
    let (q, keys, values) = Dispatch::fireside_rope_kv(
        qkv.into_dispatch(),
        keys.into_dispatch(),
        values.into_dispatch(),
        step.clone().into_dispatch(),
        maybe_float(gains.cloned()),
        params,
    );
    (
        Tensor::from_dispatch(q),
        Tensor::from_dispatch(keys),
        Tensor::from_dispatch(values),
    )
}

/// Grouped-query attention over block tables, causal but for [`AttentionParams::ends_at`]: `[tokens][stride]`.
pub fn attention(
    q: Tensor<2>,
    keys: &Tensor<1, Int>,
    values: &Tensor<1, Int>,
    step: &Tensor<1, Int>,
    params: AttentionParams,
) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fireside_attention(
        q.into_dispatch(),
        keys.clone().into_dispatch(),
        values.clone().into_dispatch(),
        step.clone().into_dispatch(),
        params,
    ))
}

/// Activation of `x`, or of its first half times the second where there is a gate: `[tokens][stride]`.
pub fn glu(x: Tensor<2>, params: GluParams) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fireside_glu(x.into_dispatch(), params))
}

/// Applies penalties and biases to the logits, in place.
pub fn adjust_logits(logits: Tensor<2>, step: &Tensor<1, Int>, params: AdjustParams) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fireside_adjust_logits(
        logits.into_dispatch(),
        step.clone().into_dispatch(),
        params,
    ))
}

/// Selects the best token of each row, its log-sum-exp, and the top candidates:
/// `[rows][SelectParams::out_stride]` words, read with [`crate::selection::Selection`].
pub fn select(logits: &Tensor<2>, step: &Tensor<1, Int>, params: SelectParams) -> Tensor<2, Int> {
    Tensor::from_dispatch(Dispatch::fireside_select(
        logits.clone().into_dispatch(),
        step.clone().into_dispatch(),
        params,
    ))
}
