//! Builds a decoder from the tensors of a file, one matrix at a time.

use fireside_formats::TensorSource;
use fireside_kernels::device::ComputeDevice;

use crate::config::DecoderConfig;
use crate::decoder::{Attention, Decoder, FeedForward, Layer, Norm};
use crate::error::ModelError;
use crate::family::{Naming, Part};
use crate::matrix::{Matrix, vector};
use crate::pack::{Packer, RowOrder, RowSource, expect, head_rows};
use burn::tensor::Tensor;
use fireside_kernels::layout::padded;

/// Progress of an upload, in bytes of the file's tensors.
pub type OnProgress<'a> = &'a mut dyn FnMut(u64, u64);

pub(crate) struct Builder<'a> {
    pub(crate) source: &'a dyn TensorSource,
    pub(crate) config: &'a DecoderConfig,
    pub(crate) naming: Naming,
    pub(crate) device: &'a ComputeDevice,
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
                if let Ok(info) = self
                    .source
                    .get(&self.naming.tensor(*part, *layer, "weight"))
                {
                    done += info.byte_len();
                }
            }
            progress(done.min(total), total);
            Ok(())
        };
        let table = self.plain(Part::Embedding, 0, config.vocab, config.hidden)?;
        let embedding = self.matrix(&[table], config.hidden, None)?;
        advance(&[(Part::Embedding, 0)])?;
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            layers.push(Layer::new(
                self.attention(layer)?,
                self.feed_forward(layer)?,
            ));
            advance(&[
                (Part::Query, layer),
                (Part::Key, layer),
                (Part::Value, layer),
                (Part::AttentionOut, layer),
                (Part::Gate, layer),
                (Part::Up, layer),
                (Part::Down, layer),
            ])?;
        }
        let norm = self.norm(Part::FinalNorm, 0)?;
        let head = if config.tied {
            None
        } else {
            let rows = self.plain(Part::Head, 0, config.vocab, config.hidden)?;
            Some(self.matrix(&[rows], config.hidden, None)?)
        };
        advance(&[(Part::Head, 0)])?;
        progress(total, total);
        Ok(Decoder::new(embedding, layers, norm, head))
    }

    fn attention(&self, layer: usize) -> Result<Attention, ModelError> {
        let config = self.config;
        let (dim, stored) = (config.head_dim, config.stored_head_dim());
        // The kernels rotate neighbouring pairs; other files pair the halves of a head.
        let pair = !(self.naming == Naming::Gguf && config.family.gguf_pairs_neighbours);
        let heads = |part, heads, pair| -> Result<RowSource, ModelError> {
            let mut rows = self.plain(part, layer, heads * dim, config.hidden)?;
            rows.order = head_rows(heads, dim, config.rope.rotary, pair);
            Ok(rows)
        };
        let sources = [
            heads(Part::Query, config.heads, pair)?,
            heads(Part::Key, config.kv_heads, pair)?,
            heads(Part::Value, config.kv_heads, false)?,
        ];
        let qkv = self.matrix(&sources, config.hidden, None)?;
        let qkv_bias = self.biases(
            layer,
            &[
                (Part::Query, &sources[0].order),
                (Part::Key, &sources[1].order),
                (Part::Value, &sources[2].order),
            ],
        )?;
        // Padded heads widen the columns of the output projection.
        let columns: Option<Vec<Option<usize>>> = (stored != dim).then(|| {
            (0..config.heads * stored)
                .map(|c| (c % stored < dim).then_some(c / stored * dim + c % stored))
                .collect()
        });
        let out = self.plain(Part::AttentionOut, layer, config.hidden, config.heads * dim)?;
        let out = self.matrix(&[out], config.heads * dim, columns.as_deref())?;
        let out_bias = self.biases(layer, &[(Part::AttentionOut, &RowOrder::Plain)])?;
        let norm = self.norm(Part::AttentionNorm, layer)?;
        Ok(Attention::new(norm, qkv, qkv_bias, out, out_bias))
    }

    fn feed_forward(&self, layer: usize) -> Result<FeedForward, ModelError> {
        let config = self.config;
        let width = config.intermediate;
        let half = |part| -> Result<RowSource, ModelError> {
            let mut rows = self.plain(part, layer, width, config.hidden)?;
            if padded(width) != width {
                let all = (0..padded(width)).map(|row| (row < width).then_some(row));
                rows.order = RowOrder::Chosen(all.collect());
            }
            Ok(rows)
        };
        let sources = [half(Part::Gate)?, half(Part::Up)?];
        let bias = self.biases(
            layer,
            &[
                (Part::Gate, &sources[0].order),
                (Part::Up, &sources[1].order),
            ],
        )?;
        let packer = self.packer(&sources, config.hidden, None);
        let gated = if bias.is_none() {
            Matrix::load(&packer, self.device, true)?
        } else {
            None
        };
        let fused = gated.is_some();
        let gate_up = match gated {
            Some(matrix) => matrix,
            None => self.matrix(&sources, config.hidden, None)?,
        };
        let down = self.plain(Part::Down, layer, config.hidden, width)?;
        Ok(FeedForward::new(
            self.norm(Part::FeedForwardNorm, layer)?,
            gate_up,
            bias,
            self.matrix(&[down], width, None)?,
            self.biases(layer, &[(Part::Down, &RowOrder::Plain)])?,
            width,
            config.activation,
            fused,
        ))
    }

    /// The rows of a weight as they are, its shape checked.
    fn plain(
        &self,
        part: Part,
        layer: usize,
        rows: usize,
        columns: usize,
    ) -> Result<RowSource, ModelError> {
        let name = self.naming.tensor(part, layer, "weight");
        expect(self.source.get(&name)?, &[rows, columns])?;
        Ok(RowSource::plain(name))
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

    fn norm(&self, part: Part, layer: usize) -> Result<Norm, ModelError> {
        let width = self.config.hidden;
        let name = self.naming.tensor(part, layer, "weight");
        expect(self.source.get(&name)?, &[width])?;
        let gain = self.source.read_f32(&name)?;
        Ok(Norm::new(
            vector(&gain, self.device)?,
            width,
            self.config.norm_eps,
        ))
    }

    /// The biases of parts, concatenated in the rows' order; `None` where the file has none.
    fn biases(
        &self,
        layer: usize,
        parts: &[(Part, &RowOrder)],
    ) -> Result<Option<Tensor<1>>, ModelError> {
        let name = |part| self.naming.tensor(part, layer, "bias");
        if !parts
            .iter()
            .any(|(part, _)| self.source.contains(&name(*part)))
        {
            return Ok(None);
        }
        let mut all = Vec::new();
        for (part, order) in parts {
            let rows = self
                .source
                .get(&self.naming.tensor(*part, layer, "weight"))?
                .shape[0];
            let own = if self.source.contains(&name(*part)) {
                expect(self.source.get(&name(*part))?, &[rows])?;
                self.source.read_f32(&name(*part))?
            } else {
                vec![0.0; rows]
            };
            match order {
                RowOrder::Plain => all.extend(own),
                RowOrder::Chosen(rows) => {
                    all.extend(rows.iter().map(|row| row.map_or(0.0, |r| own[r])));
                }
            }
        }
        Ok(Some(vector(&all, self.device)?))
    }
}
