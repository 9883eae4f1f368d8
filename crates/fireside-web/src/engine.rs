//! The engine for JavaScript: load a model, submit requests as JSON, step, get chunks as JSON.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use fireside_engine::{
    CacheSize, EmbedEngine, EmbedTokens, Embedder, Engine, EngineConfig, EngineStats,
    Error as EngineError, GenerationDefaults, ModelExecutor, Ranker, Request, RequestId,
};
use fireside_formats::WeightFile;
use fireside_kernels::counters::Counters;
use fireside_model::embedding::EmbeddingFiles;
use fireside_model::load::{
    Description, FolderFiles, LoadedModel, describe_folder, describe_gguf, load,
};
use fireside_model::{BLOCK, KvCache, ModelError, Naming};
use fireside_openai::{ApiError, ChatRequest, CompletionRequest, ErrorKind, Reply, ReplyKind};
use fireside_tokenizer::{ChatTemplate, Tokenizer};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use crate::failure::{api_failure, failure, model_failure};
use crate::loras::Loras;
use crate::prepare::{LoadOptions, OwnDevice, Prepared};
use crate::source::{ByteReader, PageSource};
use crate::texts::{Asked, Texts};

/// Positions of the KV cache where the page asks for no context, if the model has as many.
const DEFAULT_CONTEXT: usize = 4096;

/// The files of a model under their names.
fn named(
    names: Vec<String>,
    sources: Vec<ByteReader>,
) -> Result<impl Iterator<Item = (String, PageSource)>, JsValue> {
    let (names_given, given) = (names.len(), sources.len());
    if names_given != given {
        let message = format!("{names_given} names for {given} files");
        return Err(failure("server_error", message, None));
    }
    Ok(names.into_iter().zip(sources.into_iter().map(PageSource)))
}

/// What runs requests, by what the model makes.
pub(crate) enum Core {
    /// Text.
    Generate(Box<Engine<ModelExecutor>>),
    /// Embeddings, or scores of texts.
    Embed(Box<EmbedEngine>),
}

impl Core {
    /// What runs texts by themselves, and what is told of it.
    fn embed(embedder: Embedder, info: &mut Value) -> Self {
        info["contextSize"] = embedder.texts().limits().max_tokens.into();
        info["cacheBytes"] = embedder.cache_bytes().into();
        Self::Embed(Box::new(EmbedEngine::new(embedder)))
    }

    fn has_work(&self) -> bool {
        match self {
            Self::Generate(engine) => engine.has_work(),
            Self::Embed(engine) => engine.has_work(),
        }
    }

    fn stats(&self) -> EngineStats {
        match self {
            Self::Generate(engine) => engine.stats(),
            Self::Embed(engine) => EngineStats {
                steps: engine.steps(),
                waiting: engine.waiting(),
                ..EngineStats::default()
            },
        }
    }

    fn clear_cache(&mut self) {
        match self {
            Self::Generate(engine) => engine.clear_prefix_cache(),
            Self::Embed(_) => {}
        }
    }
}

/// A device with a model on it, and the requests it works on. Freeing it gives all of the adapter's
/// memory back.
#[wasm_bindgen]
pub struct WebEngine {
    /// Taken out while a step runs.
    pub(crate) engine: Rc<RefCell<Option<Core>>>,
    mail: Rc<RefCell<Mail>>,
    /// The engine's counts as of its last step.
    stats: Cell<EngineStats>,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    /// Where the model generates nothing.
    texts: Option<Texts>,
    pub(crate) loras: Loras,
    pub(crate) model: String,
    info: Value,
    /// Last, so that nothing is left that uses it.
    _device: OwnDevice,
}

/// What came in while a step ran, and who waits for what.
#[derive(Default)]
struct Mail {
    next: u32,
    submitted: Vec<(u32, Vec<Request>)>,
    /// The tokens of texts that are to run by themselves.
    texts: Vec<(u32, Vec<EmbedTokens>)>,
    cancelled: Vec<u32>,
    /// Forget what the KV cache holds of ended requests.
    clear: bool,
    replies: BTreeMap<u32, Open>,
    /// Which request, and which of its choices come first, an engine's request belongs to.
    owners: BTreeMap<RequestId, (u32, usize)>,
    /// Requests whose texts run by themselves.
    asked: BTreeMap<u32, Asked>,
}

