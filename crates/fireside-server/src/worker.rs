//! The thread that owns the engine and its device: takes jobs in, steps, hands events out.
//!
//! It never waits for a reader. A step's events of a job are one item in the job's channel; a reader
//! that is so far behind that its channel is full loses its request, so that it cannot hold a slot.
//! A reader that is gone (its end of the channel is dropped) is found before the next step, and its
//! blocks are free in it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use fireside_engine::{EmbedTexts, RankTexts, Request, RequestId};
use fireside_engine::{Engine, EngineStats, Error as EngineError, Event, Executor, ExecutorError};
use fireside_model::{BLOCK, KvDtype};
use fireside_openai::{ApiError, ErrorKind};
use fireside_tokenizer::{ChatTemplate, Tokenizer};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::loras::{self, LoraReader, LoraTask, Served};
use crate::metrics::Metrics;
use crate::pace::Pace;
use crate::status::Status;
use crate::trace::Generation;

/// Losses of the device in a row, without a step between them, after which the engine gives up.
const REBUILDS: usize = 3;

/// How many times as many tokens may wait as the KV cache has positions, where no bound is set: what
/// waits is run in about so many rounds.
const QUEUED_CACHES: usize = 4;

/// What loading gives: an engine, and what front ends need besides.
#[derive(Debug)]
pub struct Loaded<E> {
    /// The engine, with its model on its device. Where its `max_waiting_tokens` has no bound, it gets
    /// one: four times what the KV cache holds.
    pub engine: Engine<E>,
    /// The model's chat template, where it has one.
    pub template: Option<ChatTemplate>,
    /// What the device is, for `/info`.
    pub device: String,
    /// The name of the model that drafts, if the engine has one, for `/info`.
    pub draft_model: Option<String>,
    /// How the KV cache is stored, for `/info`.
    pub kv_cache_dtype: KvDtype,
    /// Reads LoRA adapters that clients ask for; without it they cannot.
    pub lora_reader: Option<LoraReader>,
}

/// What handlers know of the engine.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: Option<ChatTemplate>,
    pub(crate) device: String,
    /// Most tokens of one sequence: the context, or the whole cache if that is smaller.
    pub(crate) positions: usize,
    pub(crate) vocab: usize,
    pub(crate) cache_positions: usize,
    pub(crate) max_running: usize,
    pub(crate) max_waiting: usize,
    pub(crate) max_waiting_tokens: usize,
    pub(crate) step_tokens: usize,
    pub(crate) speculate: usize,
    pub(crate) draft_model: Option<String>,
    pub(crate) kv_cache_dtype: KvDtype,
    pub(crate) lora_reader: Option<LoraReader>,
    pub(crate) max_loras: usize,
}

/// What handlers ask of the engine's thread.
#[derive(Debug)]
pub(crate) enum Task {
    /// To generate.
    Generate(Box<Job>),
    /// To change LoRA adapters.
    Lora(LoraTask),
}

impl Task {
    fn refuse(self, error: ApiError) {
        // Who asked may have left.
        let _ = match self {
            Self::Generate(job) => job.accepted.send(Err(error)),
            Self::Lora(task) => task.reply.send(Err(error)),
        };
    }
}

/// What handlers know of an embedder.
#[derive(Debug, Clone)]
pub(crate) struct EmbedFacts {
    pub(crate) texts: EmbedTexts,
    pub(crate) device: String,
}

/// What handlers know of a ranker.
#[derive(Debug, Clone)]
pub(crate) struct RankFacts {
    pub(crate) texts: RankTexts,
    pub(crate) device: String,
}

/// A client's request: one engine request for each of its prompts.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) requests: Vec<Request>,
    /// Told whether the engine takes it.
    pub(crate) accepted: oneshot::Sender<Result<(), ApiError>>,
    pub(crate) updates: mpsc::Sender<Update>,
    /// Its place among the requests that may be under way.
    pub(crate) permit: OwnedSemaphorePermit,
    /// The id that logs show.
    pub(crate) id: Arc<str>,
    pub(crate) arrived: Instant,
    pub(crate) trace: Generation,
}

/// What happened to a job.
#[derive(Debug)]
pub(crate) enum Update {
    /// Events of one step, each with the number of its choice among all of the job's.
    Events(Vec<(usize, Event)>),
    /// It is over without an end.
    Failed(ApiError),
}

/// What the thread shares with the handlers.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) status: Status,
    pub(crate) metrics: Metrics,
    /// Set with the first loading; a rebuilt engine has the same.
    pub(crate) facts: RwLock<Option<Arc<Facts>>>,
    /// The same of an embedder.
    pub(crate) embeds: RwLock<Option<Arc<EmbedFacts>>>,
    /// The LoRA adapters of the engine, for the next one too.
    pub(crate) loras: RwLock<Vec<Served>>,
    /// The same of a ranker.
    pub(crate) ranks: RwLock<Option<Arc<RankFacts>>>,
    /// Why the first loading failed.
    pub(crate) failure: watch::Sender<Option<String>>,
    /// How fast sequences end.
    pub(crate) pace: Mutex<Pace>,
}

