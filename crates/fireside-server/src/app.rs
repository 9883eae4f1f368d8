//! What every handler has: the settings, the way to the engine, and the gate before it.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use fireside_engine::{DEFAULT_MAX_NEW_TOKENS, EmbedLimits, EmbedTokens, Event, Request};
use fireside_openai::{ApiError, ErrorKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time;

use crate::Options;
use crate::embed_worker::{EmbedJob, Embedded};
use crate::http::error::Names;
use crate::trace::Generation;
use crate::worker::{EmbedFacts, Facts, Job, RankFacts, Shared, Task, Update};

/// The state of the server.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) options: Options,
    pub(crate) shared: Arc<Shared>,
    pub(crate) work: Work,
    /// One for each request that may be under way.
    pub(crate) places: Arc<Semaphore>,
    /// One for each request that may be translated at once, to tokens or from them.
    pub(crate) translations: Arc<Semaphore>,
    /// One for each byte of a body that may be in memory.
    pub(crate) bodies: Arc<Semaphore>,
    /// Changes of LoRA adapters, one at a time.
    pub(crate) lora_turn: Arc<tokio::sync::Mutex<()>>,
    /// When the server started, in seconds since 1970.
    pub(crate) started: u64,
}

/// The way to the thread that owns the device, by what its model makes.
#[derive(Debug)]
pub(crate) enum Work {
    /// Text.
    Generate(mpsc::Sender<Task>),
    /// Embeddings.
    Embed(mpsc::Sender<EmbedJob>),
    /// Scores of texts.
    Rank(mpsc::Sender<EmbedJob>),
}

/// A request's place, and what is told of it.
#[derive(Debug)]
pub(crate) struct Entry {
    permit: OwnedSemaphorePermit,
    id: Arc<str>,
    arrived: Instant,
    trace: Generation,
}

impl App {
    /// What is known of a model that generates.
    ///
    /// # Errors
    ///
    /// The model is not loaded, or makes something else, or the server ends.
    pub(crate) fn facts(&self) -> Result<Arc<Facts>, ApiError> {
        self.tasks()?;
        self.shared.status.open()?;
        let facts = self.shared.facts.read();
        let facts = facts.ok().and_then(|facts| facts.clone());
        facts.ok_or_else(still_loading)
    }

    /// What is known of a model that makes embeddings.
    ///
    /// # Errors
    ///
    /// The model is not loaded, or makes something else, or the server ends.
    pub(crate) fn embeds(&self) -> Result<Arc<EmbedFacts>, ApiError> {
        match &self.work {
            Work::Embed(_) => {}
            Work::Rank(_) => return Err(self.scores_only("embeddings")),
            Work::Generate(_) => {
                let wrong = "text: serve an embedding model for embeddings";
                return Err(self.wrong_model(wrong));
            }
        }
        self.shared.status.open()?;
        let facts = self.shared.embeds.read();
        let facts = facts.ok().and_then(|facts| facts.clone());
        facts.ok_or_else(still_loading)
    }

    /// What is known of a model that scores texts.
    ///
    /// # Errors
    ///
    /// The model is not loaded, or makes something else, or the server ends.
    pub(crate) fn ranks(&self) -> Result<Arc<RankFacts>, ApiError> {
        match &self.work {
            Work::Rank(_) => {}
            Work::Embed(_) => return Err(self.embeddings_only("scores of texts")),
            Work::Generate(_) => {
                let wrong = "text: serve a cross-encoder for scores of texts";
                return Err(self.wrong_model(wrong));
            }
        }
        self.shared.status.open()?;
        let facts = self.shared.ranks.read();
        let facts = facts.ok().and_then(|facts| facts.clone());
        facts.ok_or_else(still_loading)
    }

    /// The sizes of a model that generates nothing, once it is loaded.
    pub(crate) fn text_limits(&self) -> Option<EmbedLimits> {
        let embeds = self.embeds().map(|facts| facts.texts.limits());
        let limits = embeds.or_else(|_| self.ranks().map(|facts| facts.texts.limits()));
        limits.ok()
    }

