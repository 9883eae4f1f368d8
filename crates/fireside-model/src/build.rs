//! Builds a decoder from the tensors of a file, one matrix at a time.

mod experts;
mod ranking;

use fireside_formats::TensorSource;
use fireside_kernels::device::ComputeDevice;

use crate::config::DecoderConfig;
use crate::decoder::{Attention, Decoder, FeedForward, Function, Gate, Layer, Norm, Second};
use crate::error::ModelError;
use crate::family::{HeadNorms, Naming, NormPlaces, Part};
use crate::matrix::{Matrix, vector};
use crate::pack::{Packer, RowOrder, RowSource, expect, head_rows};
use crate::quantize::Quantize;
use crate::rows::{Piece, attention_columns, gate_up, pairs, query_key_value};
use burn::tensor::Tensor;

/// Progress of an upload, in bytes of the file's tensors.
pub type OnProgress<'a> = &'a mut dyn FnMut(u64, u64);

pub(crate) struct Builder<'a> {
    pub(crate) source: &'a dyn TensorSource,
    pub(crate) config: &'a DecoderConfig,
    pub(crate) naming: Naming,
    pub(crate) device: &'a ComputeDevice,
    pub(crate) quantize: Option<Quantize>,
    /// Matrices are laid out but not packed: the source has none of their bytes.
    pub(crate) hollow: bool,
}

