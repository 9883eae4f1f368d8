//! The model as Burn modules: embedding, layers of attention and feed-forward, final norm, head.
//!
//! Built once for all families, decoders and encoders; what differs between them is in the config and the matrices.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use fireside_kernels::check;
use fireside_kernels::ops::{self, NormExtras};
use fireside_kernels::params::{
    Activation, AttentionParams, GluParams, HeadNorm, NormParams, Profile, RopeParams,
};

use crate::cache::KvCache;
use crate::config::DecoderConfig;
use crate::error::ModelError;
use crate::experts::Experts;
use crate::family::{HeadNorms, NormPlaces};
use crate::lora::{Loras, Place, Stack};
use crate::matrix::{Matrix, Product};
use crate::plan::Shape;

/// Up to this many tokens a norm is computed inside the product that follows it: that saves a
/// launch and costs little while few tokens share each weight.
const FUSED_NORM_TOKENS: usize = 4;

/// A gain and its epsilon; a layer norm where there is a bias.
#[derive(Module, Debug)]
pub struct Norm {
    gain: Tensor<1>,
    bias: Option<Tensor<1>>,
    #[module(skip)]
    width: usize,
    #[module(skip)]
    eps: f32,
}

/// Attention of one layer.
#[derive(Module, Debug)]
pub struct Attention {
    /// On what goes in.
    pub(crate) norm: Option<Norm>,
    /// Query, key and value rows, in this order.
    pub(crate) qkv: Matrix,
    pub(crate) qkv_bias: Option<Tensor<1>>,
    pub(crate) out: Matrix,
    pub(crate) out_bias: Option<Tensor<1>>,
    /// Gains of the norms of queries and of keys: `[2 * stored head]`, or those of all heads where
    /// the family norms them as one.
    pub(crate) head_gains: Option<Tensor<1>>,
    /// On what is added to the residual stream.
    pub(crate) post_norm: Option<Norm>,
}

/// Feed-forward layer.
#[derive(Module, Debug)]
pub struct FeedForward {
    /// On what goes in.
    pub(crate) norm: Option<Norm>,
    /// Gate rows, then up rows, each padded to 32; up rows alone where there is no gate.
    pub(crate) gate_up: Matrix,
    pub(crate) gate_up_bias: Option<Tensor<1>>,
    pub(crate) down: Matrix,
    pub(crate) down_bias: Option<Tensor<1>>,
    /// On what is added to the residual stream.
    pub(crate) post_norm: Option<Norm>,
    #[module(skip)]
    pub(crate) width: usize,
    #[module(skip)]
    pub(crate) activation: Function,
    #[module(skip)]
    pub(crate) gate: Gate,
}

/// An activation's function, as a module keeps it.
#[derive(Debug, Clone, Copy)]
pub struct Function(pub(crate) Activation);

/// Where the gate of a feed-forward layer is applied.
#[derive(Debug, Clone, Copy)]
pub enum Gate {
    /// Inside the product with gate and up rows.
    Inside,
    /// After it.
    After,
    /// There is none.
    None,
}

/// What follows attention in a layer.
#[derive(Module, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one a layer, and nothing moves them"
)]
pub enum Second {
    /// A feed-forward layer.
    Dense(FeedForward),
    /// One of experts.
    Experts(Experts),
}

/// One layer.
#[derive(Module, Debug)]
pub struct Layer {
    pub(crate) attention: Attention,
    pub(crate) second: Second,
}

/// A decoder-only language model, or an encoder.
#[derive(Module, Debug)]
pub struct Decoder {
    pub(crate) embedding: Matrix,
    /// What is added to embeddings by position.
    pub(crate) positions: Option<Matrix>,
    /// What is added to embeddings by token type.
    pub(crate) types: Option<Matrix>,
    /// On embeddings.
    pub(crate) embedding_norm: Option<Norm>,
    pub(crate) layers: Vec<Layer>,
    /// On the residual stream before the head; encoders have neither.
    pub(crate) norm: Option<Norm>,
    /// `None` where the embedding table is the head.
    pub(crate) head: Option<Matrix>,
    /// Factor on embeddings.
    #[module(skip)]
    pub(crate) scale: f32,
}