    /// The way to a model that generates.
    pub(crate) fn tasks(&self) -> Result<&mpsc::Sender<Task>, ApiError> {
        match &self.work {
            Work::Generate(jobs) => Ok(jobs),
            Work::Embed(_) => Err(self.embeddings_only("text")),
            Work::Rank(_) => Err(self.scores_only("text")),
        }
    }

    fn embeddings_only(&self, no: &str) -> ApiError {
        self.wrong_model(&format!("embeddings, no {no}: call /v1/embeddings"))
    }

    fn scores_only(&self, no: &str) -> ApiError {
        self.wrong_model(&format!("scores of texts, no {no}: call /v1/rerank"))
    }

    fn wrong_model(&self, makes: &str) -> ApiError {
        ApiError::new(
            ErrorKind::InvalidRequest,
            format!("the served model, {:?}, makes {makes}", self.options.model),
        )
        .with_code("wrong_model")
    }

    /// Lets a request for a generation in.
    ///
    /// # Errors
    ///
    /// As many as may be are under way, or nothing can be generated now.
    pub(crate) fn admit(&self, id: Arc<str>) -> Result<Entry, ApiError> {
        let permit = Arc::clone(&self.places).try_acquire_owned();
        self.shared.metrics.received();
        self.shared.status.open()?;
        let permit = permit.map_err(|_| {
            self.shared.metrics.rejected("concurrency");
            let most = self.options.max_concurrent_requests;
            ApiError {
                retry_after: Some(self.queue_lasts()),
                ..ApiError::new(
                    ErrorKind::Overloaded,
                    format!("Model is overloaded: {most} requests are under way; try again later"),
                )
                .with_code("overloaded")
            }
        })?;
        let arrived = Instant::now();
        Ok(Entry {
            permit,
            trace: Generation::new(&id, &self.options.model, arrived),
            id,
            arrived,
        })
    }

    /// Seconds that what waits will last at the present pace.
    fn queue_lasts(&self) -> u64 {
        let pace = self.shared.pace.lock();
        let pace = *pace.unwrap_or_else(PoisonError::into_inner);
        pace.lasts(self.shared.metrics.waiting())
    }

    /// Lets a request in that needs no generation, but whose answer may be many times its size.
    ///
    /// # Errors
    ///
    /// As many as may be are under way.
    pub(crate) fn translate(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let place = Arc::clone(&self.translations).try_acquire_owned();
        place.map_err(|_| {
            ApiError::new(
                ErrorKind::Overloaded,
                "too many texts are being tokenized; try again later",
            )
            .with_code("overloaded")
        })
    }

    /// Sees that a client means this model, and gives the LoRA adapter that it means by its name.
    ///
    /// # Errors
    ///
    /// It names another model.
    pub(crate) fn check_model(&self, name: Option<&str>) -> Result<Option<Arc<str>>, ApiError> {
        let named = name.filter(|name| !name.is_empty() && !self.options.serves(name));
        let Some(name) = named else {
            return Ok(None);
        };
        let lora = self.lora(name).ok_or_else(|| ApiError {
            param: Some("model".into()),
            ..ApiError::new(
                ErrorKind::NotFound,
                format!(
                    "model is {:?}; expected {}",
                    name.chars().take(80).collect::<String>(),
                    self.served_names()
                ),
            )
            .with_code("model_not_found")
        })?;
        Ok(Some(lora))
    }

    /// The names that are served, in words.
    pub(crate) fn served_names(&self) -> String {
        let loras = self.loras();
        let model = &self.options.model;
        if loras.is_empty() {
            return format!("{model:?}, the one that is served");
        }
        let names: Vec<String> = loras.iter().map(|own| format!("{:?}", own.name)).collect();
        format!(
            "{model:?} or one of its LoRA adapters, {}",
            names.join(", ")
        )
    }

