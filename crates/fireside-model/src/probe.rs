//! A model's kernels by themselves, to be timed.

use burn::tensor::Tensor;
use fireside_kernels::device::read_words;
use fireside_kernels::layout::padded;
use fireside_kernels::ops;
use fireside_kernels::params::{Activation, AttentionParams, BLOCK, KvDtype};

use crate::error::ModelError;
use crate::matrix::{Matrix, Product};
use crate::model::Model;

/// A matrix, and the gate inside its product.
type Gated<'a> = (&'a Matrix, Option<Activation>);

/// A kernel of a model with its inputs.
pub struct Probe<'a> {
    /// What it does, over what.
    pub name: String,
    /// Bytes of weights, or of keys and values, that a launch reads.
    pub bytes: u64,
    /// Products and sums of a launch: two for each weight and token.
    pub flops: f64,
    model: &'a Model,
    launch: Box<dyn Fn(usize) + Send + Sync + 'a>,
}

impl std::fmt::Debug for Probe<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe")
            .field("name", &self.name)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl<'a> Probe<'a> {
    /// The products of a model's layers and of its head with so many tokens, gated as in a step, without norms
    /// and residuals. Matrices of one shape are one probe and take turns, so that small ones do not come from a
    /// cache that would not hold the model. Experts are left out: what they cost hangs on the choice.
    ///
    /// # Errors
    ///
    /// The results would not fit a binding, or the device's failure.
    pub fn products(model: &'a Model, tokens: usize) -> Result<Vec<Self>, ModelError> {
        let (device, profile) = (model.device(), model.device().profile());
        let mut shapes: Vec<(String, Vec<Gated<'_>>)> = Vec::new();
        for (matrix, gate) in model.decoder().products() {
            let layouts = matrix.layouts().map(|layout| format!("{layout:?}"));
            let layouts = layouts.collect::<Vec<_>>().join(" and ");
            let (rows, columns) = (matrix.rows(), matrix.columns());
            let plural = if tokens == 1 { "" } else { "s" };
            let gated = if gate.is_some() { ", gated" } else { "" };
            let name = format!("{rows} x {columns} {layouts}{gated}, {tokens} token{plural}");
            let needs = (tokens * padded(rows)) as u64 * 4;
            if needs > device.max_binding() {
                return Err(ModelError::AdapterTooSmall {
                    what: format!("a product of {name}"),
                    needs,
                    allows: device.max_binding(),
                });
            }
            match shapes.iter_mut().find(|(own, _)| *own == name) {
                Some((_, matrices)) => matrices.push((matrix, gate)),
                None => shapes.push((name, vec![(matrix, gate)])),
            }
        }
        let mut probes = Vec::new();
        for (name, matrices) in shapes {
            let Some((first, _)) = matrices.first() else {
                continue;
            };
            let stride = padded(first.columns());
            let x = device.floats(vec![0.5; tokens * stride])?;
            let x: Tensor<2> = x.reshape([tokens, stride]);
            probes.push(Self {
                name,
                bytes: first.bytes(),
                flops: 2.0 * (first.rows() * first.columns() * tokens) as f64,
                model,
                launch: Box::new(move |number| {
                    let (matrix, gate) = matrices[number % matrices.len()];
                    let extra = Product {
                        gate,
                        ..Product::default()
                    };
                    matrix.product(&x, extra, profile);
                }),
            });
        }
        Ok(probes)
    }

    /// Attention of one token over so many positions.
    ///
    /// # Errors
    ///
    /// They do not fit the device, or its failure.
    pub fn attention(model: &'a Model, positions: usize, kv: KvDtype) -> Result<Self, ModelError> {
        let (device, config) = (model.device(), model.config());
        let (heads, kv_heads) = (config.heads, config.kv_heads);
        let head_dim = config.stored_head_dim();
        let blocks = positions.div_ceil(BLOCK);
        let words = blocks * kv_heads * kv.head_words(head_dim);
        if words as u64 * 4 > device.max_binding() {
            return Err(ModelError::AdapterTooSmall {
                what: format!("attention over {positions} positions"),
                needs: words as u64 * 4,
                allows: device.max_binding(),
            });
        }
        let keys = device.words(vec![0; words])?;
        let values = device.words(vec![0; words])?;
        // The tile, then the table of its sequence.
        let mut step = vec![0, 1, 4, positions.saturating_sub(1) as u32];
        step.extend(0..blocks as u32);
        let step = device.words(step)?;
        let stride = padded(heads * head_dim);
        let q: Tensor<2> = device.floats(vec![0.5; stride])?.reshape([1, stride]);
        let params = AttentionParams {
            heads,
            kv_heads,
            head_dim,
            scale: 1.0,
            window: 0,
            cap: None,
            tiles: 1,
            tiles_at: 0,
            tile_tokens: 1,
            ends_at: None,
            kv,
            profile: device.profile(),
        };
        Ok(Self {
            name: format!(
                "attention over {positions}, {heads}/{kv_heads} heads of {head_dim}, {}",
                kv.name()
            ),
            bytes: 2 * words as u64 * 4,
            flops: 4.0 * (heads * head_dim * positions) as f64,
            model,
            launch: Box::new(move |_| {
                ops::attention(q.clone(), &keys, &values, &step, params.clone());
            }),
        })
    }

    /// Launches it so many times, and waits for them.
    ///
    /// # Errors
    ///
    /// The device's failure.
    pub async fn run(&self, count: usize) -> Result<(), ModelError> {
        let device = self.model.device();
        device.launch(|| (0..count).for_each(|number| (self.launch)(number)))?;
        // A word that is written after them comes after them.
        read_words(device.words(vec![0])?).await?;
        Ok(())
    }
}