struct Open {
    reply: Reply,
    stream: bool,
    /// Choices per engine request.
    each: usize,
}

#[wasm_bindgen]
impl WebEngine {
    /// Opens the adapter and loads a GGUF file onto it, or the parts of a split one in any order.
    /// `options` is JSON: the model's `name`, `adapter` (what the page knows of the adapter), `power`
    /// (`high-performance` or `low-power`), `context` (positions of the KV cache, 0 for the default), and
    /// `kvCacheType` (`f16` or `q8`). `on_progress` is called with the bytes uploaded and all bytes. `prepared` is
    /// what was prepared for this load by the first bytes of the file; without it that is done now.
    ///
    /// # Errors
    ///
    /// An error object whose `code` is `no_adapter`, `adapter_refused`, `adapter_wrong`, `bad_model`
    /// or `bad_option`.
    #[wasm_bindgen(js_name = loadGguf)]
    pub async fn load_gguf(
        options: &str,
        names: Vec<String>,
        sources: Vec<ByteReader>,
        on_progress: &js_sys::Function,
        prepared: Option<Prepared>,
    ) -> Result<WebEngine, JsValue> {
        console_error_panic_hook::set_once();
        let bad = |error: &dyn ToString| failure("bad_model", error.to_string(), None);
        let options = LoadOptions::from_json(options)?;
        let parts = named(names, sources)?;
        let file = WeightFile::from_gguf_parts(parts).map_err(|e| bad(&e))?;
        let description = describe_gguf(&file).map_err(|e| bad(&e))?;
        let prepared = match prepared {
            Some(prepared) => prepared,
            None => Prepared::of(&options, &description, &file, Naming::Gguf).await?,
        };
        Self::start(
            options,
            description,
            &file,
            Naming::Gguf,
            on_progress,
            prepared,
        )
        .await
    }

    /// As [`loadGguf`](Self::load_gguf) for a model in safetensors: `names` and `sources` are its
    /// shards, `files` an object with the texts of `config.json`, `tokenizer.json` and, where they
    /// are, `tokenizer_config.json`, `generation_config.json`, `chat_template.jinja`.
    ///
    /// # Errors
    ///
    /// See [`loadGguf`](Self::load_gguf).
    #[wasm_bindgen(js_name = loadSafetensors)]
    pub async fn load_safetensors(
        options: &str,
        names: Vec<String>,
        sources: Vec<ByteReader>,
        files: &str,
        on_progress: &js_sys::Function,
    ) -> Result<WebEngine, JsValue> {
        console_error_panic_hook::set_once();
        let bad = |error: &dyn ToString| failure("bad_model", error.to_string(), None);
        let options = LoadOptions::from_json(options)?;
        let texts: Value = serde_json::from_str(files).map_err(|e| bad(&e))?;
        let text = |file: &str| texts[file].as_str().map(str::to_owned);
        let bytes = |file: &str| text(file).map(String::into_bytes);
        let need = |file: &str| bytes(file).ok_or_else(|| bad(&format!("{file} is missing")));
        let description = describe_folder(&FolderFiles {
            config: need("config.json")?,
            tokenizer: need("tokenizer.json")?,
            tokenizer_config: bytes("tokenizer_config.json"),
            generation_config: bytes("generation_config.json"),
            chat_template: text("chat_template.jinja"),
            embedding: EmbeddingFiles::read(bytes),
        })
        .map_err(|e| bad(&e))?;
        let shards = named(names, sources)?;
        let file = WeightFile::from_safetensors(shards).map_err(|e| bad(&e))?;
        let naming = Naming::HuggingFace;
        let prepared = Prepared::of(&options, &description, &file, naming).await?;
        Self::start(options, description, &file, naming, on_progress, prepared).await
    }

