//! The decoder as Burn modules: embedding, layers of attention and feed-forward, final norm, head.
//!
//! Built once for all families; what differs between them is in the config and the matrices.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use fireside_kernels::ops;
use fireside_kernels::params::{
    Activation, AttentionParams, GluParams, HeadNorm, NormParams, Profile, RopeParams,
};

use crate::cache::KvCache;
use crate::config::DecoderConfig;
use crate::error::ModelError;
use crate::matrix::{Matrix, Product};
use crate::plan::Shape;

/// Up to this many tokens a norm is computed inside the product that follows it: that saves a
/// launch and costs little while few tokens share each weight.
const FUSED_NORM_TOKENS: usize = 4;

/// A gain and its epsilon.
#[derive(Module, Debug)]
pub struct Norm {
    gain: Tensor<1>,
    #[module(skip)]
    width: usize,
    #[module(skip)]
    eps: f32,
}

/// Attention of one layer.
#[derive(Module, Debug)]
pub struct Attention {
    norm: Norm,
    /// Query, key and value rows, in this order.
    qkv: Matrix,
    qkv_bias: Option<Tensor<1>>,
    out: Matrix,
    out_bias: Option<Tensor<1>>,
    /// Gains of the norms of query heads and of key heads, `[2 * stored head]`.
    head_gains: Option<Tensor<1>>,
}

/// Gated feed-forward layer.
#[derive(Module, Debug)]
pub struct FeedForward {
    norm: Norm,
    /// Gate rows, then up rows, each padded to 32.
    gate_up: Matrix,
    gate_up_bias: Option<Tensor<1>>,
    down: Matrix,
    down_bias: Option<Tensor<1>>,
    #[module(skip)]
    width: usize,
    #[module(skip)]
    activation: GateKind,
    /// The gate is applied inside the product.
    #[module(skip)]
    fused: bool,
}

/// A gate's function, as a module keeps it.
#[derive(Debug, Clone, Copy)]
pub struct GateKind(pub(crate) Activation);

/// One layer.
#[derive(Module, Debug)]
pub struct Layer {
    attention: Attention,
    feed_forward: FeedForward,
}

/// A decoder-only language model.
#[derive(Module, Debug)]
pub struct Decoder {
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Norm,
    /// `None` where the embedding table is the head.
    head: Option<Matrix>,
    /// Factor on embeddings.
    #[module(skip)]
    scale: f32,
}

/// What every layer of a step needs.
struct Run<'a> {
    config: &'a DecoderConfig,
    shape: &'a Shape,
    step: &'a Tensor<1, Int>,
    profile: Profile,
}

impl Norm {
    /// A norm of `width` columns; `gain` is padded.
    pub(crate) fn new(gain: Tensor<1>, width: usize, eps: f32) -> Self {
        Self { gain, width, eps }
    }

    fn rows(&self, x: &Tensor<2>, rows: usize, rows_at: usize, run: &Run<'_>) -> Tensor<2> {
        let params = NormParams {
            width: self.width,
            eps: self.eps,
            rows,
            rows_at,
            profile: run.profile,
        };
        ops::rms_norm(x, &self.gain, run.step, params)
    }

    /// The product of `matrix` with the normed `x`, the norm inside it or before it.
    fn then(&self, matrix: &Matrix, x: &Tensor<2>, extra: Product<'_>, run: &Run<'_>) -> Tensor<2> {
        if run.shape.tokens <= FUSED_NORM_TOKENS {
            let norm = Some((&self.gain, self.width, self.eps));
            return matrix.product(x, Product { norm, ..extra }, run.profile);
        }
        let normed = self.rows(x, run.shape.tokens, run.shape.identity_at, run);
        matrix.product(&normed, extra, run.profile)
    }
}

impl Attention {
    pub(crate) fn new(
        norm: Norm,
        qkv: Matrix,
        qkv_bias: Option<Tensor<1>>,
        out: Matrix,
        out_bias: Option<Tensor<1>>,
        head_gains: Option<Tensor<1>>,
    ) -> Self {
        Self {
            norm,
            qkv,
            qkv_bias,
            out,
            out_bias,
            head_gains,
        }
    }

