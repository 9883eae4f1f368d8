//! From a task and a model's name to a pipeline.

use fireside_engine::{CacheSize, Engine, EngineConfig, GenerationDefaults, ModelExecutor};
use fireside_hub::{Options, resolve};
use fireside_model::device::{ComputeDevice, DeviceChoice};
use fireside_model::path::OpenModel;
use fireside_model::{KvDtype, Quantize};

use crate::{Error, Pipeline};

/// Loads a model for a task with everything at its default; the task is `text-generation`.
///
/// # Errors
///
/// An unknown task, and those of [`Loading::load`].
pub async fn pipeline(task: &str, model: &str) -> Result<Pipeline, Error> {
    if task != "text-generation" {
        return Err(Error::UnknownTask {
            task: task.chars().take(60).collect(),
        });
    }
    Loading::new(model).load().await
}

/// How a model is loaded.
#[derive(Debug, Clone)]
pub struct Loading {
    model: String,
    device: DeviceChoice,
    kv: KvDtype,
    quantize: Option<Quantize>,
    context: Option<usize>,
    cache: CacheSize,
    hub: Option<Options>,
    engine: EngineConfig,
}

impl Loading {
    /// A model by path, known name or hub id.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            device: DeviceChoice::Auto,
            kv: KvDtype::F16,
            quantize: None,
            context: None,
            cache: CacheSize::default(),
            hub: None,
            engine: EngineConfig::default(),
        }
    }

    /// The device; the best GPU, else a software adapter, else the CPU by default.
    #[must_use]
    pub fn device(mut self, device: DeviceChoice) -> Self {
        self.device = device;
        self
    }

    /// Element type of the KV cache; f16 by default.
    #[must_use]
    pub fn kv_cache_dtype(mut self, kv: KvDtype) -> Self {
        self.kv = kv;
        self
    }

    /// Makes float weights smaller while they are loaded; by default they stay as they are. Weights that
    /// are quantized in the file are left alone.
    #[must_use]
    pub fn quantize(mut self, quantize: Option<Quantize>) -> Self {
        self.quantize = quantize;
        self
    }

    /// Positions of the KV cache, for all sequences together. By default the model's context, but
    /// at most 8192 positions and 1 GiB.
    #[must_use]
    pub fn context(mut self, positions: Option<usize>) -> Self {
        self.context = positions;
        self
    }

    /// How large the KV cache is where [`context`](Self::context) does not say it: for one sequence
    /// by default.
    #[must_use]
    pub fn cache(mut self, size: CacheSize) -> Self {
        self.cache = size;
        self
    }

    /// Where models come from; the environment decides by default.
    #[must_use]
    pub fn hub(mut self, options: Options) -> Self {
        self.hub = Some(options);
        self
    }

    /// How requests are batched.
    #[must_use]
    pub fn engine(mut self, config: EngineConfig) -> Self {
        self.engine = config;
        self
    }

    /// Fetches the model if need be, opens the device, uploads the weights.
    ///
    /// # Errors
    ///
    /// A model that cannot be found, fetched or read, a device that cannot be opened or is too
    /// small, a context the model does not have.
    pub async fn load(self) -> Result<Pipeline, Error> {
        let options = self.hub.unwrap_or_else(Options::from_env);
        let files = resolve(&self.model, &options)?;
        let mut open = OpenModel::open(files.path())?;
        open.description.quantize = self.quantize;
        let config = &open.description.config;
        if let Some(asked) = self.context.filter(|c| *c == 0 || *c > config.context) {
            return Err(Error::Context {
                asked,
                most: config.context,
            });
        }
        let size = CacheSize {
            positions: self.context.or(self.cache.positions),
            ..self.cache
        };
        let positions = size.positions(config, self.kv)?;
        let device = ComputeDevice::open(self.device).await?;
        let loaded = open.load(device, &mut |_, _| {})?;
        let text = loaded.text;
        let defaults: GenerationDefaults =
            serde_json::from_value(text.generation_config).map_err(|e| {
                Error::GenerationConfig {
                    reason: e.to_string(),
                }
            })?;
        let executor = ModelExecutor::new(loaded.model, positions, self.kv)?;
        let engine = Engine::new(executor, text.tokenizer, defaults, self.engine)?;
        Ok(Pipeline::new(engine, text.template))
    }
}