    async fn start(
        options: LoadOptions,
        description: Description,
        file: &WeightFile<PageSource>,
        naming: Naming,
        on_progress: &js_sys::Function,
        prepared: Prepared,
    ) -> Result<WebEngine, JsValue> {
        let LoadOptions {
            name, context, kv, ..
        } = options;
        let Prepared { compiling, device } = prepared;
        let bad = |error: &dyn ToString| failure("bad_model", error.to_string(), None);
        let config = description.config.clone();
        if context > config.context {
            let most = config.context;
            return Err(failure(
                "bad_option",
                format!("contextSize is {context}; the model has {most} positions"),
                Some("contextSize"),
            ));
        }
        let asked = Some(context).filter(|asked| *asked > 0);
        let size = CacheSize {
            positions: asked,
            context: DEFAULT_CONTEXT,
            ..CacheSize::default()
        };
        let positions = size
            .positions(&config, kv)
            .map_err(|error| failure("bad_option", error, Some("contextSize")))?;
        let report = device.0.adapter().cloned();
        let mut progress = |done: u64, total: u64| {
            let (done, total) = ((done as f64).into(), (total as f64).into());
            // A listener that throws does not stop the upload.
            let _ = on_progress.call2(&JsValue::NULL, &done, &total);
        };
        let LoadedModel {
            model,
            text,
            embedding,
            ranking,
        } = load(description, file, naming, device.0.clone(), &mut progress)
            .map_err(|error| model_failure(&error))?;
        if let Some(compiling) = compiling {
            let compiled = compiling.done().await.map_err(ModelError::from);
            compiled.map_err(|error| model_failure(&error))?;
        }
        let tested = model.self_test().await;
        tested.map_err(|error| model_failure(&error))?;
        let mut info = json!({
            "model": name,
            "task": match (&embedding, &ranking) {
                (_, Some(_)) => "text-ranking",
                (Some(_), None) => "feature-extraction",
                (None, None) => "text-generation",
            },
            "architecture": config.family.name,
            "context": config.context,
            "contextSize": positions,
            "weightBytes": model.weight_bytes(),
            "cacheBytes": KvCache::block_bytes(&config, kv) * positions.div_ceil(BLOCK) as u64,
            "adapter": report.as_ref().map(|r| r.name.clone()),
            "software": report.as_ref().is_some_and(|r| r.software),
        });
        let tokenizer = text.tokenizer;
        let context = Some(asked.unwrap_or(DEFAULT_CONTEXT));
        let (core, texts) = match (ranking, embedding) {
            (Some(head), _) => {
                let ranker = Ranker::new(model, tokenizer.clone(), head, context)
                    .map_err(|error| model_failure(&error))?;
                let (embedder, texts) = ranker.into_parts();
                (Core::embed(embedder, &mut info), Some(Texts::Rank(texts)))
            }
            (None, Some(embedding)) => {
                let embedder = Embedder::new(model, tokenizer.clone(), embedding, context)
                    .map_err(|error| model_failure(&error))?;
                let texts = embedder.texts().clone();
                info["dimensions"] = texts.limits().dimensions.into();
                (Core::embed(embedder, &mut info), Some(Texts::Embed(texts)))
            }
            (None, None) => {
                let defaults: GenerationDefaults =
                    serde_json::from_value(text.generation_config).map_err(|e| bad(&e))?;
                let executor = ModelExecutor::new(model, positions, kv)
                    .map_err(|error| model_failure(&error))?;
                info["kvCacheType"] = kv.name().into();
                let config = EngineConfig::default();
                let engine = Engine::new(executor, tokenizer.clone(), defaults, config);
                (Core::Generate(Box::new(engine.map_err(|e| bad(&e))?)), None)
            }
        };
        Ok(WebEngine {
            stats: Cell::new(core.stats()),
            engine: Rc::new(RefCell::new(Some(core))),
            mail: Rc::default(),
            tokenizer,
            template: text.template,
            texts,
            loras: Loras::default(),
            model: name,
            info,
            _device: device,
        })
    }

    /// What is loaded, as JSON.
    pub fn info(&self) -> String {
        self.info.to_string()
    }

