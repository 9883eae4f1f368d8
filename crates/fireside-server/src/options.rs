//! What an owner may set.

use std::path::PathBuf;
use std::time::Duration;

use fireside_openai::MAX_INPUTS;

use crate::Tls;

/// The settings of a server, besides those of its engine.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name of the model, as clients see and give it.
    pub model: String,
    /// Names that are as good as the model's; `tgi` and `dummy` always are.
    pub aliases: Vec<String>,
    /// Most requests in the engine, waiting and running; more are answered with 429.
    pub max_concurrent_requests: usize,
    /// Most tokens of a prompt; all but one of `max_total_tokens` by default.
    pub max_input_tokens: Option<usize>,
    /// Most tokens of prompt and answer; the model's context or the KV cache by default, whichever
    /// is smaller.
    pub max_total_tokens: Option<usize>,
    /// Most prompts in one request: 32 by default, or of texts to embed or rank as many as OpenAI takes.
    pub max_client_batch_size: Option<usize>,
    /// Most bytes of a body.
    pub payload_limit: usize,
    /// Most bytes of all bodies that are being read; as many as 32 of the largest by default. More are
    /// answered with 429.
    pub payload_total_limit: Option<usize>,
    /// How long a request may take, from its body until its last token.
    pub request_timeout: Duration,
    /// How long requests that are under way may take once the server is told to end.
    pub drain_timeout: Duration,
    /// How long a client may take to send the head of a request, and to send its body.
    pub read_timeout: Duration,
    /// How long a connection may take nothing of what is sent to it before it is closed.
    pub write_timeout: Duration,
    /// Steps with tokens by which the reader of a stream may be behind before its request is
    /// cancelled. Whole answers have no reader who could be slow.
    pub reader_lag: usize,
    /// Time without a token after which a stream gets a comment.
    pub keep_alive: Duration,
    /// Age of a step from which on the server is not ready.
    pub stuck_after: Duration,
    /// Keys of which a client must have one; without any, none is asked for.
    pub api_keys: Vec<String>,
    /// Origins whose pages may call; `*` for all. Without keys a page of another origin is refused,
    /// and on a loopback address any name but `localhost` and those of these origins.
    pub cors_allow_origin: Vec<String>,
    /// A folder whose LoRA adapters clients may load, and unload; without it they may not.
    pub lora_root: Option<PathBuf>,
    /// A folder with the demo page, for browsers that ask for `/`; without it they get a page that
    /// says what is served.
    pub web_root: Option<PathBuf>,
    /// Certificate and key to serve HTTPS with; HTTP without them.
    pub tls: Option<Tls>,
}

/// Names that clients write where they have to write one: TGI's own, and that of huggingface_hub's
/// `InferenceClient` for a model that is an address.
const ANY: [&str; 2] = ["tgi", "dummy"];

/// The largest bodies that may be read at once, where nothing else is set.
const BODIES: usize = 32;

/// Most prompts in one request, where nothing else is set.
const PROMPTS: usize = 32;

impl Options {
    /// The defaults, for a model of this name.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            aliases: Vec::new(),
            max_concurrent_requests: 128,
            max_input_tokens: None,
            max_total_tokens: None,
            max_client_batch_size: None,
            payload_limit: 2_000_000,
            payload_total_limit: None,
            request_timeout: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(60),
            reader_lag: 4096,
            keep_alive: Duration::from_secs(15),
            stuck_after: Duration::from_secs(120),
            api_keys: Vec::new(),
            cors_allow_origin: Vec::new(),
            lora_root: None,
            web_root: None,
            tls: None,
        }
    }

    /// Most bytes of all bodies that are being read.
    pub(crate) fn payload_total_limit(&self) -> usize {
        let most = self.payload_total_limit;
        most.unwrap_or_else(|| self.payload_limit.saturating_mul(BODIES))
    }

    /// Most prompts in one request.
    pub(crate) fn prompts_at_once(&self) -> usize {
        self.max_client_batch_size.unwrap_or(PROMPTS)
    }

    /// Most texts to embed or rank in one request.
    pub(crate) fn texts_at_once(&self) -> usize {
        self.max_client_batch_size.unwrap_or(MAX_INPUTS)
    }

    /// Whether a client that gives this name means the model.
    pub fn serves(&self, name: &str) -> bool {
        name == self.model || ANY.contains(&name) || self.aliases.iter().any(|alias| alias == name)
    }
}
