//! The thread that owns an embedder and its device, a ranker's too: takes jobs in, steps, hands pooled hidden states
//! out.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use fireside_engine::{
    EmbedEngine, EmbedTokens, Embedder, EngineStats, Error as EngineError, Pooled, Ranker,
    RequestId,
};
use fireside_model::BLOCK;
use fireside_openai::{ApiError, ErrorKind};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::worker::{EmbedFacts, RankFacts, Serve, Shared, is_lost, supervise};

/// How many steps' tokens may wait: beyond them a client is told to come again.
const QUEUED_STEPS: usize = 256;

/// What loading a model for embeddings gives.
#[derive(Debug)]
pub struct LoadedEmbedder {
    /// The embedder, with its model on its device.
    pub embedder: Embedder,
    /// What the device is, for `/info`.
    pub device: String,
}

/// What loading a model for reranking gives.
#[derive(Debug)]
pub struct LoadedRanker {
    /// The ranker, with its model on its device.
    pub ranker: Ranker,
    /// What the device is, for `/info`.
    pub device: String,
}

/// A client's texts, or pairs of them.
#[derive(Debug)]
pub(crate) struct EmbedJob {
    /// The tokens of each; none is empty or too long.
    pub(crate) texts: Vec<EmbedTokens>,
    /// A job whose reader is gone is dropped before its next step.
    pub(crate) reply: oneshot::Sender<Result<Embedded, ApiError>>,
    /// Its place among the requests that may be under way.
    pub(crate) permit: OwnedSemaphorePermit,
    /// The id that logs show.
    pub(crate) id: Arc<str>,
    pub(crate) arrived: Instant,
}

/// What comes of a job.
#[derive(Debug)]
pub(crate) struct Embedded {
    /// The pooled hidden states of each text.
    pub(crate) pooled: Vec<Vec<f32>>,
    /// The job's place, which is free once its answer is written.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Loads, serves and, after a loss of the device, loads again, until no handler is left.
pub(crate) fn run(
    load: impl FnMut() -> Result<LoadedEmbedder, String>,
    jobs: mpsc::Receiver<EmbedJob>,
    shared: &Shared,
) {
    serve(load, jobs, shared, "embedded", |loaded| {
        tracing::info!(device = %loaded.device, "ready");
        let facts = EmbedFacts {
            texts: loaded.embedder.texts().clone(),
            device: loaded.device,
        };
        if let Ok(mut place) = shared.embeds.write() {
            *place = Some(Arc::new(facts));
        }
        loaded.embedder
    });
}

/// The same for a ranker.
pub(crate) fn run_ranker(
    load: impl FnMut() -> Result<LoadedRanker, String>,
    jobs: mpsc::Receiver<EmbedJob>,
    shared: &Shared,
) {
    serve(load, jobs, shared, "ranked", |loaded| {
        tracing::info!(device = %loaded.device, "ready");
        let (embedder, texts) = loaded.ranker.into_parts();
        let facts = RankFacts {
            texts,
            device: loaded.device,
        };
        if let Ok(mut place) = shared.ranks.write() {
            *place = Some(Arc::new(facts));
        }
        embedder
    });
}

/// Serves with the embedder that `publish` takes out of what was loaded, having told handlers of it.
fn serve<L>(
    load: impl FnMut() -> Result<L, String>,
    jobs: mpsc::Receiver<EmbedJob>,
    shared: &Shared,
    done: &'static str,
    publish: impl Fn(L) -> Embedder,
) {
    let begin = |loaded| Worker {
        engine: EmbedEngine::new(publish(loaded)),
        open: BTreeMap::new(),
        shared,
        done,
    };
    let refuse = |job: EmbedJob, error| drop(job.reply.send(Err(error)));
    supervise(load, jobs, shared, begin, refuse);
}

struct Worker<'a> {
    engine: EmbedEngine,
    open: BTreeMap<RequestId, Open>,
    shared: &'a Shared,
    /// What logs say of a job that is done.
    done: &'static str,
}

/// A job in the engine.
struct Open {
    reply: oneshot::Sender<Result<Embedded, ApiError>>,
    texts: usize,
    tokens: usize,
    id: Arc<str>,
    arrived: Instant,
    /// When it was first part of a step.
    began: Option<Instant>,
    permit: OwnedSemaphorePermit,
}

