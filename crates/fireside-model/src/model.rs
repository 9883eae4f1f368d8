//! A model on its device: runs steps.

use burn::tensor::{Int, Tensor};
use fireside_kernels::counters;
use fireside_kernels::device::{ComputeDevice, read_floats, read_words};
use fireside_kernels::ops;
use fireside_kernels::params::{AdjustParams, KvDtype, SelectParams};
use fireside_kernels::selection::Selection;

use crate::cache::KvCache;
use crate::config::DecoderConfig;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::plan::Plan;
use crate::step::{Selected, Step};

/// A decoder with its weights on a device.
#[derive(Debug)]
pub struct Model {
    config: DecoderConfig,
    decoder: Decoder,
    device: ComputeDevice,
}

impl Model {
    pub(crate) fn new(config: DecoderConfig, decoder: Decoder, device: ComputeDevice) -> Self {
        Self {
            config,
            decoder,
            device,
        }
    }

    /// The model's shape.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The device it runs on.
    pub fn device(&self) -> &ComputeDevice {
        &self.device
    }

    /// The modules.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Bytes of weights on the device.
    pub fn weight_bytes(&self) -> u64 {
        self.decoder
            .matrices()
            .map(crate::matrix::Matrix::bytes)
            .sum()
    }

    /// A cache of `blocks` blocks for this model.
    ///
    /// # Errors
    ///
    /// It does not fit the adapter.
    pub fn cache(&self, blocks: usize, dtype: KvDtype) -> Result<KvCache, ModelError> {
        KvCache::new(&self.config, dtype, blocks, &self.device)
    }

    /// Runs a step: keys and values of its tokens go to the cache, and the wanted rows' logits
    /// are adjusted, selected from and, where asked, read whole. A step without wanted rows
    /// returns once it is enqueued.
    ///
    /// # Errors
    ///
    /// A step that does not fit model and cache, or a failing device.
    pub async fn step(
        &self,
        cache: &mut KvCache,
        step: &Step,
    ) -> Result<Vec<Selected>, ModelError> {
        let plan = Plan::new(step, &self.config, cache.blocks())?;
        if plan.tokens == 0 {
            return Ok(Vec::new());
        }
        counters::uploaded(plan.words.len() * 4);
        let launched = self.device.run(|| self.launch(&plan, cache))??;
        let Some(Launched {
            logits,
            found,
            stride,
        }) = launched
        else {
            return Ok(Vec::new());
        };
        let found = read_words(found).await?;
        let wants: Vec<bool> = step
            .chunks
            .iter()
            .flat_map(|c| c.rows.iter().map(|(_, s)| s.logits))
            .collect();
        let vocab = self.config.vocab;
        let mut selected = Vec::with_capacity(plan.rows);
        for (row, (words, want)) in found.chunks_exact(stride).zip(wants).enumerate() {
            let logits = if want {
                let own = logits.clone().slice([row..row + 1, 0..vocab]);
                Some(read_floats(own).await?)
            } else {
                None
            };
            selected.push(Selected {
                selection: Selection::from_words(words),
                logits,
            });
        }
        Ok(selected)
    }

    /// Launches a step's kernels.
    fn launch(&self, plan: &Plan, cache: &mut KvCache) -> Result<Option<Launched>, ModelError> {
        let profile = self.device.profile();
        let words = self.device.words(plan.words.clone());
        let logits = self
            .decoder
            .logits(&self.config, plan, &words, cache, profile)?;
        let Some(mut logits) = logits else {
            return Ok(None);
        };
        if plan.adjustments > 0 {
            let params = AdjustParams {
                count: plan.adjustments,
                entries_at: plan.adjustments_at,
                profile,
            };
            logits = ops::adjust_logits(logits, &words, params);
        }
        let params = SelectParams {
            vocab: self.config.vocab,
            keep: plan.candidates,
            rows_at: plan.settings_at,
            profile,
        };
        let stride = params.out_stride();
        let found = ops::select(&logits, &words, params);
        Ok(Some(Launched {
            logits,
            found,
            stride,
        }))
    }
}

/// What a step's kernels will have written.
struct Launched {
    /// The adjusted logits of the wanted rows.
    logits: Tensor<2>,
    /// A [`Selection`] of each, `stride` words.
    found: Tensor<2, Int>,
    stride: usize,
}