    fn forward(
        &self,
        x: &Tensor<2>,
        layer: usize,
        cache: &mut KvCache,
        run: &Run<'_>,
    ) -> Result<Tensor<2>, ModelError> {
        let (config, shape) = (run.config, run.shape);
        let bias = self.qkv_bias.as_ref();
        let qkv = self.norm.then(
            &self.qkv,
            x,
            Product {
                bias,
                ..Default::default()
            },
            run,
        );
        let (keys, values) = cache.take(layer).ok_or_else(|| ModelError::Step {
            what: "the cache has fewer layers than the model, or an earlier step failed".into(),
        })?;
        let kv = cache.dtype();
        let kind = config.kind(layer);
        let (q, keys, values) = ops::rope_kv(
            qkv,
            keys,
            values,
            run.step,
            self.head_gains.as_ref(),
            RopeParams {
                tokens: shape.tokens,
                heads: config.heads,
                kv_heads: config.kv_heads,
                head_dim: config.stored_head_dim(),
                rotary: if kind.rotates { config.rope.rotary } else { 0 },
                slots_at: shape.slots_at,
                angles_at: shape.angles_at,
                norm: self.head_gains.is_some().then_some(HeadNorm {
                    width: config.head_dim,
                    eps: config.norm_eps,
                }),
                kv,
                profile: run.profile,
            },
        );
        let attended = ops::attention(
            q,
            &keys,
            &values,
            run.step,
            AttentionParams {
                heads: config.heads,
                kv_heads: config.kv_heads,
                head_dim: config.stored_head_dim(),
                scale: config.score_scale(),
                window: kind.window,
                tiles: shape.tiles,
                tiles_at: shape.tiles_at,
                tile_tokens: shape.tile_tokens,
                kv,
                profile: run.profile,
            },
        );
        cache.put(layer, keys, values);
        let extra = Product {
            bias: self.out_bias.as_ref(),
            residual: Some(x),
            ..Default::default()
        };
        Ok(self.out.product(&attended, extra, run.profile))
    }
}

impl FeedForward {
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of a layer, named at the one call"
    )]
    pub(crate) fn new(
        norm: Norm,
        gate_up: Matrix,
        gate_up_bias: Option<Tensor<1>>,
        down: Matrix,
        down_bias: Option<Tensor<1>>,
        width: usize,
        activation: Activation,
        fused: bool,
    ) -> Self {
        Self {
            norm,
            gate_up,
            gate_up_bias,
            down,
            down_bias,
            width,
            activation: GateKind(activation),
            fused,
        }
    }

    fn forward(&self, x: &Tensor<2>, run: &Run<'_>) -> Tensor<2> {
        let activation = self.activation.0;
        let gated = if self.fused {
            let extra = Product {
                gate: Some(activation),
                ..Default::default()
            };
            self.norm.then(&self.gate_up, x, extra, run)
        } else {
            let bias = self.gate_up_bias.as_ref();
            let halves = self.norm.then(
                &self.gate_up,
                x,
                Product {
                    bias,
                    ..Default::default()
                },
                run,
            );
            let params = GluParams {
                width: self.width,
                offset: self.gate_up.rows() / 2,
                activation,
                profile: run.profile,
            };
            ops::glu(halves, params)
        };
        let extra = Product {
            bias: self.down_bias.as_ref(),
            residual: Some(x),
            ..Default::default()
        };
        self.down.product(&gated, extra, run.profile)
    }
}

impl Layer {
    pub(crate) fn new(attention: Attention, feed_forward: FeedForward) -> Self {
        Self {
            attention,
            feed_forward,
        }
    }
}

impl Decoder {
    pub(crate) fn new(
        embedding: Matrix,
        layers: Vec<Layer>,
        norm: Norm,
        head: Option<Matrix>,
        scale: f32,
    ) -> Self {
        Self {
            embedding,
            layers,
            norm,
            head,
            scale,
        }
    }

    /// The logits of the step's rows, `[rows][stride]`, `None` where it wants no row; keys and
    /// values go to the cache.
    pub(crate) fn logits(
        &self,
        config: &DecoderConfig,
        shape: &Shape,
        step: &Tensor<1, Int>,
        cache: &mut KvCache,
        profile: Profile,
    ) -> Result<Option<Tensor<2>>, ModelError> {
        let run = Run {
            config,
            shape,
            step,
            profile,
        };
        let mut x = self
            .embedding
            .gather(step, shape.tokens, shape.tokens_at, self.scale, profile)
            .ok_or_else(|| ModelError::Contradiction {
                what: "the embedding table is empty".into(),
            })?;
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.attention.forward(&x, index, cache, &run)?;
            x = layer.feed_forward.forward(&x, &run);
        }
        if shape.rows == 0 {
            return Ok(None);
        }
        let last = self.norm.rows(&x, shape.rows, shape.rows_at, &run);
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        Ok(Some(head.product(&last, Product::default(), profile)))
    }

    /// Every matrix, for sizes and layouts.
    pub fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        self.layers
            .iter()
            .flat_map(|l| {
                [
                    &l.attention.qkv,
                    &l.attention.out,
                    &l.feed_forward.gate_up,
                    &l.feed_forward.down,
                ]
            })
            .chain(std::iter::once(&self.embedding))
            .chain(&self.head)
    }
}