impl Serve<EmbedJob> for Worker<'_> {
    fn steps(&self) -> u64 {
        self.engine.steps()
    }

    fn serve(&mut self, jobs: &mut mpsc::Receiver<EmbedJob>) -> Result<(), String> {
        loop {
            if !self.engine.has_work() {
                match jobs.blocking_recv() {
                    Some(job) => self.take(job),
                    None => return Ok(()),
                }
            }
            while let Ok(job) = jobs.try_recv() {
                self.take(job);
            }
            self.drop_abandoned();
            self.gauge();
            if self.engine.has_work() {
                self.step()?;
            }
            self.gauge();
        }
    }
}

impl Worker<'_> {
    /// Tells how many texts wait and run, as sequences do elsewhere.
    fn gauge(&self) {
        let stats = EngineStats {
            waiting: self.engine.waiting(),
            waiting_tokens: self.engine.waiting_tokens(),
            ..EngineStats::default()
        };
        self.shared.metrics.gauges(&stats, BLOCK);
    }

    fn take(&mut self, job: EmbedJob) {
        let (texts, tokens) = (
            job.texts.len(),
            job.texts.iter().map(EmbedTokens::len).sum(),
        );
        let waiting = self.engine.waiting_tokens();
        let most = QUEUED_STEPS * self.engine.texts().limits().step_tokens;
        if waiting > 0 && waiting + tokens > most {
            let error = EngineError::TokenQueueFull {
                waiting,
                wanted: tokens,
                limit: most,
            };
            return drop(job.reply.send(Err(error.into())));
        }
        match self.engine.submit(job.texts) {
            Ok(id) => {
                let open = Open {
                    reply: job.reply,
                    texts,
                    tokens,
                    id: job.id,
                    arrived: job.arrived,
                    began: None,
                    permit: job.permit,
                };
                self.open.insert(id, open);
            }
            Err(error) => drop(job.reply.send(Err(error.into()))),
        }
    }

    /// Ends the jobs whose readers are gone.
    fn drop_abandoned(&mut self) {
        let engine = &mut self.engine;
        self.open.retain(|id, open| {
            let gone = open.reply.is_closed();
            if gone {
                engine.cancel(*id);
                tracing::info!(request_id = %open.id, "the client is gone, its request is cancelled");
                self.shared.metrics.failed("dropped");
            }
            !gone
        });
    }

    fn step(&mut self) -> Result<(), String> {
        self.shared.status.step_begins();
        let began = Instant::now();
        let before = self.engine.waiting();
        let engine = &mut self.engine;
        let result = catch_unwind(AssertUnwindSafe(|| pollster::block_on(engine.step())));
        self.shared.status.step_ends();
        let ended = match result {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => {
                let lost = is_lost(&error);
                let reason = error.to_string();
                self.fail_all(&error.into());
                return if lost { Err(reason) } else { Ok(()) };
            }
            Err(_) => {
                let reason = "a step panicked";
                self.fail_all(&ApiError::new(ErrorKind::Server, reason));
                return Err(reason.into());
            }
        };
        let pace = self.shared.pace.lock();
        let ran = before - self.engine.waiting();
        pace.unwrap_or_else(PoisonError::into_inner)
            .step(began.elapsed(), ran);
        // Whoever comes after the first that still waits has had no turn.
        for open in self.open.values_mut().take(ended.len() + 1) {
            open.began.get_or_insert(began);
        }
        for Pooled { request, states } in ended {
            if let Some(open) = self.open.remove(&request) {
                let queued = open
                    .began
                    .map_or_else(Default::default, |b| b - open.arrived);
                tracing::info!(
                    request_id = %open.id,
                    texts = open.texts,
                    prompt_tokens = open.tokens,
                    queued_ms = queued.as_millis() as u64,
                    total_ms = open.arrived.elapsed().as_millis() as u64,
                    "{}",
                    self.done
                );
                let whole = open.arrived.elapsed();
                if states.is_ok() {
                    self.shared.metrics.embedded(open.tokens, queued, whole);
                }
                let permit = open.permit;
                let embedded = states.map(|pooled| Embedded { pooled, permit });
                let _ = open.reply.send(embedded.map_err(|error| {
                    self.shared.metrics.failed("generation");
                    error.into()
                }));
            }
        }
        Ok(())
    }

    /// Tells every job that it failed, and why.
    fn fail_all(&mut self, error: &ApiError) {
        for open in std::mem::take(&mut self.open).into_values() {
            self.shared.metrics.failed("generation");
            let _ = open.reply.send(Err(error.clone()));
        }
    }
}
