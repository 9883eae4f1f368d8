//! Health, readiness and versions.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use fireside_engine::EmbedLimits;
use fireside_openai::ApiError;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::app::App;
use crate::http::error::{Dialect, json_response};
use crate::metrics::CONTENT_TYPE;
use crate::tgi::request::{MAX_BEST_OF, MAX_STOPS, MAX_TOP_N};
use crate::worker::{EmbedFacts, RankFacts};

/// 200 while the process is of any use, busy or loading too; it asks nobody.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response {
    answer(app.shared.status.alive())
}

/// 200 while new requests should come here.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    answer(app.shared.status.well(app.options.stuck_after))
}

fn answer(state: Result<(), ApiError>) -> Response {
    match state {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => {
            let body = json!({
                "error": format!("unhealthy: {}", error.message),
                "error_type": "healthcheck",
            });
            let mut response = json_response(&body);
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        }
    }
}

/// Prometheus' metrics.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let kind = [(header::CONTENT_TYPE, CONTENT_TYPE)];
    let metrics = &app.shared.metrics;
    let room = app
        .options
        .payload_total_limit()
        .min(Semaphore::MAX_PERMITS);
    metrics.bodies(room - app.bodies.available_permits());
    (kind, metrics.render()).into_response()
}

/// What is served, under which limits, with which defaults: TGI's keys, and more.
pub(crate) async fn info(State(app): State<Arc<App>>) -> Response {
    if let Ok(facts) = app.embeds() {
        return json_response(&embedding_info(&app, &facts));
    }
    if let Ok(facts) = app.ranks() {
        return json_response(&ranking_info(&app, &facts));
    }
    let facts = match app.facts() {
        Ok(facts) => facts,
        Err(error) => return Dialect::Tgi.response(&error),
    };
    let options = &app.options;
    json_response(&json!({
        "model_id": options.model,
        "model_sha": null,
        "model_pipeline_tag": "text-generation",
        "model_device_type": facts.device,
        "lora_adapters": app.loras().iter().map(|own| &*own.name).collect::<Vec<_>>(),
        "max_concurrent_requests": options.max_concurrent_requests,
        "max_best_of": MAX_BEST_OF,
        "max_stop_sequences": MAX_STOPS,
        "max_input_tokens": app.max_input_tokens(&facts),
        "max_total_tokens": app.max_total_tokens(&facts),
        "max_batch_total_tokens": facts.cache_positions,
        "max_batch_prefill_tokens": facts.step_tokens,
        "max_batch_size": facts.max_running,
        "speculate": facts.speculate,
        "draft_model": facts.draft_model,
        "kv_cache_dtype": facts.kv_cache_dtype.name(),
        "max_queued_requests": facts.max_waiting,
        "max_queued_tokens": facts.max_waiting_tokens,
        "max_client_batch_size": options.prompts_at_once(),
        "max_top_n_tokens": MAX_TOP_N,
        "payload_limit": options.payload_limit,
        "payload_total_limit": options.payload_total_limit(),
        "request_timeout": options.request_timeout.as_secs_f64(),
        "drain_timeout": options.drain_timeout.as_secs_f64(),
        "validation_workers": 1,
        "vocab_size": facts.vocab,
        "chat_template": facts.template.is_some(),
        "router": "fireside-server",
        "version": env!("CARGO_PKG_VERSION"),
        "sha": null,
        "docker_label": null,
    }))
}

/// What is served where the model makes embeddings.
fn embedding_info(app: &App, facts: &EmbedFacts) -> Value {
    let (embedding, limits) = (facts.texts.embedding(), facts.texts.limits());
    let prompts: Vec<&String> = embedding.prompts.keys().collect();
    let mut info = texts_info(app, &facts.device, limits);
    info["model_pipeline_tag"] = "feature-extraction".into();
    info["model_type"] = json!({ "embedding": { "pooling": embedding.pooling.name() } });
    info["dimensions"] = limits.dimensions.into();
    info["normalize"] = embedding.normalize.into();
    info["prompts"] = json!(prompts);
    info
}

/// What is served where the model scores texts.
fn ranking_info(app: &App, facts: &RankFacts) -> Value {
    let activation = facts.texts.activation().name();
    let mut info = texts_info(app, &facts.device, facts.texts.limits());
    info["model_pipeline_tag"] = "text-ranking".into();
    info["model_type"] = json!({ "reranker": { "activation": activation } });
    info
}

/// The limits where the model generates nothing.
fn texts_info(app: &App, device: &str, limits: EmbedLimits) -> Value {
    let options = &app.options;
    json!({
        "model_id": options.model,
        "model_sha": null,
        "model_device_type": device,
        "max_concurrent_requests": options.max_concurrent_requests,
        "max_input_tokens": limits.max_tokens,
        "max_input_length": limits.max_tokens,
        "max_batch_tokens": limits.step_tokens,
        "max_client_batch_size": options.texts_at_once(),
        "payload_limit": options.payload_limit,
        "payload_total_limit": options.payload_total_limit(),
        "request_timeout": options.request_timeout.as_secs_f64(),
        "drain_timeout": options.drain_timeout.as_secs_f64(),
        "vocab_size": limits.vocab,
        "router": "fireside-server",
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// The server's version.
pub(crate) async fn version() -> Response {
    json_response(&json!({ "version": env!("CARGO_PKG_VERSION") }))
}
