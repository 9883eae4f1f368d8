//! The HTTP server: OpenAI's and TGI's interfaces over one engine.
//!
//! One thread owns the engine and its device and steps as long as there is work. Handlers on tokio
//! only translate: a body becomes engine requests, events become an answer. Between them are bounded
//! channels; the step loop never waits for a reader, and a reader that leaves or falls too far behind
//! loses its request.
//!
//! ```no_run
//! # async fn run<E: fireside_engine::Executor + 'static>(
//! #     load: impl FnMut(bool) -> Result<fireside_server::Loaded<E>, String> + Send + 'static,
//! # ) -> std::io::Result<()> {
//! use fireside_server::{Options, Server};
//! use tokio::net::TcpListener;
//!
//! let server = Server::start(Options::new("smollm2"), load)?;
//! let listener = TcpListener::bind("127.0.0.1:8080").await?;
//! let (stop, words) = tokio::sync::mpsc::channel(2);
//! // Send one word into `stop` to drain, another one to end at once.
//! server.serve(listener, words).await
//! # }
//! ```

mod app;
mod docs;
mod embed_worker;
mod http;
mod loras;
mod metrics;
mod options;
mod pace;
mod prepare;
mod routes;
mod site;
mod status;
mod tgi;
mod tls;
mod trace;
mod worker;

use std::io;
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use fireside_engine::Executor;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

pub use embed_worker::{LoadedEmbedder, LoadedRanker};
pub use loras::LoraReader;
pub use options::Options;
pub use tls::Tls;
pub use trace::TARGET as TRACE_TARGET;
pub use worker::Loaded;

use app::{App, Work};
use metrics::Metrics;
use status::Status;
use worker::Shared;

/// Most requests to tokenize that are under way.
const TRANSLATIONS: usize = 8;

/// A server whose engine loads, or has loaded, on its own thread.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
}

impl Server {
    /// Starts the thread that loads the model and then runs the engine. `load` runs on that thread,
    /// and again after the device was lost; its error is one line for people. It is told whether the
    /// engine may have a model that drafts: not any more once one failed, with or without the device.
    ///
    /// # Errors
    ///
    /// The system has no thread left, a setting is 0 that may not be, or all bodies together may be
    /// smaller than one.
    pub fn start<E: Executor + 'static>(
        options: Options,
        load: impl FnMut(bool) -> Result<Loaded<E>, String> + Send + 'static,
    ) -> io::Result<Self> {
        Self::over(options, |most, shared| {
            // One place more, for changes of LoRA adapters.
            let (jobs, receiver) = mpsc::channel(most.saturating_add(1));
            thread::Builder::new()
                .name("engine".into())
                .spawn(move || worker::run(load, receiver, &shared))?;
            Ok(Work::Generate(jobs))
        })
    }

    /// As [`start`](Self::start), for a model that makes embeddings.
    ///
    /// # Errors
    ///
    /// See [`start`](Self::start).
    pub fn start_embeddings(
        options: Options,
        load: impl FnMut() -> Result<LoadedEmbedder, String> + Send + 'static,
    ) -> io::Result<Self> {
        Self::over(options, |most, shared| {
            let (jobs, receiver) = mpsc::channel(most);
            thread::Builder::new()
                .name("engine".into())
                .spawn(move || embed_worker::run(load, receiver, &shared))?;
            Ok(Work::Embed(jobs))
        })
    }

    /// As [`start`](Self::start), for a model that scores texts.
    ///
    /// # Errors
    ///
    /// See [`start`](Self::start).
    pub fn start_reranking(
        options: Options,
        load: impl FnMut() -> Result<LoadedRanker, String> + Send + 'static,
    ) -> io::Result<Self> {
        Self::over(options, |most, shared| {
            let (jobs, receiver) = mpsc::channel(most);
            thread::Builder::new()
                .name("engine".into())
                .spawn(move || embed_worker::run_ranker(load, receiver, &shared))?;
            Ok(Work::Rank(jobs))
        })
    }

    /// A server over a thread that `spawn` starts, given the jobs that may be under way.
    fn over(
        options: Options,
        spawn: impl FnOnce(usize, Arc<Shared>) -> io::Result<Work>,
    ) -> io::Result<Self> {
        let sizes = [
            ("max_concurrent_requests", options.max_concurrent_requests),
            ("max_client_batch_size", options.prompts_at_once()),
            ("reader_lag", options.reader_lag),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            let message = format!("{name} is 0; expected at least 1");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let (one, all) = (options.payload_limit, options.payload_total_limit());
        if all < one {
            let message = format!(
                "payload_total_limit is {all}; expected at least payload_limit, which is {one}"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let metrics = Metrics::new(&options.model).map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            status: Status::new(),
            metrics,
            facts: RwLock::new(None),
            embeds: RwLock::new(None),
            loras: RwLock::default(),
            ranks: RwLock::new(None),
            failure: watch::Sender::new(None),
            pace: Mutex::default(),
        });
        let most = options
            .max_concurrent_requests
            .min(Semaphore::MAX_PERMITS - 1);
        let work = spawn(most, Arc::clone(&shared))?;
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Ok(Self {
            app: Arc::new(App {
                places: Arc::new(Semaphore::new(most)),
                translations: Arc::new(Semaphore::new(TRANSLATIONS)),
                bodies: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
                options,
                shared,
                work,
                lora_turn: Arc::default(),
                started,
            }),
        })
    }

    /// Waits until the model turns out not to load, and gives the reason; for ever where it loads.
    /// A server whose engine was lost later on goes on, to tell so.
    pub async fn failed(&self) -> String {
        let mut failure = self.app.shared.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Serves until it is told to stop: the first word in `stop` drains, a second one, or the
    /// channel's end, ends at once.
    ///
    /// # Errors
    ///
    /// None once it listens; the listener is the caller's.
    pub async fn serve(&self, listener: TcpListener, stop: mpsc::Receiver<()>) -> io::Result<()> {
        let address = listener.local_addr().ok().map(|address| address.ip());
        let router = routes::router(Arc::clone(&self.app), address);
        http::listen::serve(listener, router, Arc::clone(&self.app), stop).await
    }
}
