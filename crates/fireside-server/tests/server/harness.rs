//! Servers to test: over a scripted model whose steps the test may hold, and over a real checkpoint.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use fireside_engine::{
    Embedder, Engine, EngineConfig, Executor, ExecutorError, ExecutorLimits, GenerationDefaults,
    ModelExecutor, Ranker,
};
use fireside_model::device::ComputeDevice;
use fireside_model::path::{load_path, open_lora};
use fireside_model::step::{Selected, Step};
use fireside_model::{KvDtype, Selection};
use fireside_server::{Loaded, LoadedEmbedder, LoadedRanker, LoraReader, Options, Server};
use fireside_tokenizer::{ChatTemplate, GgufVocab, Tokenizer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;

use crate::client::{Reply, Stream, connect, exchange, request};

/// Bytes that a narrow connection holds on each side, about.
const BUFFER: u32 = 4096;

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

/// The script's tokens, by what they begin.
pub(crate) const HA: u32 = 3;
pub(crate) const SMILE: u32 = 4;
pub(crate) const STOP: u32 = 8;
pub(crate) const END: u32 = 11;
pub(crate) const GOOD: u32 = 12;
/// A token after which every step fails.
pub(crate) const FAIL: u32 = 13;
/// A token after which the device is lost.
pub(crate) const LOSE: u32 = 14;
/// A token after which the step panics.
pub(crate) const PANIC: u32 = 15;

/// Which token follows which.
fn next(token: u32) -> u32 {
    match token {
        4..=6 | 8 | 9 => token + 1,
        7 => SMILE,
        10 => STOP,
        END => 2,
        12..=15 => token,
        _ => HA,
    }
}

/// The script's tokens, and after them the pieces that their words are made of.
const TOKENS: &[&str] = &[
    "<unk>", "<s>", "</s>", "▁ha", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "▁st", "op", "!",
    "▁end", "好", "▁fail", "▁lose", "▁panic", "▁", "h", "a", "▁h", "s", "t", "▁s", "o", "p", "e",
    "n", "d", "▁e", "▁en", "f", "i", "l", "▁f", "▁fa", "▁fai",
];

fn tokenizer() -> Tokenizer {
    let kind = |token: &&str| match *token {
        "<unk>" => 2,
        "<s>" | "</s>" => 3,
        byte if byte.starts_with("<0x") => 6,
        _ => 1,
    };
    Tokenizer::from_gguf(&GgufVocab {
        model: "llama",
        scores: vec![0.0; TOKENS.len()],
        token_types: TOKENS.iter().map(kind).collect(),
        tokens: TOKENS.to_vec(),
        ..GgufVocab::default()
    })
    .unwrap()
}

/// Holds steps until the test allows them.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<(Mutex<usize>, Condvar)>);

impl Gate {
    fn new(steps: usize) -> Self {
        Self(Arc::new((Mutex::new(steps), Condvar::new())))
    }

    /// Allows so many steps more.
    pub(crate) fn allow(&self, steps: usize) {
        let (left, change) = &*self.0;
        let mut left = left.lock().unwrap();
        *left = left.saturating_add(steps);
        change.notify_all();
    }

    /// Allows all steps from now on.
    pub(crate) fn open(&self) {
        self.allow(usize::MAX);
    }

    fn pass(&self) {
        let (left, change) = &*self.0;
        let mut left = change
            .wait_while(left.lock().unwrap(), |left| *left == 0)
            .unwrap();
        *left = left.saturating_sub(usize::from(*left < usize::MAX));
    }
}

struct Script {
    gate: Gate,
    /// The device is lost in every step.
    loses: bool,
}

impl Executor for Script {
    fn limits(&self) -> ExecutorLimits {
        ExecutorLimits {
            vocab: TOKENS.len(),
            context: 4096,
            blocks: 4096,
            step_tokens: 64,
            step_sequences: 64,
            step_rows: 64,
        }
    }

    async fn step(&mut self, step: &Step) -> Result<Vec<Selected>, ExecutorError> {
        self.gate.pass();
        let mut all = Vec::new();
        for chunk in &step.chunks {
            for (row, wanted) in &chunk.rows {
                let message = "on purpose".to_owned();
                if self.loses {
                    return Err(ExecutorError::DeviceLost { message });
                }
                match chunk.tokens[*row] {
                    FAIL => return Err(ExecutorError::Failed { message }),
                    LOSE => return Err(ExecutorError::DeviceLost { message }),
                    PANIC => panic!("on purpose"),
                    _ => {}
                }
                let token = next(chunk.tokens[*row]);
                let selection = Selection {
                    token,
                    max: 0.0,
                    log_sum_exp: 0.5,
                    tempered_log_sum_exp: 0.5,
                    broken: 0,
                    target_logit: if wanted.target == Some(token) {
                        0.0
                    } else {
                        -1.0
                    },
                    candidates: vec![(token, 0.0), (1, -1.0)],
                };
                all.push(Selected {
                    selection,
                    logits: None,
                });
            }
        }
        Ok(all)
    }
}

/// A server that ends with the test.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) gate: Gate,
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

/// A server over the script, whose steps run freely.
pub(crate) fn scripted() -> TestServer {
    let server = gated(|_| {});
    server.gate.open();
    server
}

/// A server over the script, whose steps wait to be allowed.
pub(crate) fn gated(set: impl FnOnce(&mut Options)) -> TestServer {
    gated_engine(set, EngineConfig::default())
}

pub(crate) fn gated_engine(set: impl FnOnce(&mut Options), config: EngineConfig) -> TestServer {
    let gate = Gate::new(0);
    let server = start(set, script(gate.clone(), config), gate);
    server.wait_until_ready();
    server
}

/// A server over the script, whose steps wait to be allowed and whose connections hold little that
/// was not read.
pub(crate) fn narrow(set: impl FnOnce(&mut Options)) -> TestServer {
    let gate = Gate::new(0);
    let load = script(gate.clone(), EngineConfig::default());
    let server = start_on(Some(BUFFER), set, load, gate);
    server.wait_until_ready();
    server
}

/// A server over the script with a model that drafts, in whose steps the device is lost.
pub(crate) fn drafting() -> TestServer {
    let gate = Gate::new(usize::MAX);
    let draft_gate = gate.clone();
    let mut load = script(gate.clone(), EngineConfig::default());
    let load = move |drafts| {
        let mut loaded = load(drafts)?;
        if drafts {
            let draft = Script {
                gate: draft_gate.clone(),
                loses: true,
            };
            let set = loaded.engine.set_draft_model(draft, &tokenizer());
            set.map_err(|e| e.to_string())?;
            loaded.draft_model = Some("smaller".into());
        }
        Ok(loaded)
    };
    let server = start(|_| {}, load, gate);
    server.wait_until_ready();
    server
}

fn script(gate: Gate, config: EngineConfig) -> impl FnMut(bool) -> Result<Loaded<Script>, String> {
    let own = gate;
    move |_| {
        let script = Script {
            gate: own.clone(),
            loses: false,
        };
        let defaults = GenerationDefaults::default();
        let engine = Engine::new(script, tokenizer(), defaults, config.clone());
        // Variables of a request make it write more.
        let template = "{% for m in messages %}{{ m.content }}{{ after }}{% endfor %}\
            {% if add_generation_prompt %}{{ cue }}{% endif %}";
        let nothing: [(&str, &str); 0] = [];
        Ok(Loaded {
            engine: engine.map_err(|e| e.to_string())?,
            template: Some(ChatTemplate::new(template, nothing).map_err(|e| e.to_string())?),
            device: "script".into(),
            draft_model: None,
            kv_cache_dtype: KvDtype::F16,
            lora_reader: None,
        })
    }
}

/// A server over a tiny random checkpoint on the CPU.
pub(crate) fn tiny() -> TestServer {
    // Tests run in the folder of their package.
    checkpoint("../../tests/fixtures/tiny-llama/gqa-3-float16", &[], |_| {})
}

/// A server over a checkpoint on the CPU, with LoRA adapters by name and folder.
pub(crate) fn checkpoint(
    path: &'static str,
    loras: &'static [(&'static str, &'static str)],
    set: impl FnOnce(&mut Options),
) -> TestServer {
    let load = move |_| {
        let loaded = load_path(path.as_ref(), ComputeDevice::cpu()).map_err(|e| e.to_string())?;
        let model = loaded.model.config().clone();
        let executor = ModelExecutor::new(loaded.model, 1024, KvDtype::F32);
        let executor = executor.map_err(|e| e.to_string())?;
        let (defaults, config) = (GenerationDefaults::default(), EngineConfig::default());
        let engine = Engine::new(executor, loaded.text.tokenizer, defaults, config);
        let mut engine = engine.map_err(|e| e.to_string())?;
        for (name, path) in loras {
            let lora = open_lora(path.as_ref(), &model).map_err(|e| e.to_string())?;
            let added = engine.add_lora(name, Arc::new(lora));
            added.map_err(|e| e.to_string())?;
        }
        let read = move |path: &Path| open_lora(path, &model).map_err(|e| e.to_string());
        Ok(Loaded {
            engine,
            template: loaded.text.template,
            device: "cpu".into(),
            draft_model: None,
            kv_cache_dtype: KvDtype::F32,
            lora_reader: Some(LoraReader::new(read)),
        })
    };
    let server = start(set, load, Gate::new(0));
    server.wait_until_ready();
    server
}

/// A server with any way to load.
pub(crate) fn start<E: Executor + 'static>(
    set: impl FnOnce(&mut Options),
    load: impl FnMut(bool) -> Result<Loaded<E>, String> + Send + 'static,
    gate: Gate,
) -> TestServer {
    start_on(None, set, load, gate)
}

