//! From a task and a model's name to a pipeline.

use std::path::PathBuf;

use fireside_engine::{
    CacheSize, Embedder, Engine, EngineConfig, Error as EngineError, GenerationDefaults,
    ModelExecutor, Ranker, check_draft_model,
};
use fireside_hub::{Options, resolve};
use fireside_model::device::{ComputeDevice, DeviceChoice};
use fireside_model::path::OpenModel;
use fireside_model::{Embedding, KvDtype, LoadedModel, ModelError, Quantize};
use fireside_tokenizer::Tokenizer;

use crate::{Error, FeatureExtraction, Pipeline, Reranking, Task, TextGeneration};

/// Loads a model for a task with everything at its default; the tasks are `text-generation`,
/// `feature-extraction` and `text-ranking`.
///
/// # Errors
///
/// An unknown task, and those of [`Loading::load`].
pub async fn pipeline(task: &str, model: &str) -> Result<Pipeline, Error> {
    Loading::new(model).task(task.parse()?).load().await
}

/// How a model is loaded.
#[derive(Debug, Clone)]
pub struct Loading {
    model: String,
    task: Task,
    device: DeviceChoice,
    kv: KvDtype,
    quantize: Option<Quantize>,
    context: Option<usize>,
    cache: CacheSize,
    hub: Option<Options>,
    engine: EngineConfig,
    pub(crate) draft_model: Option<String>,
    loras: Vec<(String, PathBuf)>,
}

