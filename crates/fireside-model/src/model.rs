//! A model on its device: runs steps.

use std::sync::Arc;

use burn::tensor::{Int, Tensor};
use fireside_kernels::check::self_test;
use fireside_kernels::counters;
use fireside_kernels::device::{ComputeDevice, read_floats, read_words};
use fireside_kernels::ops;
use fireside_kernels::params::{AdjustParams, KvDtype, SelectParams};
use fireside_kernels::record::Recording;
use fireside_kernels::selection::Selection;
use web_time::Instant;

use crate::ahead::Ahead;
use crate::cache::KvCache;
use crate::config::DecoderConfig;
use crate::decoder::{Decoder, Run};
use crate::error::ModelError;
use crate::lora::{Lora, Loras};
use crate::plan::{Plan, Shape};
use crate::recordings::Key;
use crate::step::{Selected, Step};

/// A decoder with its weights on a device.
#[derive(Debug)]
pub struct Model {
    config: DecoderConfig,
    decoder: Decoder,
    device: ComputeDevice,
    loras: Loras,
}

impl Model {
    pub(crate) fn new(config: DecoderConfig, decoder: Decoder, device: ComputeDevice) -> Self {
        Self {
            config,
            decoder,
            device,
            loras: Loras::default(),
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

    /// Makes these the LoRA adapters that chunks may name, by their place; those of before are forgotten.
    /// An adapter must have been read for this model.
    ///
    /// # Errors
    ///
    /// The device cannot hold them, and those of before stay.
    pub fn set_loras(&mut self, loras: &[Arc<Lora>]) -> Result<(), ModelError> {
        self.loras = Loras::upload(loras, self.loras.version + 1, &self.device)?;
        Ok(())
    }

    /// Bytes of LoRA adapters on the device.
    pub fn lora_bytes(&self) -> u64 {
        self.loras.bytes()
    }

    /// Sees that the device computes what it should, with products such as those of this model's layers.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Wrong`](fireside_kernels::device::DeviceError::Wrong) where it does not, or its failure.
    pub async fn self_test(&self) -> Result<(), ModelError> {
        let products = self.decoder.tested(self.config.family.norms);
        Ok(self_test(&self.device, &products).await?)
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
    /// are adjusted, selected from and, where asked, read whole. A step has run when its result comes,
    /// one without wanted rows too; what likely comes next, [`Step::next`], may be under way then.
    ///
    /// # Errors
    ///
    /// A step that does not fit model and cache, or a failing device.
    pub async fn step(
        &self,
        cache: &mut KvCache,
        step: &Step,
    ) -> Result<Vec<Selected>, ModelError> {
        if self.config.family.encoder {
            return Err(ModelError::Step {
                what: "an encoder has hidden states, no logits".into(),
            });
        }
        let ahead = cache.ahead.take();
        let began = Instant::now();
        let plan = self.plan(step, cache)?;
        let laid_out = began.elapsed();
        if plan.shape.tokens == 0 {
            return Ok(Vec::new());
        }
        if let Some((key, recording)) = self.recording(cache, &plan).await? {
            let began = Instant::now();
            let running = match ahead.and_then(|ahead| ahead.into_run_of(&key, &plan)) {
                Some(running) => running,
                None => {
                    counters::uploaded(plan.words.len() * 4);
                    recording.start(&plan.words, None)?
                }
            };
            cache.ahead = self.start_ahead(cache, step, key, &recording)?;
            counters::host(laid_out + began.elapsed());
            let found = recording.results(running).await?;
            if let Some(ahead) = &mut cache.ahead {
                let rows = found.chunks_exact(recording.kept().stride);
                ahead.tell(rows.filter_map(|row| row.first().copied()));
            }
            return self.selected(step, recording.kept(), &found).await;
        }
        counters::uploaded(plan.words.len() * 4);
        let launched = self.device.launch(|| {
            let words = self.device.words(plan.words.clone())?;
            self.launch(&plan.shape, &words, cache)
        })??;
        let Some((found, launched)) = launched else {
            // Nothing of it is read; but the steps of a long prompt must not run ahead of the device, where
            // nobody could join or leave between them. A word that is written after it comes after it.
            read_words(self.device.words(vec![0])?).await?;
            return Ok(Vec::new());
        };
        let found = read_words(found).await?;
        self.selected(step, &launched, &found).await
    }

    /// Runs a step for the hidden states of its wanted rows after the last layer (and its final norm, where there
    /// is one), `hidden` values each; what their selections ask for is not looked at.
    ///
    /// # Errors
    ///
    /// A step that does not fit model and cache, or a failing device.
    pub async fn hidden(
        &self,
        cache: &mut KvCache,
        step: &Step,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        cache.ahead = None;
        let plan = self.plan(step, cache)?;
        if plan.shape.tokens == 0 {
            return Ok(Vec::new());
        }
        counters::uploaded(plan.words.len() * 4);
        let hidden = self.device.launch(|| {
            let words = self.device.words(plan.words.clone())?;
            self.hidden_states(&plan.shape, &words, cache)
        })??;
        let Some(hidden) = hidden else {
            // See [`Self::step`].
            read_words(self.device.words(vec![0])?).await?;
            return Ok(Vec::new());
        };
        let [_, stride] = hidden.dims();
        let mut values = read_floats(hidden).await?;
        // The final norm has the divisor of logits in its gain.
        let divisor = self.config.scales.logits;
        if divisor != 1.0 {
            values.iter_mut().for_each(|value| *value *= divisor);
        }
        let row = |row: usize| values[row * stride..][..self.config.hidden].to_vec();
        if self.config.family.encoder {
            let wanted = &plan.words[plan.shape.rows_at..][..plan.shape.rows];
            return Ok(wanted.iter().map(|at| row(*at as usize)).collect());
        }
        Ok((0..plan.shape.rows).map(row).collect())
    }

    pub(crate) fn plan(&self, step: &Step, cache: &KvCache) -> Result<Plan, ModelError> {
        let (blocks, loras) = (cache.blocks(), self.loras.count);
        Plan::new(step, &self.config, blocks, loras, self.device.profile())
    }

    /// Starts what likely comes after a step, where that takes the same recording.
    fn start_ahead(
        &self,
        cache: &KvCache,
        step: &Step,
        key: Key,
        recording: &Arc<Recording<Launched>>,
    ) -> Result<Option<Ahead>, ModelError> {
        let Some(next) = &step.next else {
            return Ok(None);
        };
        // Logits that are read whole are read after the results, and must be there still.
        let mut rows = step.chunks.iter().flat_map(|chunk| &chunk.rows);
        if rows.any(|(_, row)| row.logits) {
            return Ok(None);
        }
        // One that cannot be run is refused when it is asked for.
        match self.plan(next, cache) {
            Ok(plan) if Key::of(&plan, self.loras.version) == Some(key) => {
                Ahead::start(recording, key, plan)
            }
            _ => Ok(None),
        }
    }

    pub(crate) fn hidden_states(
        &self,
        shape: &Shape,
        words: &Tensor<1, Int>,
        cache: &mut KvCache,
    ) -> Result<Option<Tensor<2>>, ModelError> {
        let run = Run {
            config: &self.config,
            shape,
            step: words,
            profile: self.device.profile(),
            loras: &self.loras,
        };
        self.decoder.hidden(&run, cache)
    }

    /// The recording of a decode step's shape, made where there is none; `None` for other steps
    /// and on the CPU.
    async fn recording(
        &self,
        cache: &mut KvCache,
        plan: &Plan,
    ) -> Result<Option<(Key, Arc<Recording<Launched>>)>, ModelError> {
        let Some(key) = Key::of(plan, self.loras.version) else {
            return Ok(None);
        };
        if let Some(recording) = cache.recordings.get(&key) {
            return Ok(Some((key, recording)));
        }
        let recording = Recording::new(&self.device, key.words(), |words| {
            self.launch(&plan.shape, words, cache)?
                .ok_or_else(|| ModelError::Step {
                    what: "a step without rows has nothing to record".into(),
                })
        });
        let Some(recording) = recording.await?.map(Arc::new) else {
            return Ok(None);
        };
        cache.recordings.keep(key, recording.clone());
        Ok(Some((key, recording)))
    }

    /// The results of a step from the words that were read back.
    async fn selected(
        &self,
        step: &Step,
        launched: &Launched,
        found: &[u32],
    ) -> Result<Vec<Selected>, ModelError> {
        let wants: Vec<bool> = step
            .chunks
            .iter()
            .flat_map(|c| c.rows.iter().map(|(_, s)| s.logits))
            .collect();
        // All rows at once, and few are ever asked for.
        let logits = if wants.contains(&true) {
            read_floats(launched.logits.clone()).await?
        } else {
            Vec::new()
        };
        let [_, stride] = launched.logits.dims();
        let vocab = self.config.vocab;
        let mut selected = Vec::with_capacity(wants.len());
        for (row, (words, want)) in found.chunks_exact(launched.stride).zip(wants).enumerate() {
            let logits = want.then(|| logits[row * stride..][..vocab].to_vec());
            selected.push(Selected {
                selection: Selection::from_words(words),
                logits,
            });
        }
        Ok(selected)
    }

    /// Launches a step's kernels: the tensor of its selections, and what goes with it. `None` where
    /// it wants no row.
    pub(crate) fn launch(
        &self,
        shape: &Shape,
        words: &Tensor<1, Int>,
        cache: &mut KvCache,
    ) -> Result<Option<(Tensor<2, Int>, Launched)>, ModelError> {
        let profile = self.device.profile();
        let hidden = self.hidden_states(shape, words, cache)?;
        let Some(hidden) = hidden else {
            return Ok(None);
        };
        let mut logits = self.decoder.logits(&self.config, &hidden, profile);
        if shape.adjustments > 0 {
            let params = AdjustParams {
                count: shape.adjustments,
                entries_at: shape.adjustments_at,
                profile,
            };
            logits = ops::adjust_logits(logits, words, params);
        }
        let params = SelectParams {
            vocab: self.config.vocab,
            keep: shape.candidates,
            rows_at: shape.settings_at,
            profile,
        };
        let stride = params.out_stride();
        let found = ops::select(&logits, words, params);
        Ok(Some((found, Launched { logits, stride })))
    }
}

/// What a step's kernels will have written besides its selections.
#[derive(Debug)]
pub(crate) struct Launched {
    /// The adjusted logits of the wanted rows.
    logits: Tensor<2>,
    /// Words of one row's [`Selection`].
    pub(crate) stride: usize,
}
