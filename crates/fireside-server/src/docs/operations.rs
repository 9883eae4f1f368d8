//! The routes for those who run the server.

use serde::Serialize;
use utoipa::ToSchema;

/// The limits and what they apply to.
#[derive(Serialize, ToSchema)]
pub(super) struct Info {
    /// The name of the model for clients.
    model_id: String,
    /// Always null: weights have no revision of their own.
    model_sha: Option<String>,
    #[schema(example = "text-generation")]
    model_pipeline_tag: String,
    /// The device that runs the model.
    model_device_type: String,
    /// The names of the LoRA adapters.
    lora_adapters: Vec<String>,
    /// Most requests under way.
    max_concurrent_requests: u64,
    /// Most sequences of which the best is given.
    max_best_of: u64,
    /// Most stop strings of a request.
    max_stop_sequences: u64,
    /// Most tokens of a prompt.
    max_input_tokens: u64,
    /// Most tokens of a prompt and its answer.
    max_total_tokens: u64,
    /// Positions of the KV cache.
    max_batch_total_tokens: u64,
    /// Most tokens of a step.
    max_batch_prefill_tokens: u64,
    /// Most sequences of a step.
    max_batch_size: u64,
    /// Most tokens that are drafted for a sequence.
    speculate: u64,
    /// The model that drafts; null without one, and once it failed.
    draft_model: Option<String>,
    /// How the KV cache is stored.
    #[schema(example = "f16")]
    kv_cache_dtype: String,
    /// Most sequences that wait.
    max_queued_requests: u64,
    /// Most tokens of sequences that wait.
    max_queued_tokens: u64,
    /// Most prompts in one request.
    max_client_batch_size: u64,
    /// Most alternatives to a token that are told.
    max_top_n_tokens: u64,
    /// Most bytes of a body.
    payload_limit: u64,
    /// Most bytes of all bodies that are being read.
    payload_total_limit: u64,
    /// Seconds that a request may take.
    request_timeout: f64,
    /// Seconds that requests get once the server is told to end.
    drain_timeout: f64,
    validation_workers: u64,
    vocab_size: u64,
    /// Whether the model has a chat template.
    chat_template: bool,
    router: String,
    version: String,
    sha: Option<String>,
    docker_label: Option<String>,
}

/// How a model makes embeddings.
#[derive(Serialize, ToSchema)]
pub(super) struct Pooled {
    /// `mean`, `cls` or `lasttoken`.
    #[schema(example = "mean")]
    pooling: String,
}

/// What a model is made for.
#[derive(Serialize, ToSchema)]
pub(super) struct ModelType {
    embedding: Pooled,
}

/// The limits of a server whose model makes embeddings.
#[derive(Serialize, ToSchema)]
pub(super) struct EmbeddingInfo {
    /// The name of the model for clients.
    model_id: String,
    /// Always null: weights have no revision of their own.
    model_sha: Option<String>,
    #[schema(example = "feature-extraction")]
    model_pipeline_tag: String,
    /// The device that runs the model.
    model_device_type: String,
    model_type: ModelType,
    /// Values of an embedding.
    dimensions: u64,
    /// Whether embeddings have the length 1 where a request does not say.
    normalize: bool,
    /// The names of prompts that may stand before a text.
    prompts: Vec<String>,
    /// Most requests under way.
    max_concurrent_requests: u64,
    /// Most tokens of a text.
    max_input_tokens: u64,
    /// The same, as Text Embeddings Inference calls it.
    max_input_length: u64,
    /// Most tokens of a step.
    max_batch_tokens: u64,
    /// Most texts in one request.
    max_client_batch_size: u64,
    /// Most bytes of a body.
    payload_limit: u64,
    /// Most bytes of all bodies that are being read.
    payload_total_limit: u64,
    /// Seconds that a request may take.
    request_timeout: f64,
    /// Seconds that requests get once the server is told to end.
    drain_timeout: f64,
    vocab_size: u64,
    router: String,
    version: String,
}

/// How a model scores texts.
#[derive(Serialize, ToSchema)]
pub(super) struct Scored {
    /// What becomes of a logit where a request does not say: `sigmoid` or `identity`.
    #[schema(example = "sigmoid")]
    activation: String,
}

/// What a model is made for.
#[derive(Serialize, ToSchema)]
pub(super) struct RankingType {
    reranker: Scored,
}

/// The limits of a server whose model scores texts.
#[derive(Serialize, ToSchema)]
pub(super) struct RankingInfo {
    /// The name of the model for clients.
    model_id: String,
    /// Always null: weights have no revision of their own.
    model_sha: Option<String>,
    #[schema(example = "text-ranking")]
    model_pipeline_tag: String,
    /// The device that runs the model.
    model_device_type: String,
    model_type: RankingType,
    /// Most requests under way.
    max_concurrent_requests: u64,
    /// Most tokens of a query and a text together.
    max_input_tokens: u64,
    /// The same, as Text Embeddings Inference calls it.
    max_input_length: u64,
    /// Most tokens of a step.
    max_batch_tokens: u64,
    /// Most texts in one request.
    max_client_batch_size: u64,
    /// Most bytes of a body.
    payload_limit: u64,
    /// Most bytes of all bodies that are being read.
    payload_total_limit: u64,
    /// Seconds that a request may take.
    request_timeout: f64,
    /// Seconds that requests get once the server is told to end.
    drain_timeout: f64,
    vocab_size: u64,
    router: String,
    version: String,
}

/// What is served: text, embeddings, or scores of texts.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Served {
    Text(Box<Info>),
    Embeddings(Box<EmbeddingInfo>),
    Scores(Box<RankingInfo>),
}

#[derive(ToSchema)]
pub(super) struct Version {
    #[schema(example = "0.1.0")]
    version: String,
}

/// The model, the device and the limits
#[utoipa::path(get, path = "/info", tag = "operations", responses(
    (status = 200, body = Served),
    (status = 401, description = "no key, or a wrong one", body = super::tgi::TgiError),
    (status = 503, description = "the model loads, or the server ends", body = super::tgi::TgiError),
))]
pub(super) fn info() {}

/// The server's version
#[utoipa::path(get, path = "/version", tag = "operations", responses((status = 200, body = Version)))]
pub(super) fn version() {}

/// Whether the process is of any use, busy or loading too
#[utoipa::path(get, path = "/health", tag = "operations", security(()), responses(
    (status = 200, description = "it is"),
    (status = 503, description = "the engine is gone for good", body = super::tgi::TgiError),
))]
pub(super) fn health() {}

/// Whether new requests should be sent here
#[utoipa::path(get, path = "/health/ready", tag = "operations", security(()), responses(
    (status = 200, description = "they should"),
    (status = 503, description = "the model loads, a step hangs, or the server ends", body = super::tgi::TgiError),
))]
pub(super) fn ready() {}

/// A page for browsers, which accept HTML; for all others as /health
#[utoipa::path(get, path = "/", tag = "operations", security(()), responses(
    (status = 200, description = "a page, or nothing"),
    (status = 503, description = "the engine is gone for good", body = super::tgi::TgiError),
))]
pub(super) fn root() {}

/// As /health
#[utoipa::path(get, path = "/ping", tag = "operations", security(()), responses(
    (status = 200, description = "the process is of use"),
    (status = 503, description = "the engine is gone for good", body = super::tgi::TgiError),
))]
pub(super) fn ping() {}

/// Metrics in Prometheus' text format, under TGI's and vLLM's names
#[utoipa::path(get, path = "/metrics", tag = "operations", responses(
    (status = 200, content_type = "text/plain", body = String),
))]
pub(super) fn metrics() {}