impl Loading {
    /// A model by path, known name or hub id.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            task: Task::TextGeneration,
            device: DeviceChoice::Auto,
            kv: KvDtype::F16,
            quantize: None,
            context: None,
            cache: CacheSize::default(),
            hub: None,
            engine: EngineConfig::default(),
            draft_model: None,
            loras: Vec::new(),
        }
    }

    /// What the model is for; `text-generation` by default.
    #[must_use]
    pub fn task(mut self, task: Task) -> Self {
        self.task = task;
        self
    }

    /// The device; the best GPU, else a software adapter, else the CPU by default.
    #[must_use]
    pub fn device(mut self, device: DeviceChoice) -> Self {
        self.device = device;
        self
    }

    /// Element type of the KV cache of a model that generates text, and of one that drafts for it; f16 by default.
    #[must_use]
    pub fn kv_cache_dtype(mut self, kv: KvDtype) -> Self {
        self.kv = kv;
        self
    }

    /// Makes float weights smaller while they are loaded, those of a model that drafts too; by default they stay as
    /// they are. Weights that are quantized in the file are left alone.
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

    /// A LoRA adapter to load with the model, from a folder as PEFT saves it; requests name it. May be called
    /// several times.
    #[must_use]
    pub fn lora(mut self, name: impl Into<String>, folder: impl Into<PathBuf>) -> Self {
        self.loras.push((name.into(), folder.into()));
        self
    }

    /// Without the LoRA adapters that were named, for an owner that has them already.
    #[must_use]
    pub fn without_loras(mut self) -> Self {
        self.loras.clear();
        self
    }

    /// How requests are batched.
    #[must_use]
    pub fn engine(mut self, config: EngineConfig) -> Self {
        self.engine = config;
        self
    }

    /// A smaller model of the same vocabulary, by path, known name or hub id, that drafts tokens for the model to
    /// try: the text stays the same, and comes in fewer steps. It is on the same device, with a KV cache of its own.
    #[must_use]
    pub fn draft_model(mut self, model: Option<String>) -> Self {
        self.draft_model = model;
        self
    }

    /// Fetches the model if need be, opens the device, uploads the weights.
    ///
    /// # Errors
    ///
    /// A model that cannot be found, fetched or read, or that is not for the task, a device that cannot be
    /// opened or is too small, a context the model does not have.
    pub async fn load(self) -> Result<Pipeline, Error> {
        Ok(match self.task {
            Task::TextGeneration => {
                Pipeline::TextGeneration(Box::new(self.text_generation().await?))
            }
            Task::FeatureExtraction => {
                Pipeline::FeatureExtraction(Box::new(self.feature_extraction().await?))
            }
            Task::Reranking => Pipeline::Reranking(Box::new(self.reranking().await?)),
        })
    }

    /// The task that the model is made for; it is fetched if need be, and so is one that is to draft for it.
    ///
    /// # Errors
    ///
    /// A model that cannot be found, fetched or read, or that cannot draft.
    pub fn made_for(&self) -> Result<Task, Error> {
        let open = self.open()?;
        let task = made_for(&open);
        if task == Task::TextGeneration {
            self.open_draft(&open)?;
        }
        Ok(task)
    }

    /// Loads a model that generates text, and the one that is to draft for it.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    pub async fn text_generation(self) -> Result<TextGeneration, Error> {
        let open = self.open()?;
        self.is_for(&open, &[Task::TextGeneration])?;
        let config = &open.description.config;
        let size = CacheSize {
            positions: self.context.or(self.cache.positions),
            ..self.cache
        };
        let positions = size.positions(config, self.kv)?;
        // A draft model that does not fit is told before anything is uploaded.
        let draft = self.open_draft(&open)?;
        let device = ComputeDevice::open(self.device).await?;
        let loaded = upload(open, device.clone(), self.kv, true).await?;
        let text = loaded.text;
        let defaults: GenerationDefaults =
            serde_json::from_value(text.generation_config).map_err(|e| {
                Error::GenerationConfig {
                    reason: e.to_string(),
                }
            })?;
        let executor = ModelExecutor::new(loaded.model, positions, self.kv)?;
        let config = self.engine.clone();
        let mut engine = Engine::new(executor, text.tokenizer, defaults, config)?;
        if let Some((name, draft)) = draft {
            let loaded = self.upload_draft(draft, positions, device).await;
            let (executor, tokenizer) = loaded.map_err(|error| self.no_draft(&name, error))?;
            let set = engine.set_draft_model(executor, &tokenizer);
            set.map_err(|error| self.no_draft(&name, error.into()))?;
        }
        let mut pipeline = TextGeneration::new(engine, text.template);
        pipeline.load_adapters(&self.loras)?;
        Ok(pipeline)
    }

    /// Loads a model that makes embeddings: an encoder, or a decoder, of which sentence-transformers' files say
    /// how (else the last token's hidden state counts, in the length 1).
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    pub async fn feature_extraction(self) -> Result<FeatureExtraction, Error> {
        let open = self.open()?;
        self.is_for(&open, &[Task::FeatureExtraction, Task::TextGeneration])?;
        let device = ComputeDevice::open(self.device).await?;
        let loaded = upload_texts(open, device).await?;
        let embedding = loaded.embedding.unwrap_or_else(Embedding::of_decoder);
        let tokenizer = loaded.text.tokenizer;
        let embedder = Embedder::new(loaded.model, tokenizer, embedding, self.context)?;
        Ok(FeatureExtraction::new(embedder))
    }

    /// Loads a model that scores texts: a cross-encoder.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    pub async fn reranking(self) -> Result<Reranking, Error> {
        let open = self.open()?;
        self.is_for(&open, &[Task::Reranking])?;
        let device = ComputeDevice::open(self.device).await?;
        let loaded = upload_texts(open, device).await?;
        let tokenizer = loaded.text.tokenizer;
        let head = loaded
            .ranking
            .ok_or_else(|| self.wrong_model(Task::TextGeneration, Task::Reranking))?;
        let ranker = Ranker::new(loaded.model, tokenizer, head, self.context)?;
        Ok(Reranking::new(ranker))
    }

    /// Opens the files of the model that drafts, and sees that it can draft for the other one.
    fn open_draft(&self, open: &OpenModel) -> Result<Option<(String, OpenModel)>, Error> {
        let Some(name) = self.draft_model.clone() else {
            return Ok(None);
        };
        let loading = Self {
            model: name.clone(),
            context: None,
            ..self.clone()
        };
        let opened = || {
            let draft = loading.open()?;
            loading.is_for(&draft, &[Task::TextGeneration])?;
            let own = &open.description;
            let tokenizer = &draft.description.text.tokenizer;
            let shares_prefixes = !own.config.depends_on_length();
            check_draft_model(&own.text.tokenizer, shares_prefixes, tokenizer)?;
            Ok(draft)
        };
        let draft = opened().map_err(|error| self.no_draft(&name, error))?;
        Ok(Some((name, draft)))
    }

    /// Uploads the model that drafts, for one whose KV cache has so many positions.
    async fn upload_draft(
        &self,
        open: OpenModel,
        beside: usize,
        device: ComputeDevice,
    ) -> Result<(ModelExecutor, Tokenizer), Error> {
        let config = &open.description.config;
        let positions = self.cache.draft_positions(beside, config, self.kv)?;
        let loaded = upload(open, device, self.kv, true).await?;
        let executor = ModelExecutor::new(loaded.model, positions, self.kv)?;
        Ok((executor, loaded.text.tokenizer))
    }

    /// An error of the model that drafts, with its name.
    fn no_draft(&self, draft: &str, error: Error) -> Error {
        let draft = draft.to_owned();
        match error {
            Error::Engine(EngineError::DraftModel { reason }) => Error::DraftModel {
                draft,
                model: self.model.clone(),
                reason,
            },
            error => Error::DraftLoading {
                draft,
                error: Box::new(error),
            },
        }
    }

    /// Sees that a model is made for one of some tasks, of which the first is the one that is wanted.
    fn is_for(&self, open: &OpenModel, tasks: &[Task]) -> Result<(), Error> {
        let own = made_for(open);
        match tasks {
            [wanted, ..] if !tasks.contains(&own) => Err(self.wrong_model(own, *wanted)),
            _ => Ok(()),
        }
    }

    fn wrong_model(&self, own: Task, wanted: Task) -> Error {
        Error::WrongModel {
            model: self.model.clone(),
            makes: own.makes(),
            task: wanted.name(),
            needs: wanted.makes(),
        }
    }

    /// Opens the model's files, and sees that the context is one that it has.
    fn open(&self) -> Result<OpenModel, Error> {
        let options = self.hub.clone().unwrap_or_else(Options::from_env);
        let files = resolve(&self.model, &options)?;
        let mut open = OpenModel::open(files.path())?;
        open.description.quantize = self.quantize;
        let most = open.description.config.context;
        match self.context.filter(|c| *c == 0 || *c > most) {
            Some(asked) => Err(Error::Context { asked, most }),
            None => Ok(open),
        }
    }
}

/// Uploads a model's weights while the pipelines of its steps are made.
async fn upload(
    open: OpenModel,
    device: ComputeDevice,
    kv: KvDtype,
    generates: bool,
) -> Result<LoadedModel, ModelError> {
    // What is refused here is refused again by the load, or where it is launched.
    let compiling = open.compile(&device, kv, generates);
    let loaded = open.load(device, &mut |_, _| {});
    if let Ok(compiling) = compiling {
        let _ = compiling.done().await;
    }
    loaded
}

/// The same for a model that runs texts by themselves.
async fn upload_texts(open: OpenModel, device: ComputeDevice) -> Result<LoadedModel, ModelError> {
    let kv = Embedder::kv_dtype(&open.description.config);
    upload(open, device, kv, false).await
}

/// What a model's files say that it is made for.
fn made_for(open: &OpenModel) -> Task {
    let description = &open.description;
    match (&description.embedding, &description.ranking) {
        (_, Some(_)) => Task::Reranking,
        (Some(_), None) => Task::FeatureExtraction,
        (None, None) => Task::TextGeneration,
    }
}