/// A server over a tiny random embedding model on the CPU.
pub(crate) fn embeddings(set: impl FnOnce(&mut Options)) -> TestServer {
    let load = || {
        // Tests run in the folder of their package.
        let path = PathBuf::from("../../tests/fixtures/embeddings/bert-mean");
        let loaded = load_path(&path, ComputeDevice::cpu()).map_err(|e| e.to_string())?;
        let embedding = loaded.embedding.ok_or("no embedding model")?;
        let tokenizer = loaded.text.tokenizer;
        let embedder = Embedder::new(loaded.model, tokenizer, embedding, None);
        Ok(LoadedEmbedder {
            embedder: embedder.map_err(|e| e.to_string())?,
            device: "cpu".into(),
        })
    };
    let start = |options| Server::start_embeddings(options, load);
    let server = serve_on(None, set, start, Gate::new(0));
    server.wait_until_ready();
    server
}

/// A server over a tiny random cross-encoder.
pub(crate) fn reranker(name: &str, set: impl FnOnce(&mut Options)) -> TestServer {
    let path = PathBuf::from("../../tests/fixtures/rerankers").join(name);
    let load = move || {
        let loaded = load_path(&path, ComputeDevice::cpu()).map_err(|e| e.to_string())?;
        let head = loaded.ranking.ok_or("no cross-encoder")?;
        let ranker = Ranker::new(loaded.model, loaded.text.tokenizer, head, None);
        Ok(LoadedRanker {
            ranker: ranker.map_err(|e| e.to_string())?,
            device: "cpu".into(),
        })
    };
    let start = |options| Server::start_reranking(options, load);
    let server = serve_on(None, set, start, Gate::new(0));
    server.wait_until_ready();
    server
}