/// What every layer of a step needs.
pub(crate) struct Run<'a> {
    pub(crate) config: &'a DecoderConfig,
    pub(crate) shape: &'a Shape,
    pub(crate) step: &'a Tensor<1, Int>,
    pub(crate) profile: Profile,
    pub(crate) loras: &'a Loras,
}

/// What LoRA adapters add to the product with a matrix.
struct Adapted<'a> {
    stack: &'a Stack,
    routes_at: usize,
}

impl Run<'_> {
    /// What LoRA adapters add at a place, where any token has one.
    fn adapted(&self, layer: usize, place: Place) -> Option<Adapted<'_>> {
        let routes_at = self.shape.loras_at?;
        let stack = self.loras.at(layer, place)?;
        Some(Adapted { stack, routes_at })
    }
}

impl Adapted<'_> {
    fn add(&self, x: &Tensor<2>, y: Tensor<2>, run: &Run<'_>) -> Tensor<2> {
        self.stack.add(x, y, run.step, self.routes_at, run.profile)
    }
}

impl Norm {
    /// A norm of `width` columns; `gain` and `bias` are padded.
    pub(crate) fn new(gain: Tensor<1>, bias: Option<Tensor<1>>, width: usize, eps: f32) -> Self {
        Self {
            gain,
            bias,
            width,
            eps,
        }
    }

    fn params(&self, rows: usize, rows_at: usize, run: &Run<'_>) -> NormParams {
        NormParams {
            width: self.width,
            eps: self.eps,
            rows,
            rows_at,
            profile: run.profile,
        }
    }

    /// Chosen rows of `x`, normed.
    fn rows(&self, x: &Tensor<2>, rows: usize, rows_at: usize, run: &Run<'_>) -> Tensor<2> {
        let params = self.params(rows, rows_at, run);
        let extras = NormExtras {
            bias: self.bias.as_ref(),
            residual: None,
        };
        ops::norm(x, &self.gain, run.step, extras, params)
    }

    /// All rows of `x`, normed.
    pub(crate) fn all(&self, x: &Tensor<2>, run: &Run<'_>) -> Tensor<2> {
        self.rows(x, run.shape.tokens, run.shape.identity_at, run)
    }

    /// What a product needs to norm its input itself, where that pays.
    pub(crate) fn inside(&self, run: &Run<'_>) -> Option<(&Tensor<1>, usize, f32)> {
        let few = run.shape.tokens <= FUSED_NORM_TOKENS && self.bias.is_none();
        few.then_some((&self.gain, self.width, self.eps))
    }

    /// The normed rows of `x`, added to those of `residual`.
    pub(crate) fn add(&self, x: &Tensor<2>, residual: &Tensor<2>, run: &Run<'_>) -> Tensor<2> {
        let params = self.params(run.shape.tokens, run.shape.identity_at, run);
        let extras = NormExtras {
            bias: self.bias.as_ref(),
            residual: Some(residual),
        };
        ops::norm(x, &self.gain, run.step, extras, params)
    }
}

/// The product of a matrix with the residual stream, which is normed before it or inside it where there
/// is a norm.
fn product_in(
    norm: Option<&Norm>,
    matrix: &Matrix,
    x: &Tensor<2>,
    extra: Product<'_>,
    adapted: Option<Adapted<'_>>,
    run: &Run<'_>,
) -> Tensor<2> {
    // What is adapted has two products with what is normed.
    let inside = norm.filter(|_| adapted.is_none());
    if let Some(norm) = inside.and_then(|norm| norm.inside(run)) {
        let norm = Some(norm);
        return matrix.product(x, Product { norm, ..extra }, run.profile);
    }
    let normed = norm.map(|norm| norm.all(x, run));
    let x = normed.as_ref().unwrap_or(x);
    let product = matrix.product(x, extra, run.profile);
    match adapted {
        Some(adapted) => adapted.add(x, product, run),
        None => product,
    }
}