    /// Bytes of WASM memory, counters of the kernels, and those of the engine as of its last step, as
    /// JSON.
    pub fn counters(&self) -> String {
        let counters = Counters::now();
        let stats = self.stats.get();
        json!({
            "wasmBytes": core::arch::wasm32::memory_size(0) * 65536,
            "dispatches": counters.dispatches,
            "submits": counters.submits,
            "readBytes": counters.read,
            "uploadedBytes": counters.uploaded,
            "pipelines": counters.pipelines,
            "running": stats.running,
            "waiting": stats.waiting,
            "steps": stats.steps,
            "promptTokens": stats.prefix_queries,
            "cachedTokens": stats.prefix_hits,
            "generatedTokens": stats.generated_tokens,
            "preemptions": stats.preemptions,
            "blocks": stats.total_blocks,
            "usedBlocks": stats.used_blocks,
            "cachedBlocks": stats.cached_blocks,
        })
        .to_string()
    }

    /// Submits a body of `/v1/chat/completions` (`chat`), `/v1/completions` (`completion`),
    /// `/v1/embeddings` (`embeddings`) or `/v1/rerank` (`rerank`) and gives the request's number. `id` and `created` (seconds) go
    /// into its replies.
    ///
    /// # Errors
    ///
    /// An error object that names the field, or says that the model makes something else.
    pub fn submit(&self, kind: &str, body: &str, id: String, created: f64) -> Result<u32, JsValue> {
        let (makes, wants) = (Texts::makes(self.texts.as_ref()), Texts::wants(kind));
        if makes != wants {
            return Err(self.wrong_model(&format!("{makes}, no {wants}")));
        }
        if let Some(texts) = &self.texts {
            return self.submit_texts(texts, body, id);
        }
        let created = created as u64;
        let name = |lora: &Option<String>| lora.clone().unwrap_or_else(|| self.model.clone());
        let (requests, reply, stream) = if kind == "chat" {
            let request = ChatRequest::from_json(body.as_bytes()).map_err(|e| api_failure(&e))?;
            let mut own = request
                .to_engine(&self.tokenizer, self.template.as_ref())
                .map_err(|e| api_failure(&e))?;
            let lora = self.lora(request.model.as_deref())?;
            own.lora = lora.as_deref().map(Arc::from);
            let n = request.params.num_return_sequences.unwrap_or(1);
            let reply = Reply::new(ReplyKind::Chat, id, created, name(&lora), n)
                .with_usage(request.include_usage)
                .with_logprobs(request.params.logprobs.is_some());
            (vec![own], reply, request.stream)
        } else {
            let request =
                CompletionRequest::from_json(body.as_bytes()).map_err(|e| api_failure(&e))?;
            let mut all = request
                .to_engine(&self.tokenizer)
                .map_err(|e| api_failure(&e))?;
            let lora = self.lora(request.model.as_deref())?;
            for own in &mut all {
                own.lora = lora.as_deref().map(Arc::from);
            }
            let reply = request.reply(id, created, name(&lora), &self.tokenizer);
            (all, reply, request.stream)
        };
        if let Some(Core::Generate(engine)) = self.engine.borrow().as_ref() {
            for request in &requests {
                engine.check(request).map_err(|e| api_failure(&e.into()))?;
            }
        }
        let each = requests
            .first()
            .and_then(|r| r.params.num_return_sequences)
            .unwrap_or(1);
        let mut mail = self.mail.borrow_mut();
        let number = mail.next;
        mail.next += 1;
        let open = Open {
            reply: reply.with_extra(true),
            stream,
            each,
        };
        mail.replies.insert(number, open);
        mail.submitted.push((number, requests));
        Ok(number)
    }

    pub(crate) fn wrong_model(&self, makes: &str) -> JsValue {
        let message = format!("the loaded model, {}, makes {makes}", self.model);
        let error = ApiError::new(ErrorKind::InvalidRequest, message);
        api_failure(&error.with_code("wrong_model"))
    }

    fn submit_texts(&self, texts: &Texts, body: &str, id: String) -> Result<u32, JsValue> {
        let (asked, tokens) = texts.read(body, id).map_err(|e| api_failure(&e))?;
        let mut mail = self.mail.borrow_mut();
        let number = mail.next;
        mail.next += 1;
        mail.asked.insert(number, asked);
        mail.texts.push((number, tokens));
        Ok(number)
    }