/// Loads, serves and, after a loss of the device, loads again, until no handler is left.
pub(crate) fn run<E: Executor>(
    mut load: impl FnMut(bool) -> Result<Loaded<E>, String>,
    jobs: mpsc::Receiver<Task>,
    shared: &Shared,
) {
    let drafts = Cell::new(true);
    let load = || load(drafts.get());
    let begin = |mut loaded: Loaded<E>| {
        bound_queue(&mut loaded.engine);
        loras::restore(&mut loaded.engine, shared);
        publish(&loaded, shared);
        tracing::info!(device = %loaded.device, "ready");
        Worker {
            engine: loaded.engine,
            open: BTreeMap::new(),
            owners: BTreeMap::new(),
            next: 0,
            drafts: &drafts,
            shared,
        }
    };
    supervise(load, jobs, shared, begin, Task::refuse);
}

/// What owns an engine and its device.
pub(crate) trait Serve<J> {
    /// Steps until no handler is left, or until the engine is lost: then it gives the reason.
    fn serve(&mut self, jobs: &mut mpsc::Receiver<J>) -> Result<(), String>;

    /// Steps so far.
    fn steps(&self) -> u64;
}

/// Loads, serves with what `begin` makes of it and, after a loss of the device, loads again, until no handler is
/// left. Where that cannot be done, jobs are refused with the reason.
pub(crate) fn supervise<L, W: Serve<J>, J>(
    mut load: impl FnMut() -> Result<L, String>,
    mut jobs: mpsc::Receiver<J>,
    shared: &Shared,
    mut begin: impl FnMut(L) -> W,
    refuse: impl Fn(J, ApiError),
) {
    let mut losses = 0;
    let mut first = true;
    while let Some(loaded) = load_or_tell(&mut load, first, shared) {
        first = false;
        let mut worker = begin(loaded);
        shared.status.ready();
        let steps = worker.steps();
        // What panics between steps is as good as a lost device: nobody knows what the engine is in.
        let served = catch_unwind(AssertUnwindSafe(|| worker.serve(&mut jobs)));
        let Err(reason) = served.unwrap_or_else(|_| Err("the engine's thread panicked".into()))
        else {
            return;
        };
        shared.status.loading();
        shared.metrics.gauges(&EngineStats::default(), BLOCK);
        let progressed = worker.steps() > steps;
        losses = if progressed { 1 } else { losses + 1 };
        tracing::error!(%reason, losses, "the engine is lost and is built again");
        drop(worker);
        if losses >= REBUILDS {
            shared.status.dead(reason);
            break;
        }
    }
    while let Some(job) = jobs.blocking_recv() {
        let ended = || ApiError::new(ErrorKind::Unavailable, "the engine has ended");
        refuse(job, shared.status.open().err().unwrap_or_else(ended));
    }
}

/// Whether the device of a failed step is gone.
pub(crate) fn is_lost(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Executor {
            source: ExecutorError::DeviceLost { .. },
            ..
        }
    )
}

/// Loads, or tells why it cannot be done.
fn load_or_tell<T>(
    load: &mut impl FnMut() -> Result<T, String>,
    first: bool,
    shared: &Shared,
) -> Option<T> {
    let loaded = catch_unwind(AssertUnwindSafe(load))
        .unwrap_or_else(|_| Err("loading the model panicked".into()));
    match loaded {
        Ok(loaded) => Some(loaded),
        Err(reason) => {
            tracing::error!(%reason, "the model could not be loaded");
            if first {
                shared.failure.send_replace(Some(reason.clone()));
            }
            shared.status.dead(reason);
            None
        }
    }
}

/// Bounds the tokens that may wait by what the KV cache holds, where there is no bound.
fn bound_queue<E: Executor>(engine: &mut Engine<E>) {
    if engine.config().max_waiting_tokens == usize::MAX {
        let positions = engine.limits().blocks.saturating_mul(BLOCK);
        engine.set_max_waiting_tokens(positions.saturating_mul(QUEUED_CACHES));
    }
}

