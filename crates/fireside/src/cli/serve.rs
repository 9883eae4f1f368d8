//! `fireside serve`: the HTTP server.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use fireside_engine::{CacheSize, EngineConfig};
use fireside_model::device::ComputeDevice;
use fireside_model::path::open_lora;
use fireside_server::{Loaded, LoadedEmbedder, LoadedRanker, LoraReader, Options, Server, Tls};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::telemetry::{self, Collector, LogFormat};
use super::{DraftArgs, ModelArgs, output};
use crate::{Loading, Task};

/// Where to listen, and the limits.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The address to listen on; 0.0.0.0 for all of the machine's.
    #[arg(long, env = "FIRESIDE_HOST", default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port to listen on; 0 for any free one.
    #[arg(short, long, env = "FIRESIDE_PORT", default_value_t = 8080)]
    port: u16,
    /// The model's name for clients, the one given with --model by default; more names are as good.
    #[arg(
        long,
        env = "FIRESIDE_SERVED_MODEL_NAME",
        value_name = "NAME",
        value_delimiter = ','
    )]
    served_model_name: Vec<String>,
    /// A LoRA adapter to serve, as NAME=FOLDER with a folder as PEFT saves it; requests give the name as
    /// their model, or as TGI's adapter_id. May be given several times.
    #[arg(
        long = "lora",
        visible_aliases = ["lora-adapters", "lora-modules"],
        env = "FIRESIDE_LORA",
        value_name = "NAME=FOLDER",
        value_delimiter = ',',
        value_parser = lora
    )]
    loras: Vec<(String, PathBuf)>,
    /// A folder whose LoRA adapters clients may load and unload while the server runs.
    #[arg(long, env = "FIRESIDE_LORA_ROOT", value_name = "FOLDER")]
    lora_root: Option<PathBuf>,
    #[command(flatten)]
    drafts: DraftArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// A key that clients must give, as `Authorization: Bearer KEY`; may be given several times.
    #[arg(
        long,
        env = "FIRESIDE_API_KEY",
        hide_env_values = true,
        value_name = "KEY",
        value_delimiter = ','
    )]
    api_key: Vec<String>,
    /// A file with a key on each line.
    #[arg(long, env = "FIRESIDE_API_KEY_FILE", value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// An origin whose web pages may call, or `*`; may be given several times. Without a key, pages of
    /// other origins are refused, and on a loopback address any name but localhost and those of these
    /// origins.
    #[arg(
        long,
        env = "FIRESIDE_CORS_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    cors_allow_origin: Vec<String>,
    /// A certificate and those that vouch for it, as PEM: serves HTTPS; needs --tls-key.
    #[arg(
        long,
        env = "FIRESIDE_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, as PEM.
    #[arg(
        long,
        env = "FIRESIDE_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
    /// A folder with the demo page, as `cargo xtask web` builds it; browsers get it at /.
    #[arg(long, env = "FIRESIDE_WEB_ROOT", value_name = "FOLDER")]
    web_root: Option<PathBuf>,
    /// An OpenTelemetry collector that takes traces over HTTP, such as http://localhost:4318.
    #[arg(long, env = "FIRESIDE_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// The name of this server in traces.
    #[arg(
        long,
        env = "FIRESIDE_OTLP_SERVICE_NAME",
        default_value = "fireside",
        value_name = "NAME"
    )]
    otlp_service_name: String,
    /// How logs look; FIRESIDE_LOG chooses what is logged, such as `debug`.
    #[arg(long, env = "FIRESIDE_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Most requests under way, waiting and running; more are answered with 429.
    #[arg(
        long,
        env = "FIRESIDE_MAX_CONCURRENT_REQUESTS",
        default_value_t = 128,
        value_name = "N",
        value_parser = count
    )]
    max_concurrent_requests: usize,
    /// Most sequences that wait; more are answered with 429.
    #[arg(
        long,
        env = "FIRESIDE_MAX_QUEUED_REQUESTS",
        default_value_t = 1024,
        value_name = "N",
        value_parser = count
    )]
    max_queued_requests: usize,
    /// Most tokens of sequences that wait, by default four times the KV cache; more are answered with
    /// 429. A longer prompt may wait alone.
    #[arg(long, env = "FIRESIDE_MAX_QUEUED_TOKENS", value_name = "N", value_parser = count)]
    max_queued_tokens: Option<usize>,
    /// Positions of the KV cache, for all sequences together; by default as many as --max-batch-size
    /// sequences of up to 8192 need, within 1 GiB.
    #[arg(
        long,
        env = "FIRESIDE_MAX_BATCH_TOTAL_TOKENS",
        value_name = "N",
        value_parser = count,
        conflicts_with = "context"
    )]
    max_batch_total_tokens: Option<usize>,
    /// Most sequences that run at once.
    #[arg(
        long,
        env = "FIRESIDE_MAX_BATCH_SIZE",
        default_value_t = 16,
        value_name = "N",
        value_parser = count
    )]
    max_batch_size: usize,
    /// Most LoRA adapters at once.
    #[arg(
        long,
        env = "FIRESIDE_MAX_LORAS",
        default_value_t = 16,
        value_name = "N",
        value_parser = count
    )]
    max_loras: usize,
    /// The largest rank of a LoRA adapter; all take the room of the largest one.
    #[arg(
        long,
        env = "FIRESIDE_MAX_LORA_RANK",
        default_value_t = 256,
        value_name = "N",
        value_parser = count
    )]
    max_lora_rank: usize,
    /// Most tokens of a step.
    #[arg(
        long,
        env = "FIRESIDE_MAX_BATCH_PREFILL_TOKENS",
        default_value_t = 512,
        value_name = "N",
        value_parser = count
    )]
    max_batch_prefill_tokens: usize,
    /// Most tokens of a prompt.
    #[arg(long, env = "FIRESIDE_MAX_INPUT_TOKENS", value_name = "N", value_parser = count)]
    max_input_tokens: Option<usize>,
    /// Most tokens of a prompt and its answer; the context or the KV cache by default.
    #[arg(long, env = "FIRESIDE_MAX_TOTAL_TOKENS", value_name = "N", value_parser = count)]
    max_total_tokens: Option<usize>,
    /// Most prompts in one request, 32 by default; of texts to embed or rank 2048.
    #[arg(
        long,
        env = "FIRESIDE_MAX_CLIENT_BATCH_SIZE",
        value_name = "N",
        value_parser = count
    )]
    max_client_batch_size: Option<usize>,
    /// Most bytes of a body.
    #[arg(
        long,
        env = "FIRESIDE_PAYLOAD_LIMIT",
        default_value_t = 2_000_000,
        value_name = "BYTES",
        value_parser = count
    )]
    payload_limit: usize,
    /// Most bytes of all bodies that are being read, by default 32 times --payload-limit; more are
    /// answered with 429.
    #[arg(long, env = "FIRESIDE_PAYLOAD_TOTAL_LIMIT", value_name = "BYTES", value_parser = count)]
    payload_total_limit: Option<usize>,
    /// Most seconds of a request.
    #[arg(
        long,
        env = "FIRESIDE_REQUEST_TIMEOUT",
        default_value = "600",
        value_name = "SECONDS",
        value_parser = seconds
    )]
    request_timeout: Duration,
    /// Most seconds that open requests get at the end.
    #[arg(
        long,
        env = "FIRESIDE_DRAIN_TIMEOUT",
        default_value = "30",
        value_name = "SECONDS",
        value_parser = seconds
    )]
    drain_timeout: Duration,
}