    /// Most tokens of a prompt and its answer together.
    pub(crate) fn max_total_tokens(&self, facts: &Facts) -> usize {
        let most = self.options.max_total_tokens.unwrap_or(usize::MAX);
        most.min(facts.positions)
    }

    /// Most tokens of a prompt.
    pub(crate) fn max_input_tokens(&self, facts: &Facts) -> usize {
        let most = self.options.max_input_tokens.unwrap_or(usize::MAX);
        most.min(self.max_total_tokens(facts).saturating_sub(1))
    }

    /// Holds requests to the limits. One that asks for `usize::MAX` tokens may fill the context.
    ///
    /// # Errors
    ///
    /// Too many prompts, a prompt that is too long, or too many tokens asked for.
    pub(crate) fn fit(
        &self,
        facts: &Facts,
        names: &Names,
        requests: &mut [Request],
    ) -> Result<(), ApiError> {
        let too_long = |param: &str, message: String| {
            ApiError::invalid(param, message).with_code("context_length_exceeded")
        };
        if requests.len() > self.options.prompts_at_once() {
            return Err(ApiError::invalid(
                names.prompt,
                format!(
                    "{} has {} entries; expected at most {}",
                    names.prompt,
                    requests.len(),
                    self.options.prompts_at_once()
                ),
            ));
        }
        let sequences: usize = requests
            .iter()
            .map(|request| request.params.num_return_sequences.unwrap_or(1))
            .fold(0, usize::saturating_add);
        if sequences > facts.max_waiting {
            return Err(ApiError::invalid(
                names.sequences,
                format!(
                    "{sequences} sequences are asked for; expected at most {}, as many as may wait",
                    facts.max_waiting
                ),
            ));
        }
        let total = self.max_total_tokens(facts);
        let input = self.max_input_tokens(facts);
        for request in requests {
            let prompt = request.prompt.len();
            if prompt > input {
                return Err(too_long(
                    names.prompt,
                    format!("the prompt has {prompt} tokens; expected at most {input}"),
                ));
            }
            let room = total - prompt;
            let asked = &mut request.params.max_new_tokens;
            let most = asked.get_or_insert(DEFAULT_MAX_NEW_TOKENS.min(room));
            if *most == usize::MAX {
                *most = room;
            }
            if *most > room {
                return Err(too_long(
                    names.most,
                    format!(
                        "{} is {most}; expected at most {room}, as the prompt has {prompt} tokens \
                         and the limit of both is {total}",
                        names.most
                    ),
                ));
            }
            if let Some(least) = request.params.min_new_tokens
                && least > *most
            {
                return Err(ApiError::invalid(
                    names.least,
                    format!(
                        "{} is {least}; expected at most {most}, all that may come",
                        names.least
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Hands requests to the engine, and waits until it takes them.
    ///
    /// # Errors
    ///
    /// The engine does not take them.
    pub(crate) async fn submit(
        &self,
        requests: Vec<Request>,
        entry: Entry,
        stream: bool,
    ) -> Result<Answer, ApiError> {
        let (accepted, outcome) = oneshot::channel();
        // A whole answer has at most one update for each of its tokens.
        let tokens = |request: &Request| {
            let n = request.params.num_return_sequences.unwrap_or(1);
            let most = request.params.max_new_tokens.unwrap_or_default();
            most.saturating_add(1).saturating_mul(n)
        };
        let lag = if stream {
            self.options.reader_lag
        } else {
            requests.iter().map(tokens).fold(0, usize::saturating_add)
        };
        // One place more, for the reason why an answer ends early.
        let places = lag.saturating_add(1).min(Semaphore::MAX_PERMITS);
        let (updates, receiver) = mpsc::channel(places);
        let job = Job {
            requests,
            accepted,
            updates,
            permit: entry.permit,
            id: entry.id,
            arrived: entry.arrived,
            trace: entry.trace,
        };
        let ended = || self.shared.status.open().err().unwrap_or_else(engine_ended);
        // There is a place in the channel for every permit.
        let task = Task::Generate(Box::new(job));
        self.tasks()?.try_send(task).map_err(|_| ended())?;
        let deadline = time::Instant::from_std(entry.arrived + self.options.request_timeout);
        match time::timeout_at(deadline, outcome).await {
            Ok(Ok(outcome)) => outcome.map_err(|mut error| {
                self.count_refusal(&error);
                if error.kind == ErrorKind::Overloaded {
                    error.retry_after = Some(self.queue_lasts());
                }
                error
            })?,
            Ok(Err(_)) => return Err(ended()),
            Err(_) => return Err(self.too_slow()),
        }
        Ok(Answer {
            updates: receiver,
            deadline,
            too_slow: self.too_slow(),
        })
    }

    /// Has texts, or pairs of them, run, and waits for their pooled hidden states.
    ///
    /// # Errors
    ///
    /// The embedder has ended, or a step failed, or it took too long.
    pub(crate) async fn embed(
        &self,
        texts: Vec<EmbedTokens>,
        entry: Entry,
    ) -> Result<Embedded, ApiError> {
        let (reply, outcome) = oneshot::channel();
        let job = EmbedJob {
            texts,
            reply,
            permit: entry.permit,
            id: entry.id,
            arrived: entry.arrived,
        };
        let ended = || self.shared.status.open().err().unwrap_or_else(engine_ended);
        let (Work::Embed(jobs) | Work::Rank(jobs)) = &self.work else {
            return Err(self.wrong_model("text"));
        };
        // There is a place in the channel for every permit.
        jobs.try_send(job).map_err(|_| ended())?;
        let deadline = time::Instant::from_std(entry.arrived + self.options.request_timeout);
        match time::timeout_at(deadline, outcome).await {
            Ok(Ok(outcome)) => outcome.map_err(|mut error| {
                if error.kind == ErrorKind::Overloaded {
                    self.shared.metrics.rejected("queue_full");
                    error.retry_after = Some(self.queue_lasts());
                }
                error
            }),
            Ok(Err(_)) => Err(ended()),
            Err(_) => Err(self.too_slow()),
        }
    }

    /// Counts a request that did not come to the engine.
    pub(crate) fn count_refusal(&self, error: &ApiError) {
        match (error.kind, error.code) {
            (ErrorKind::Overloaded, Some("queue_full")) => {
                self.shared.metrics.rejected("queue_full");
            }
            (ErrorKind::InvalidRequest, Some("template_error")) => {
                self.shared.metrics.failed("template");
            }
            (ErrorKind::InvalidRequest, _) => self.shared.metrics.failed("validation"),
            _ => {}
        }
    }

    fn too_slow(&self) -> ApiError {
        ApiError::new(
            ErrorKind::Timeout,
            format!(
                "the request took more than {} s, the server's limit",
                self.options.request_timeout.as_secs_f32()
            ),
        )
        .with_code("timeout")
    }
}

fn still_loading() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "the model is still loading")
}

fn engine_ended() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "the engine has ended").with_code("engine_dead")
}

/// What comes of a request. Dropping it cancels what is still under way.
#[derive(Debug)]
pub(crate) struct Answer {
    updates: mpsc::Receiver<Update>,
    deadline: time::Instant,
    too_slow: ApiError,
}

impl Answer {
    /// The events of the next step that has any.
    ///
    /// # Errors
    ///
    /// The request failed, or took too long.
    pub(crate) async fn next(&mut self) -> Result<Vec<(usize, Event)>, ApiError> {
        match time::timeout_at(self.deadline, self.updates.recv()).await {
            Ok(Some(Update::Events(events))) => Ok(events),
            Ok(Some(Update::Failed(error))) => Err(error),
            Ok(None) => Err(engine_ended()),
            Err(_) => {
                self.updates.close();
                Err(self.too_slow.clone())
            }
        }
    }
}