fn publish<E: Executor>(loaded: &Loaded<E>, shared: &Shared) {
    let engine = &loaded.engine;
    let limits = engine.limits();
    let cache_positions = limits.blocks.saturating_mul(BLOCK);
    let facts = Facts {
        tokenizer: engine.tokenizer().clone(),
        template: loaded.template.clone(),
        device: loaded.device.clone(),
        positions: limits.context.min(cache_positions),
        vocab: limits.vocab,
        cache_positions,
        max_running: engine.config().max_running,
        max_waiting: engine.config().max_waiting,
        max_waiting_tokens: engine.config().max_waiting_tokens,
        step_tokens: engine.config().step_tokens,
        speculate: engine.speculate(),
        draft_model: loaded.draft_model.clone(),
        kv_cache_dtype: loaded.kv_cache_dtype,
        lora_reader: loaded.lora_reader.clone(),
        max_loras: engine.config().max_loras,
    };
    shared.metrics.gauges(&engine.stats(), BLOCK);
    if let Ok(mut place) = shared.facts.write() {
        *place = Some(Arc::new(facts));
    }
}

/// A job in the engine.
#[derive(Debug)]
struct Open {
    updates: mpsc::Sender<Update>,
    requests: Vec<RequestId>,
    /// Sequences that have not ended.
    left: usize,
    id: Arc<str>,
    arrived: Instant,
    trace: Generation,
    /// When each choice had its last token.
    last: BTreeMap<usize, Instant>,
    /// Freed with the job, however it ends.
    _permit: OwnedSemaphorePermit,
}

struct Worker<'a, E> {
    engine: Engine<E>,
    open: BTreeMap<u64, Open>,
    /// Which job, and which of its choices come first, an engine's request belongs to.
    owners: BTreeMap<RequestId, (u64, usize)>,
    next: u64,
    /// Whether an engine that is built again may have a model that drafts.
    drafts: &'a Cell<bool>,
    shared: &'a Shared,
}

impl<E: Executor> Serve<Task> for Worker<'_, E> {
    fn steps(&self) -> u64 {
        self.engine.stats().steps
    }

    fn serve(&mut self, tasks: &mut mpsc::Receiver<Task>) -> Result<(), String> {
        loop {
            if !self.engine.has_work() {
                match tasks.blocking_recv() {
                    Some(task) => self.begin(task),
                    None => return Ok(()),
                }
            }
            while let Ok(task) = tasks.try_recv() {
                self.begin(task);
            }
            self.drop_abandoned();
            // A step may be long; what waits for it is told before.
            self.shared.metrics.gauges(&self.engine.stats(), BLOCK);
            if self.engine.has_work() {
                self.step()?;
            }
            self.shared.metrics.gauges(&self.engine.stats(), BLOCK);
        }
    }
}