/// A number of which 0 would let nothing through.
fn count(text: &str) -> Result<usize, String> {
    let expected = "expected a whole number from 1 up";
    let number: usize = text.parse().map_err(|_| expected)?;
    if number == 0 {
        Err(expected.into())
    } else {
        Ok(number)
    }
}

/// A name and a folder.
fn lora(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, folder)) if !name.is_empty() && !folder.is_empty() => {
            Ok((name.into(), folder.into()))
        }
        _ => Err("expected NAME=FOLDER".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number of seconds")?;
    Duration::try_from_secs_f64(number).map_err(|_| "expected a number of seconds from 0 up".into())
}

impl ServeArgs {
    fn options(&self) -> Result<Options> {
        let mut names = self.served_model_name.iter().cloned();
        let mut options = Options::new(names.next().unwrap_or_else(|| self.default_name()));
        options.aliases = names.collect();
        for (at, (name, folder)) in self.loras.iter().enumerate() {
            if options.serves(name) || self.loras[..at].iter().any(|(other, _)| other == name) {
                bail!(
                    "--lora {name}: the model or another adapter has that name; choose another one"
                );
            }
            if !folder.is_dir() {
                bail!(
                    "--lora {name}={}: there is no such folder",
                    folder.display()
                );
            }
        }
        if self.loras.len() > self.limits.max_loras {
            let (count, most) = (self.loras.len(), self.limits.max_loras);
            bail!(
                "--lora is given {count} times and --max-loras is {most}; expected at most as many"
            );
        }
        if let Some(root) = &self.lora_root {
            if !root.is_dir() {
                bail!("--lora-root {}: there is no such folder", root.display());
            }
            options.lora_root = Some(root.clone());
        }
        let limits = &self.limits;
        options.max_concurrent_requests = limits.max_concurrent_requests;
        options.max_input_tokens = limits.max_input_tokens;
        options.max_total_tokens = limits.max_total_tokens;
        options.max_client_batch_size = limits.max_client_batch_size;
        options.payload_limit = limits.payload_limit;
        options.payload_total_limit = limits.payload_total_limit;
        options.request_timeout = limits.request_timeout;
        options.drain_timeout = limits.drain_timeout;
        options.cors_allow_origin = self.cors_allow_origin.clone();
        options.api_keys = self.api_key.clone();
        if let Some(path) = &self.api_key_file {
            let text = fs::read_to_string(path)
                .with_context(|| format!("--api-key-file {}", path.display()))?;
            let keys = text.lines().map(str::trim).filter(|line| !line.is_empty());
            options.api_keys.extend(keys.map(str::to_owned));
            if options.api_keys.is_empty() {
                bail!("--api-key-file {} has no key", path.display());
            }
        }
        if let Some(root) = &self.web_root {
            let index = root.join("index.html");
            if !index.is_file() {
                bail!(
                    "--web-root {}: there is no index.html in it; expected the built demo page",
                    root.display()
                );
            }
            options.web_root = Some(root.clone());
        }
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            let tls = Tls::from_pem_files(certificate, key).map_err(anyhow::Error::msg)?;
            options.tls = Some(tls);
        }
        if options.api_keys.iter().any(String::is_empty) {
            bail!("--api-key is empty; expected a key, or no option");
        }
        Ok(options)
    }

    /// The name of a model that nobody named: what `--model` says, and of a path its last part.
    fn default_name(&self) -> String {
        let path = Path::new(&self.model.model);
        let name = path.file_name().filter(|_| path.exists());
        name.map_or_else(
            || self.model.model.clone(),
            |n| n.to_string_lossy().into_owned(),
        )
    }

    fn loading(&self) -> Loading {
        let loading = Loading::new(&self.model.model);
        let with =
            |loading: Loading, (name, folder): &(String, PathBuf)| loading.lora(name, folder);
        let loading = self.loras.iter().fold(loading, with);
        loading
            .device(self.model.device)
            .kv_cache_dtype(self.model.kv_cache_dtype.into())
            .quantize(self.model.quantize.map(Into::into))
            .context(self.model.context)
            .draft_model(self.drafts.draft_model.clone())
            .cache(CacheSize {
                positions: self.limits.max_batch_total_tokens,
                sequences: self.limits.max_batch_size,
                ..CacheSize::default()
            })
            .engine(EngineConfig {
                step_tokens: self.limits.max_batch_prefill_tokens,
                max_running: self.limits.max_batch_size,
                max_waiting: self.limits.max_queued_requests,
                max_waiting_tokens: self.limits.max_queued_tokens.unwrap_or(usize::MAX),
                max_loras: self.limits.max_loras,
                max_lora_rank: self.limits.max_lora_rank,
                speculate: self.drafts.speculate,
                ..EngineConfig::default()
            })
    }
}