impl Builder<'_> {
    /// Reads, checks, packs and uploads every tensor.
    pub(crate) fn decoder(&self, progress: OnProgress<'_>) -> Result<Decoder, ModelError> {
        let config = self.config;
        let total: u64 = self.source.tensors().iter().map(|t| t.byte_len()).sum();
        let mut done = 0;
        let mut advance = |parts: &[(Part, usize)]| -> Result<(), ModelError> {
            // Uploads wait in host memory until they are handed over.
            self.device.flush()?;
            for (part, layer) in parts {
                for name in self.names(*part, *layer) {
                    done += self.source.get(&name).map_or(0, |info| info.byte_len());
                }
            }
            progress(done.min(total), total);
            Ok(())
        };
        let table = self.plain(Part::Embedding, 0, config.vocab, config.hidden)?;
        let embedding = self.matrix(&[table], config.hidden, None)?;
        let positions = if config.family.learned_positions {
            let table = self.plain(Part::Positions, 0, config.context, config.hidden)?;
            Some(self.matrix(&[table], config.hidden, None)?)
        } else {
            None
        };
        let types = if config.types > 0 {
            let table = self.plain(Part::Types, 0, config.types, config.hidden)?;
            Some(self.matrix(&[table], config.hidden, None)?)
        } else {
            None
        };
        let embedding_norm = if config.family.encoder {
            Some(self.norm(Part::EmbeddingNorm, 0, 1.0, 1.0)?)
        } else {
            None
        };
        advance(&[(Part::Embedding, 0), (Part::Positions, 0), (Part::Types, 0)])?;
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            layers.push(Layer {
                attention: self.attention(layer)?,
                second: match config.experts(layer) {
                    Some(experts) => Second::Experts(self.experts(layer, experts)?),
                    None => Second::Dense(self.feed_forward(layer)?),
                },
            });
            advance(&[
                (Part::Query, layer),
                (Part::Key, layer),
                (Part::Value, layer),
                (Part::QueryKeyValue, layer),
                (Part::AttentionOut, layer),
                (Part::Gate, layer),
                (Part::Up, layer),
                (Part::GateUp, layer),
                (Part::Down, layer),
                (Part::Router, layer),
                (Part::ExpertGate, layer),
                (Part::ExpertUp, layer),
                (Part::ExpertDown, layer),
            ])?;
        }
        let norm = if config.family.encoder {
            None
        } else {
            Some(self.norm(
                Part::FinalNorm,
                0,
                1.0 / config.scales.logits,
                config.scales.residual,
            )?)
        };
        let head = if config.tied || config.family.encoder {
            None
        } else {
            let rows = self.plain(Part::Head, 0, config.vocab, config.hidden)?;
            Some(self.matrix(&[rows], config.hidden, None)?)
        };
        advance(&[(Part::Head, 0)])?;
        progress(total, total);
        // A residual factor is a factor on all that a norm sees: the stream is kept without it, and starts
        // that much larger.
        let scale = config.scales.embedding / config.scales.residual;
        Ok(Decoder {
            embedding,
            positions,
            types,
            embedding_norm,
            layers,
            norm,
            head,
            scale,
        })
    }

    fn attention(&self, layer: usize) -> Result<Attention, ModelError> {
        let config = self.config;
        let dim = config.head_dim;
        let sources = self.rows(&query_key_value(config, self.naming), layer)?;
        let qkv = self.matrix(&sources, config.hidden, None)?;
        let qkv_bias = self.biases(&sources)?;
        let head_gains = self.head_gains(layer, pairs(config, self.naming))?;
        let columns = attention_columns(config);
        let out = self.plain(Part::AttentionOut, layer, config.hidden, config.heads * dim)?;
        let out_bias = self.biases(std::slice::from_ref(&out))?;
        let out = self.matrix(&[out], config.heads * dim, columns.as_deref())?;
        let [norm, post_norm] = self.norms(Part::AttentionNorm, Part::AttentionPostNorm, layer)?;
        Ok(Attention {
            norm,
            qkv,
            qkv_bias,
            out,
            out_bias,
            head_gains,
            post_norm,
        })
    }

    fn feed_forward(&self, layer: usize) -> Result<FeedForward, ModelError> {
        let config = self.config;
        let width = config.intermediate;
        let sources = self.rows(&gate_up(config), layer)?;
        let gate = match config.family.gated {
            true => Gate::Inside,
            false => Gate::None,
        };
        let bias = self.biases(&sources)?;
        let mut inside = None;
        if matches!(gate, Gate::Inside) && bias.is_none() {
            let packer = self.packer(&sources, config.hidden, None);
            inside = Matrix::load(&packer, self.device, true)?;
        }
        let (gate_up, gate) = match (inside, gate) {
            (Some(matrix), _) => (matrix, Gate::Inside),
            (None, gate) => {
                let matrix = self.matrix(&sources, config.hidden, None)?;
                let gated = matches!(gate, Gate::Inside);
                (matrix, if gated { Gate::After } else { Gate::None })
            }
        };
        let down = self.plain(Part::Down, layer, config.hidden, width)?;
        let down_bias = self.biases(std::slice::from_ref(&down))?;
        let [norm, post_norm] = self.feed_forward_norms(layer)?;
        Ok(FeedForward {
            norm,
            gate_up,
            gate_up_bias: bias,
            down: self.matrix(&[down], width, None)?,
            down_bias,
            post_norm,
            width,
            activation: Function(config.activation),
            gate,
        })
    }

    /// The rows of pieces that go into one matrix, each of them `hidden` wide.
    fn rows(&self, pieces: &[Piece], layer: usize) -> Result<Vec<RowSource>, ModelError> {
        let source = |piece: &Piece| {
            let plain = self.plain(piece.part, layer, piece.rows, self.config.hidden)?;
            let order = piece.order.clone();
            Ok(RowSource { order, ..plain })
        };
        pieces.iter().map(source).collect()
    }

    /// The gains of queries and of keys, in the order that their elements are stored in.
    fn head_gains(&self, layer: usize, pair: bool) -> Result<Option<Tensor<1>>, ModelError> {
        let config = self.config;
        let (queries, keys) = match config.family.head_norms {
            HeadNorms::None => return Ok(None),
            HeadNorms::Each => (1, 1),
            HeadNorms::Whole => (config.heads, config.kv_heads),
        };
        let dim = config.head_dim;
        let mut gains = Vec::with_capacity((queries + keys) * config.stored_head_dim());
        for (part, heads) in [(Part::QueryNorm, queries), (Part::KeyNorm, keys)] {
            let own = self.gains(part, layer, heads * dim)?;
            gains.extend(head_rows(heads, dim, config.rope.rotary, pair).pick(&own));
        }
        Ok(Some(vector(&gains, self.device)?))
    }

    /// The name of a part's weight or bias in the file.
    fn name(&self, part: Part, layer: usize, kind: &str) -> String {
        self.there(self.naming.tensors(self.config.family, part, layer, kind))
    }

    /// The one of some names that the file has, or the usual one.
    fn there(&self, mut names: Vec<String>) -> String {
        let there = names.iter().position(|name| self.source.contains(name));
        names.swap_remove(there.unwrap_or(0))
    }

    /// The gains of a norm.
    fn gains(&self, part: Part, layer: usize, width: usize) -> Result<Vec<f32>, ModelError> {
        let mut name = self.name(part, layer, "weight");
        // BERT's first files have a name of their own for a norm's gain, and for its bias.
        if !self.source.contains(&name) && self.source.contains(&self.name(part, layer, "gamma")) {
            name = self.name(part, layer, "gamma");
        }
        expect(self.source.get(&name)?, &[width])?;
        let mut gains = self.source.read_f32(&name)?;
        if self.naming == Naming::HuggingFace && self.config.family.gains_less_one {
            gains.iter_mut().for_each(|gain| *gain += 1.0);
        }
        Ok(gains)
    }

    /// The rows of a weight as they are, its shape checked.
    fn plain(
        &self,
        part: Part,
        layer: usize,
        rows: usize,
        columns: usize,
    ) -> Result<RowSource, ModelError> {
        let tensor = self.name(part, layer, "weight");
        let table = matches!(part, Part::Embedding | Part::Positions | Part::Head);
        let transposed =
            self.config.family.transposed && self.naming == Naming::HuggingFace && !table;
        let shape = if transposed {
            [columns, rows]
        } else {
            [rows, columns]
        };
        expect(self.source.get(&tensor)?, &shape)?;
        Ok(RowSource {
            tensor,
            transposed,
            order: RowOrder::Plain,
            quantize: self.quantize.and_then(|to| to.of(part)),
        })
    }

    fn packer<'s>(
        &'s self,
        sources: &'s [RowSource],
        width: usize,
        columns: Option<&'s [Option<usize>]>,
    ) -> Packer<'s> {
        Packer {
            source: self.source,
            sources,
            width,
            columns,
            hollow: self.hollow,
        }
    }

    fn matrix(
        &self,
        sources: &[RowSource],
        width: usize,
        columns: Option<&[Option<usize>]>,
    ) -> Result<Matrix, ModelError> {
        let matrix = Matrix::load(&self.packer(sources, width, columns), self.device, false)?;
        matrix.ok_or_else(|| ModelError::Contradiction {
            what: "a matrix could not be laid out".into(),
        })
    }

    /// The norms of a sublayer: on what goes into it, and on what comes out of it.
    fn norms(
        &self,
        before: Part,
        after: Part,
        layer: usize,
    ) -> Result<[Option<Norm>; 2], ModelError> {
        let places = self.config.family.norms;
        let norm = |part, residual| self.norm(part, layer, 1.0, residual);
        let first = matches!(places, NormPlaces::Before | NormPlaces::Around);
        let before = first.then(|| norm(before, self.config.scales.residual));
        let after = (places != NormPlaces::Before).then(|| norm(after, 1.0));
        Ok([before.transpose()?, after.transpose()?])
    }

    /// The norms of a feed-forward layer.
    fn feed_forward_norms(&self, layer: usize) -> Result<[Option<Norm>; 2], ModelError> {
        let before = match self.config.family.norms {
            NormPlaces::Before if self.config.parallel && self.config.family.shares_norm => {
                Part::AttentionNorm
            }
            NormPlaces::Before => Part::FeedForwardNorm,
            NormPlaces::Around | NormPlaces::After | NormPlaces::Onto => Part::FeedForwardPreNorm,
        };
        self.norms(before, Part::FeedForwardPostNorm, layer)
    }

    /// A norm of values that are `residual` times too small, whose gain is multiplied by `scale`.
    fn norm(
        &self,
        part: Part,
        layer: usize,
        scale: f32,
        residual: f32,
    ) -> Result<Norm, ModelError> {
        let width = self.config.hidden;
        let mut gain = self.gains(part, layer, width)?;
        gain.iter_mut().for_each(|gain| *gain *= scale);
        let bias = if self.config.family.layer_norms {
            let mut name = self.name(part, layer, "bias");
            if !self.source.contains(&name) && self.source.contains(&self.name(part, layer, "beta"))
            {
                name = self.name(part, layer, "beta");
            }
            expect(self.source.get(&name)?, &[width])?;
            let mut bias = self.source.read_f32(&name)?;
            bias.iter_mut().for_each(|bias| *bias *= scale);
            Some(vector(&bias, self.device)?)
        } else {
            None
        };
        let eps = self.config.norm_eps / (residual * residual);
        Ok(Norm::new(vector(&gain, self.device)?, bias, width, eps))
    }

    /// The biases that belong to rows, in their order; `None` where the file has none.
    fn biases(&self, sources: &[RowSource]) -> Result<Option<Tensor<1>>, ModelError> {
        let name = |source: &RowSource| {
            let stem = source.tensor.strip_suffix("weight");
            format!("{}bias", stem.unwrap_or(&source.tensor))
        };
        if !sources.iter().any(|own| self.source.contains(&name(own))) {
            return Ok(None);
        }
        let mut all = Vec::new();
        for source in sources {
            let rows = source.tensor_rows(self.source.get(&source.tensor)?);
            let name = name(source);
            let own = if self.source.contains(&name) {
                expect(self.source.get(&name)?, &[rows])?;
                self.source.read_f32(&name)?
            } else {
                vec![0.0; rows]
            };
            all.extend(source.order.pick(&own));
        }
        Ok(Some(vector(&all, self.device)?))
    }
}