/// The residual stream `x` with a product added; where there is a norm, the product is normed before, or
/// the sum after.
fn product_onto(
    x: &Tensor<2>,
    norm: Option<&Norm>,
    matrix: &Matrix,
    own: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    adapted: Option<Adapted<'_>>,
    run: &Run<'_>,
) -> Tensor<2> {
    let onto = run.config.family.norms == NormPlaces::Onto;
    let extra = Product {
        bias,
        residual: (norm.is_none() || onto).then_some(x),
        ..Default::default()
    };
    let mut product = matrix.product(own, extra, run.profile);
    if let Some(adapted) = adapted {
        product = adapted.add(own, product, run);
    }
    match norm {
        None => product,
        Some(norm) if onto => norm.all(&product, run),
        Some(norm) => norm.add(&product, x, run),
    }
}

impl Attention {
    fn forward(
        &self,
        x: &Tensor<2>,
        layer: usize,
        cache: &mut KvCache,
        run: &Run<'_>,
    ) -> Result<Tensor<2>, ModelError> {
        let (config, shape) = (run.config, run.shape);
        let extra = Product {
            bias: self.qkv_bias.as_ref(),
            ..Default::default()
        };
        let adapted = run.adapted(layer, Place::QueryKeyValue);
        let qkv = product_in(self.norm.as_ref(), &self.qkv, x, extra, adapted, run);
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
                angles_at: if config.rotates_locally(kind) {
                    shape.local_angles_at
                } else {
                    shape.angles_at
                },
                norm: self.head_gains.is_some().then_some(HeadNorm {
                    width: config.head_dim,
                    eps: config.norm_eps,
                    whole: config.family.head_norms == HeadNorms::Whole,
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
                cap: config.caps.attention,
                tiles: shape.tiles,
                tiles_at: shape.tiles_at,
                tile_tokens: shape.tile_tokens,
                ends_at: shape.ends_at,
                kv,
                profile: run.profile,
            },
        );
        cache.put(layer, keys, values);
        let (norm, bias) = (self.post_norm.as_ref(), self.out_bias.as_ref());
        let adapted = run.adapted(layer, Place::AttentionOut);
        Ok(product_onto(
            x, norm, &self.out, &attended, bias, adapted, run,
        ))
    }
}

impl FeedForward {
    /// What comes of `x`, added to `residual`.
    fn forward(
        &self,
        x: &Tensor<2>,
        residual: &Tensor<2>,
        layer: usize,
        run: &Run<'_>,
    ) -> Tensor<2> {
        let activation = self.activation.0;
        let adapted = run.adapted(layer, Place::GateUp);
        let after = adapted.is_some() || matches!(self.gate, Gate::After);
        let inside = (!after).then_some(activation);
        let extra = Product {
            bias: self.gate_up_bias.as_ref(),
            gate: inside.filter(|_| matches!(self.gate, Gate::Inside)),
            activation: inside.filter(|_| matches!(self.gate, Gate::None)),
            ..Default::default()
        };
        let norm = self.norm.as_ref();
        let mut own = product_in(norm, &self.gate_up, x, extra, adapted, run);
        if after {
            let gated = !matches!(self.gate, Gate::None);
            let params = GluParams {
                width: self.width,
                offset: gated.then_some(self.gate_up.rows() / 2),
                activation,
                profile: run.profile,
            };
            own = ops::glu(own, params);
        }
        let (norm, bias) = (self.post_norm.as_ref(), self.down_bias.as_ref());
        let adapted = run.adapted(layer, Place::Down);
        product_onto(residual, norm, &self.down, &own, bias, adapted, run)
    }
}