/// Serves until a signal ends it.
pub(super) fn run(args: &ServeArgs) -> Result<()> {
    let options = args.options()?;
    let scheme = if options.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let collector = args.otlp_endpoint.as_deref().map(|endpoint| Collector {
        endpoint,
        service: &args.otlp_service_name,
    });
    let telemetry = telemetry::begin(args.log_format, collector)?;
    let loading = args.loading();
    // A model that is not there is told before anything listens.
    let task = loading.made_for()?;
    if task != Task::TextGeneration && !args.loras.is_empty() {
        bail!("--lora: the model generates no text, so it takes no LoRA adapters");
    }
    if task != Task::TextGeneration && args.drafts.draft_model.is_some() {
        bail!("--draft-model: the model generates no text, so there is nothing to draft");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the server's threads cannot be started")?;
    let result = runtime.block_on(async {
        let listener = TcpListener::bind((args.host, args.port))
            .await
            .with_context(|| format!("cannot listen on {}:{}", args.host, args.port))?;
        let address = listener.local_addr()?;
        let (word, words) = mpsc::channel(2);
        let signals = signals(word.clone())?;
        let cpu = args.model.device == crate::DeviceChoice::Cpu;
        let server = start(options, loading, task, cpu)?;
        println!("listening on {scheme}://{address}");
        let failed = server.failed();
        tokio::select! {
            result = server.serve(listener, words) => result?,
            reason = failed => bail!("{reason}"),
        }
        drop((word, signals));
        Ok(())
    });
    // Steps that run are not waited for.
    runtime.shutdown_background();
    drop(telemetry);
    result
}

/// Starts a server that loads a model for the task that it is made for.
fn start(options: Options, mut loading: Loading, task: Task, cpu: bool) -> std::io::Result<Server> {
    let mut held = HeldDevice(None);
    match task {
        Task::FeatureExtraction => Server::start_embeddings(options, move || {
            held.free();
            let loaded = pollster::block_on(loading.clone().feature_extraction());
            let extraction = loaded.map_err(|e| e.to_string())?;
            let device = held.hold(extraction.device(), cpu);
            let embedder = extraction.into_embedder();
            Ok(LoadedEmbedder { embedder, device })
        }),
        Task::Reranking => Server::start_reranking(options, move || {
            held.free();
            let loaded = pollster::block_on(loading.clone().reranking());
            let reranking = loaded.map_err(|e| e.to_string())?;
            let device = held.hold(reranking.device(), cpu);
            let ranker = reranking.into_ranker();
            Ok(LoadedRanker { ranker, device })
        }),
        Task::TextGeneration => Server::start(options, move |drafts| {
            held.free();
            if !drafts {
                loading = loading.clone().draft_model(None);
            }
            let draft_model = loading.draft_model.clone();
            let loaded = pollster::block_on(loading.clone().text_generation());
            let pipeline = loaded.map_err(|e| e.to_string())?;
            // From now on the server has them; their files may change, or go.
            loading = loading.clone().without_loras();
            let device = held.hold(pipeline.device(), cpu);
            let (engine, template) = pipeline.into_parts();
            let config = engine.executor().model().config().clone();
            let kv_cache_dtype = engine.executor().cache().dtype();
            let read = move |path: &Path| open_lora(path, &config).map_err(|e| e.to_string());
            Ok(Loaded {
                engine,
                template,
                device,
                draft_model,
                kv_cache_dtype,
                lora_reader: Some(LoraReader::new(read)),
            })
        }),
    }
}

/// The device of the engine that runs: one that is built again needs the memory of the one before.
struct HeldDevice(Option<ComputeDevice>);

impl HeldDevice {
    fn free(&mut self) {
        if let Some(device) = self.0.take() {
            device.destroy();
        }
    }

    /// Keeps the device, says what it is where people should know, and gives its name.
    fn hold(&mut self, device: &ComputeDevice, asked_for_cpu: bool) -> String {
        output::notice(device, asked_for_cpu);
        self.0 = Some(device.clone());
        device
            .adapter()
            .map_or_else(|| "cpu".to_owned(), |adapter| adapter.name.clone())
    }
}

/// Sends a word for each signal that asks to end.
fn signals(word: mpsc::Sender<()>) -> Result<tokio::task::JoinHandle<()>> {
    #[cfg(unix)]
    let mut terminate = {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::terminate()).context("signals cannot be handled")?
    };
    Ok(tokio::spawn(async move {
        loop {
            #[cfg(unix)]
            let came = tokio::select! {
                came = terminate.recv() => came.is_some(),
                came = tokio::signal::ctrl_c() => came.is_ok(),
            };
            #[cfg(not(unix))]
            let came = tokio::signal::ctrl_c().await.is_ok();
            if !came || word.send(()).await.is_err() {
                return;
            }
        }
    }))
}