/// A server whose connections have send buffers of a size.
fn start_on<E: Executor + 'static>(
    buffer: Option<u32>,
    set: impl FnOnce(&mut Options),
    load: impl FnMut(bool) -> Result<Loaded<E>, String> + Send + 'static,
    gate: Gate,
) -> TestServer {
    serve_on(buffer, set, |options| Server::start(options, load), gate)
}

/// The same of any server.
fn serve_on(
    buffer: Option<u32>,
    set: impl FnOnce(&mut Options),
    start: impl FnOnce(Options) -> io::Result<Server>,
    gate: Gate,
) -> TestServer {
    let mut options = Options::new("test-model");
    set(&mut options);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(async { listen(buffer) }).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, words) = mpsc::channel(2);
    let server = start(options).unwrap();
    let thread = std::thread::spawn(move || {
        runtime.block_on(server.serve(listener, words)).unwrap();
        runtime.shutdown_background();
    });
    TestServer {
        address,
        gate,
        stop,
        thread: Some(thread),
    }
}

fn listen(buffer: Option<u32>) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = buffer {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    socket.listen(1024)
}

/// A gate for servers without a script.
pub(crate) fn no_gate() -> Gate {
    Gate::new(0)
}

impl TestServer {
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Reply {
        self.send("POST", path, &[JSON], body)
    }

    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        exchange(
            self.address,
            &request(method, path, headers, body.as_bytes()),
        )
        .expect("an answer")
    }

    pub(crate) fn stream(&self, path: &str, body: &str) -> Stream {
        Stream::open(
            self.address,
            &request("POST", path, &[JSON], body.as_bytes()),
        )
    }

    /// Sends a request whose answer is read later.
    pub(crate) fn begin(&self, path: &str, body: &str) -> TcpStream {
        let mut socket = connect(self.address);
        let bytes = request("POST", path, &[JSON], body.as_bytes());
        socket.write_all(&bytes).unwrap();
        socket
    }

    /// Sends a request whose answer is not read, over a connection that holds little of it.
    pub(crate) fn ignore(&self, path: &str, body: &str) -> TcpStream {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        let connect = async {
            let socket = TcpSocket::new_v4()?;
            socket.set_recv_buffer_size(BUFFER)?;
            socket.connect(self.address).await?.into_std()
        };
        let mut socket = runtime.block_on(connect).unwrap();
        socket.set_nonblocking(false).unwrap();
        let bytes = request("POST", path, &[JSON], body.as_bytes());
        socket.write_all(&bytes).unwrap();
        socket
    }

    /// Waits until so many requests came in, refused ones included.
    pub(crate) fn wait_for_requests(&self, count: usize) {
        self.until("requests", |own| {
            own.metric("tgi_request_count") == count as f64
        });
    }

    /// The value of a metric, its labels included in the name.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name}"))
            .parse()
            .unwrap()
    }

    /// Asks until a condition holds; a test that waits for ever fails by its timeout.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let began = std::time::Instant::now();
        while !holds(self) {
            assert!(began.elapsed().as_secs() < 60, "{what} does not come");
            std::thread::yield_now();
        }
    }

    pub(crate) fn wait_until_ready(&self) {
        self.until("readiness", |own| own.get("/health/ready").status == 200);
    }

    /// Tells it to end.
    pub(crate) fn stop(&self) {
        self.stop.blocking_send(()).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn join(&mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.gate.open();
        if let Some(thread) = self.thread.take() {
            let _ = self.stop.blocking_send(());
            let _ = self.stop.blocking_send(());
            let _ = thread.join();
        }
    }
}

/// A chunk without what differs from answer to answer.
pub(crate) fn plain(data: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(data) else {
        return data.to_owned();
    };
    for (field, plain) in [("id", "ID".into()), ("created", Value::from(0))] {
        if let Some(own) = value.get_mut(field) {
            *own = plain;
        }
    }
    value.to_string()
}