    /// Ends a request; its blocks are free at the next step.
    pub fn cancel(&self, number: u32) {
        self.mail.borrow_mut().cancelled.push(number);
    }

    /// Forgets what the KV cache holds of ended requests; at the next step if one runs now.
    #[wasm_bindgen(js_name = clearCache)]
    pub fn clear_cache(&self) {
        match self.engine.borrow_mut().as_mut() {
            Some(engine) => {
                engine.clear_cache();
                self.stats.set(engine.stats());
            }
            None => self.mail.borrow_mut().clear = true,
        }
    }

    /// Whether there is anything to step for.
    #[wasm_bindgen(js_name = hasWork)]
    pub fn has_work(&self) -> bool {
        let mail = self.mail.borrow();
        !mail.submitted.is_empty()
            || !mail.texts.is_empty()
            || !mail.cancelled.is_empty()
            || self.engine.borrow().as_ref().is_none_or(Core::has_work)
    }

    /// Runs one step of all requests and gives what came of it, as JSON: a list of
    /// `{request, chunk}`, `{request, done}` with the whole object, and `{request, error}`.
    ///
    /// # Errors
    ///
    /// `busy` while another step runs; `device_lost` or `step_failed` if the device fails, after
    /// which every request is over.
    pub async fn step(&self) -> Result<String, JsValue> {
        let taken = self.engine.borrow_mut().take();
        let Some(mut engine) = taken else {
            return Err(failure("busy", "a step is running", None));
        };
        let mut out = Vec::new();
        let result = match &mut engine {
            Core::Generate(engine) => self.generate(engine, &mut out).await,
            Core::Embed(engine) => self.embed(engine, &mut out).await,
        };
        self.stats.set(engine.stats());
        *self.engine.borrow_mut() = Some(engine);
        result.map_err(|error| {
            // Whoever waits is told by the failure; numbers are never used twice.
            let next = self.mail.borrow().next;
            *self.mail.borrow_mut() = Mail {
                next,
                ..Mail::default()
            };
            let code = match &error {
                EngineError::Executor {
                    source: fireside_engine::ExecutorError::DeviceLost { .. },
                    ..
                } => "device_lost",
                _ => "step_failed",
            };
            failure(code, error, None)
        })?;
        Ok(Value::Array(out).to_string())
    }

    /// A step of a model that generates nothing.
    async fn embed(
        &self,
        engine: &mut EmbedEngine,
        out: &mut Vec<Value>,
    ) -> Result<(), EngineError> {
        self.deliver_texts(engine, out);
        for pooled in engine.step().await? {
            let mut mail = self.mail.borrow_mut();
            let Some((number, _)) = mail.owners.remove(&pooled.request) else {
                continue;
            };
            let (Some(asked), Some(texts)) = (mail.asked.remove(&number), &self.texts) else {
                continue;
            };
            let states = pooled.states.map_err(ApiError::from);
            let reply = states.and_then(|states| texts.reply(asked, &self.model, states));
            out.push(match reply {
                Ok(whole) => json!({ "request": number, "done": whole }),
                Err(error) => json!({ "request": number, "error": error.body()["error"] }),
            });
        }
        Ok(())
    }

    /// Takes in the texts that were submitted, and lets those that were cancelled go.
    fn deliver_texts(&self, engine: &mut EmbedEngine, out: &mut Vec<Value>) {
        let mut mail = self.mail.borrow_mut();
        let mail = &mut *mail;
        for (number, texts) in std::mem::take(&mut mail.texts) {
            match engine.submit(texts) {
                Ok(id) => drop(mail.owners.insert(id, (number, 0))),
                Err(error) => {
                    let error = ApiError::from(error);
                    out.push(json!({ "request": number, "error": error.body()["error"] }));
                    mail.asked.remove(&number);
                }
            }
        }
        for number in std::mem::take(&mut mail.cancelled) {
            mail.owners.retain(|id, (owner, _)| {
                if *owner == number {
                    engine.cancel(*id);
                }
                *owner != number
            });
            if mail.asked.remove(&number).is_some() {
                let message = "the request was cancelled";
                let error = json!({ "message": message, "type": "aborted", "code": "aborted" });
                out.push(json!({ "request": number, "error": error }));
            }
        }
    }

