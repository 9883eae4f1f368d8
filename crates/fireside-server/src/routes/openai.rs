//! OpenAI's routes.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use fireside_engine::Event;
use fireside_openai::{ApiError, ChatRequest, CompletionRequest, ErrorKind, Reply, ReplyKind};
use fireside_tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::app::{Answer, App};
use crate::http::envelope::{RequestId, fresh};
use crate::http::error::{Dialect, Names, json_response};
use crate::http::{body, sse};
use crate::prepare::{Wanted, begin};
use crate::worker::Facts;

/// `POST /v1/chat/completions`
pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    respond(generate(app, id, headers, body, (Names::CHAT, read_chat)).await)
}

/// `POST /v1/completions`
pub(crate) async fn completions(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    respond(generate(app, id, headers, body, (Names::COMPLETION, read_completion)).await)
}

fn respond(result: Result<Response, ApiError>) -> Response {
    result.unwrap_or_else(|error| Dialect::OpenAi.response(&error))
}

/// Makes requests of a body, and the reply that their events go to.
type Read = fn(&App, &Facts, &[u8]) -> Result<Wanted<Reply>, ApiError>;

async fn generate(
    app: Arc<App>,
    id: RequestId,
    headers: HeaderMap,
    body: Body,
    (names, read): (Names, Read),
) -> Result<Response, ApiError> {
    let bytes = body::read(&app, &headers, body).await?;
    let begun = begin(&app, id, names, move |app, facts| read(app, facts, &bytes)).await?;
    let tokenizer = begun.facts.tokenizer.clone();
    let reply = begun.form;
    if begun.stream {
        let chunks = Chunks { reply, tokenizer };
        return Ok(sse::response(&app, begun.answer, chunks));
    }
    let whole = whole(begun.answer, reply, &tokenizer).await?;
    Ok(json_response(&whole))
}

/// Waits for all of an answer.
async fn whole(
    mut answer: Answer,
    mut reply: Reply,
    tokenizer: &Tokenizer,
) -> Result<Value, ApiError> {
    while !reply.is_done() {
        for (choice, event) in answer.next().await? {
            reply.push(choice, &event, tokenizer)?;
        }
    }
    Ok(reply.whole(tokenizer))
}

struct Chunks {
    reply: Reply,
    tokenizer: Tokenizer,
}

impl sse::Frames for Chunks {
    fn take(&mut self, events: Vec<(usize, Event)>) -> Result<Vec<String>, ApiError> {
        let mut frames = Vec::new();
        for (choice, event) in events {
            let chunks = self.reply.push(choice, &event, &self.tokenizer)?;
            frames.extend(chunks.iter().map(Value::to_string));
        }
        Ok(frames)
    }

    fn is_done(&self) -> bool {
        self.reply.is_done()
    }

    fn last(&self) -> Option<&'static str> {
        Some("[DONE]")
    }

    fn failed(&self, error: &ApiError) -> String {
        error.body().to_string()
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn read_chat(app: &App, facts: &Facts, body: &[u8]) -> Result<Wanted<Reply>, ApiError> {
    let request = ChatRequest::from_json(body)?;
    let lora = app.check_model(request.model.as_deref())?;
    let mut own = request.to_engine(&facts.tokenizer, facts.template.as_ref())?;
    let model = lora.clone();
    own.lora = lora;
    let n = request.params.num_return_sequences.unwrap_or(1);
    let id = format!("chatcmpl-{}", fresh());
    let reply = Reply::new(
        ReplyKind::Chat,
        id,
        now(),
        model.as_deref().unwrap_or(&app.options.model),
        n,
    )
    .with_usage(request.include_usage)
    .with_logprobs(request.params.logprobs.is_some());
    Ok(Wanted {
        requests: vec![own],
        stream: request.stream,
        form: reply,
    })
}

fn read_completion(app: &App, facts: &Facts, body: &[u8]) -> Result<Wanted<Reply>, ApiError> {
    let request = CompletionRequest::from_json(body)?;
    let lora = app.check_model(request.model.as_deref())?;
    let mut requests = request.to_engine(&facts.tokenizer)?;
    for request in &mut requests {
        request.lora.clone_from(&lora);
    }
    let id = format!("cmpl-{}", fresh());
    let model = lora.as_deref().unwrap_or(&app.options.model);
    let reply = request.reply(id, now(), model, &facts.tokenizer);
    Ok(Wanted {
        requests,
        stream: request.stream,
        form: reply,
    })
}

/// `GET /v1/models`
pub(crate) async fn models(State(app): State<Arc<App>>) -> Response {
    json_response(&json!({ "object": "list", "data": cards(&app) }))
}

/// `GET /v1/models/{id}`; names of models have slashes.
pub(crate) async fn model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    let name = if app.options.serves(&id) {
        app.options.model.as_str()
    } else {
        id.as_str()
    };
    if let Some(card) = cards(&app).into_iter().find(|card| card["id"] == name) {
        return json_response(&card);
    }
    let shown: String = id.chars().take(80).collect();
    let served = app.served_names();
    let message = format!("there is no model {shown:?}; expected {served}");
    let error = ApiError::new(ErrorKind::NotFound, message).with_code("model_not_found");
    Dialect::OpenAi.response(&error)
}

/// The model, and its LoRA adapters as models of their own.
fn cards(app: &App) -> Vec<Value> {
    let most = match app.text_limits() {
        Some(limits) => Some(limits.max_tokens),
        None => app.facts().ok().map(|facts| app.max_total_tokens(&facts)),
    };
    let model = app.options.model.as_str();
    let card = |name: &str, parent: Option<&str>, base: Option<&str>| {
        json!({
            "id": name,
            "object": "model",
            "created": app.started,
            "owned_by": "fireside",
            "parent": parent,
            "base_model": base,
            "max_model_len": most,
        })
    };
    let mut cards = vec![card(model, None, None)];
    let loras = app.loras();
    let adapted = loras
        .iter()
        .map(|own| card(&own.name, Some(model), own.lora.base()));
    cards.extend(adapted);
    cards
}