impl Decoder {
    /// The hidden states after the last layer, `[rows][stride]`, of the step's rows, or where there is no
    /// final norm of all its tokens; `None` where it wants no row. Keys and values go to the cache.
    pub(crate) fn hidden(
        &self,
        run: &Run<'_>,
        cache: &mut KvCache,
    ) -> Result<Option<Tensor<2>>, ModelError> {
        let (shape, step, profile) = (run.shape, run.step, run.profile);
        let (tokens, at) = (shape.tokens, shape.tokens_at);
        let mut x = self
            .embedding
            .gather(step, tokens, at, self.scale, None, profile);
        if let Some(positions) = &self.positions {
            let at = shape.positions_at;
            x = positions.gather(step, tokens, at, 1.0, x, profile);
        }
        if let Some(types) = &self.types {
            x = types.gather(step, tokens, shape.types_at, 1.0, x, profile);
        }
        let mut x = x.ok_or_else(|| ModelError::Contradiction {
            what: "the embedding table is empty".into(),
        })?;
        if let Some(norm) = &self.embedding_norm {
            x = norm.all(&x, run);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let attended = layer.attention.forward(&x, index, cache, run)?;
            let input = if run.config.parallel { &x } else { &attended };
            x = match &layer.second {
                Second::Dense(dense) => dense.forward(input, &attended, index, run),
                Second::Experts(experts) => experts.forward(input, &attended, run),
            };
        }
        if shape.rows == 0 {
            return Ok(None);
        }
        Ok(Some(match &self.norm {
            Some(norm) => norm.rows(&x, shape.rows, shape.rows_at, run),
            None => x,
        }))
    }

    /// The logits of hidden states.
    pub(crate) fn logits(
        &self,
        config: &DecoderConfig,
        hidden: &Tensor<2>,
        profile: Profile,
    ) -> Tensor<2> {
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        let extra = Product {
            cap: config.caps.logits,
            ..Default::default()
        };
        head.product(hidden, extra, profile)
    }

    /// The matrices that every token is multiplied with, and the gate inside the product where there is one.
    /// Experts are not among them.
    pub(crate) fn products(&self) -> impl Iterator<Item = (&Matrix, Option<Activation>)> {
        let layers = self.layers.iter().flat_map(|layer| {
            let second = match &layer.second {
                Second::Dense(own) => {
                    let gate = matches!(own.gate, Gate::Inside).then_some(own.activation.0);
                    [Some((&own.gate_up, gate)), Some((&own.down, None))]
                }
                Second::Experts(_) => [None, None],
            };
            let attention = [&layer.attention.qkv, &layer.attention.out].map(|own| (own, None));
            attention.into_iter().chain(second.into_iter().flatten())
        });
        // An encoder has neither norm nor head.
        let tied = self.norm.is_some().then_some(&self.embedding);
        layers.chain(self.head.as_ref().or(tied).map(|head| (head, None)))
    }

    /// Products that stand for those of a step in a test of the device. In most families their kernels are the
    /// step's too, and cost no shader of their own: not where products have biases, or the head a soft cap.
    pub(crate) fn tested(&self, norms: NormPlaces) -> Vec<check::Product> {
        let mut products = Vec::new();
        let mut add = |matrix: &Matrix, residual: bool, tokens: usize| {
            for layout in matrix.layouts() {
                let product = check::Product {
                    layout,
                    residual,
                    tokens,
                };
                if !products.contains(&product) {
                    products.push(product);
                }
            }
        };
        let residual = matches!(norms, NormPlaces::Before | NormPlaces::Onto);
        for layer in &self.layers {
            add(&layer.attention.out, residual, 1);
            add(&layer.attention.out, residual, 32);
        }
        if self.norm.is_some() {
            add(self.head.as_ref().unwrap_or(&self.embedding), false, 1);
        }
        products
    }

    /// Every matrix, for sizes and layouts.
    pub fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        self.layers
            .iter()
            .flat_map(|l| {
                let [router, gate_up, down] = match &l.second {
                    Second::Dense(own) => [None, Some(&own.gate_up), Some(&own.down)],
                    Second::Experts(own) => {
                        [Some(&own.router), Some(&own.gate_up), Some(&own.down)]
                    }
                };
                let attention = [Some(&l.attention.qkv), Some(&l.attention.out)];
                attention.into_iter().chain([router, gate_up, down])
            })
            .flatten()
            .chain(std::iter::once(&self.embedding))
            .chain(&self.positions)
            .chain(&self.types)
            .chain(&self.head)
    }
}