impl<E: Executor> Worker<'_, E> {
    fn begin(&mut self, task: Task) {
        match task {
            Task::Generate(job) => self.take(*job),
            Task::Lora(task) => loras::change(&mut self.engine, task, self.shared),
        }
    }

    /// Submits a job's requests, all or none.
    fn take(&mut self, job: Job) {
        if job.updates.is_closed() {
            self.shared.metrics.failed("dropped");
            return;
        }
        let mut submitted = Vec::new();
        let mut sequences = 0;
        for request in &job.requests {
            match self.engine.submit(request) {
                Ok(id) => {
                    submitted.push((id, sequences));
                    sequences += request.params.num_return_sequences.unwrap_or(1);
                }
                Err(error) => {
                    for (id, _) in submitted {
                        self.engine.cancel(id);
                    }
                    let _ = job.accepted.send(Err(error.into()));
                    return;
                }
            }
        }
        for request in &job.requests {
            self.shared.metrics.accepted(request);
        }
        let number = self.next;
        self.next += 1;
        let requests = submitted.iter().map(|(id, _)| *id).collect();
        for (id, first) in submitted {
            self.owners.insert(id, (number, first));
        }
        let open = Open {
            updates: job.updates,
            requests,
            left: sequences,
            id: job.id,
            arrived: job.arrived,
            trace: job.trace,
            last: BTreeMap::new(),
            _permit: job.permit,
        };
        self.open.insert(number, open);
        // If nobody waits for the answer any more, the closed channel is found before the step.
        let _ = job.accepted.send(Ok(()));
    }

    /// Ends the jobs whose readers are gone.
    fn drop_abandoned(&mut self) {
        let gone: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, open)| open.updates.is_closed())
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            if let Some(open) = self.close(number) {
                tracing::info!(request_id = %open.id, "the client is gone, its request is cancelled");
                self.shared.metrics.failed("dropped");
            }
        }
    }

    /// Forgets a job and ends what it has in the engine.
    fn close(&mut self, number: u64) -> Option<Open> {
        let mut open = self.open.remove(&number)?;
        for id in &open.requests {
            self.owners.remove(id);
            for finished in self.engine.cancel(*id) {
                open.trace.finished(&finished);
                self.shared.metrics.finished(&finished);
            }
        }
        Some(open)
    }

    fn step(&mut self) -> Result<(), String> {
        self.shared.status.step_begins();
        let began = Instant::now();
        let before = self.engine.stats();
        let drafting = self.engine.draft_executor().is_some();
        let engine = &mut self.engine;
        self.shared.metrics.step_begins(before.waiting > 0);
        let result = catch_unwind(AssertUnwindSafe(|| pollster::block_on(engine.step())));
        self.shared.status.step_ends();
        if drafting && let Some(error) = self.engine.draft_failure() {
            tracing::warn!(%error, "the draft model failed and is not used any more");
            self.drafts.set(false);
            self.forget_draft_model();
        }
        let events = match result {
            Ok(Ok(events)) => events,
            Ok(Err(error)) => {
                self.shared.metrics.step_failed(before.waiting > 0);
                let lost = is_lost(&error);
                let reason = error.to_string();
                self.fail_all(&error.into());
                return if lost { Err(reason) } else { Ok(()) };
            }
            Err(_) => {
                self.shared.metrics.step_failed(before.waiting > 0);
                let reason = "a step panicked";
                self.fail_all(&ApiError::new(ErrorKind::Server, reason));
                return Err(reason.into());
            }
        };
        let (took, after) = (began.elapsed(), self.engine.stats());
        let ended = events.iter().filter(|event| event.is_end()).count();
        let pace = self.shared.pace.lock();
        pace.unwrap_or_else(PoisonError::into_inner)
            .step(took, ended);
        let came = Instant::now();
        self.deliver(events);
        let metrics = &self.shared.metrics;
        metrics.stepped(took, came.elapsed(), &before, &after);
        Ok(())
    }

    /// Has `/info` tell that there is no model that drafts any more.
    fn forget_draft_model(&self) {
        let mut place = self.shared.facts.write();
        if let Ok(Some(facts)) = place.as_deref_mut() {
            let facts = Arc::make_mut(facts);
            facts.draft_model = None;
            facts.speculate = self.engine.speculate();
        }
    }

    /// Tells every job that it is over, and why.
    fn fail_all(&mut self, error: &ApiError) {
        let numbers: Vec<u64> = self.open.keys().copied().collect();
        for number in numbers {
            if let Some(open) = self.close(number) {
                self.shared.metrics.failed("generation");
                let _ = open.updates.try_send(Update::Failed(error.clone()));
            }
        }
    }

    /// Hands a step's events to their jobs.
    fn deliver(&mut self, events: Vec<Event>) {
        let now = Instant::now();
        let mut parts: BTreeMap<u64, Vec<(usize, Event)>> = BTreeMap::new();
        for event in events {
            let Some((number, first)) = self.owners.get(&event.request()).copied() else {
                continue;
            };
            let choice = first + event.index();
            parts.entry(number).or_default().push((choice, event));
        }
        for (number, events) in parts {
            let Some(open) = self.open.get_mut(&number) else {
                continue;
            };
            let mut failed = false;
            for (choice, event) in &events {
                match event {
                    Event::Token(_) => {
                        open.trace.token(now);
                        match open.last.insert(*choice, now) {
                            None => self.shared.metrics.first_token(now - open.arrived),
                            // Tokens of one step come at once.
                            Some(last) if last == now => {}
                            Some(last) => self.shared.metrics.next_token(now - last),
                        }
                    }
                    Event::Finished(finished) => {
                        open.left = open.left.saturating_sub(1);
                        self.shared.metrics.finished(finished);
                        open.trace.finished(finished);
                        tracing::info!(
                            request_id = %open.id,
                            prompt_tokens = finished.stats.prompt_tokens,
                            generated_tokens = finished.stats.generated_tokens,
                            finish_reason = finished.reason.openai(),
                            queued_ms = finished.stats.queued.as_millis() as u64,
                            prefill_ms = finished.stats.prefill.as_millis() as u64,
                            decode_ms = finished.stats.decode.as_millis() as u64,
                            "generated"
                        );
                    }
                    Event::Failed { error, .. } => {
                        failed = true;
                        tracing::warn!(request_id = %open.id, %error, "the generation failed");
                    }
                    _ => {}
                }
            }
            // The last place is for the reason why there is nothing more.
            let update = if open.updates.capacity() > 1 || open.left == 0 {
                Update::Events(events)
            } else {
                failed = true;
                tracing::warn!(request_id = %open.id, "the reader is too far behind, its request is cancelled");
                self.shared.metrics.slow_reader("request");
                Update::Failed(ApiError::new(
                    ErrorKind::Timeout,
                    "the answer was read too slowly, so it was cancelled",
                ))
            };
            // A closed channel is found before the next step.
            let _ = open.updates.try_send(update);
            if failed {
                self.close(number);
                self.shared.metrics.failed("generation");
            } else if open.left == 0 {
                self.close(number);
                self.shared.metrics.succeeded();
            }
        }
    }
}