    /// A step of a model that generates.
    async fn generate(
        &self,
        engine: &mut Engine<ModelExecutor>,
        out: &mut Vec<Value>,
    ) -> Result<(), EngineError> {
        self.deliver(engine, out);
        let events = if engine.has_work() {
            engine.step().await?
        } else {
            Vec::new()
        };
        let mut mail = self.mail.borrow_mut();
        let mail = &mut *mail;
        for event in events {
            let Some((number, first)) = mail.owners.get(&event.request()).copied() else {
                continue;
            };
            let Some(open) = mail.replies.get_mut(&number) else {
                continue;
            };
            match open
                .reply
                .push(first + event.index(), &event, &self.tokenizer)
            {
                Ok(chunks) if open.stream => out.extend(
                    chunks
                        .into_iter()
                        .map(|chunk| json!({ "request": number, "chunk": chunk })),
                ),
                Ok(_) => {}
                Err(error) => {
                    out.push(json!({ "request": number, "error": error.body()["error"] }));
                    mail.replies.remove(&number);
                    continue;
                }
            }
            if open.reply.is_done() {
                out.push(json!({ "request": number, "done": open.reply.whole(&self.tokenizer) }));
                mail.replies.remove(&number);
            }
        }
        let replies = &mail.replies;
        mail.owners
            .retain(|_, (number, _)| replies.contains_key(number));
        Ok(())
    }

    /// Takes in what was submitted and cancelled.
    fn deliver(&self, engine: &mut Engine<ModelExecutor>, out: &mut Vec<Value>) {
        let mut mail = self.mail.borrow_mut();
        let mail = &mut *mail;
        if std::mem::take(&mut mail.clear) {
            engine.clear_prefix_cache();
        }
        for (number, requests) in std::mem::take(&mut mail.submitted) {
            // One that is cancelled already is submitted too: its end is told like any other's.
            let each = mail.replies.get(&number).map_or(1, |open| open.each);
            for (index, request) in requests.iter().enumerate() {
                match engine.submit(request) {
                    Ok(id) => {
                        mail.owners.insert(id, (number, index * each));
                    }
                    Err(error) => {
                        let error = ApiError::from(error);
                        out.push(json!({ "request": number, "error": error.body()["error"] }));
                        mail.replies.remove(&number);
                        mail.cancelled.push(number);
                        break;
                    }
                }
            }
        }
        for number in std::mem::take(&mut mail.cancelled) {
            let own: Vec<RequestId> = mail
                .owners
                .iter()
                .filter(|(_, (owner, _))| *owner == number)
                .map(|(id, _)| *id)
                .collect();
            for id in own {
                // What it had so far is told to whoever waits: a whole object, cut short.
                let ended = engine.cancel(id);
                let first = mail.owners.remove(&id).map_or(0, |(_, first)| first);
                if let Some(open) = mail.replies.get_mut(&number) {
                    for finished in ended {
                        let choice = first + finished.index;
                        let event = fireside_engine::Event::Finished(finished);
                        let chunks = open.reply.push(choice, &event, &self.tokenizer);
                        if open.stream {
                            out.extend(
                                chunks
                                    .into_iter()
                                    .flatten()
                                    .map(|chunk| json!({ "request": number, "chunk": chunk })),
                            );
                        }
                    }
                }
            }
            if let Some(open) = mail.replies.remove(&number) {
                out.push(json!({ "request": number, "done": open.reply.whole(&self.tokenizer) }));
            }
        }
    }

    /// The tokens of a text.
    ///
    /// # Errors
    ///
    /// Text that cannot be tokenized.
    pub fn tokenize(&self, text: &str, special: bool) -> Result<Vec<u32>, JsValue> {
        self.tokenizer
            .encode(text, special)
            .map_err(|e| failure("invalid_request_error", e, None))
    }

    /// The text of tokens.
    pub fn detokenize(&self, tokens: &[u32]) -> String {
        self.tokenizer.decode(tokens, false)
    }
}
