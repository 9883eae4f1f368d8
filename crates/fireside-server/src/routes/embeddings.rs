//! Embeddings: `POST /v1/embeddings`, and `POST /embed` of Text Embeddings Inference.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use fireside_engine::{EmbedTexts, EmbedTokens};
use fireside_openai::{ApiError, EmbeddingsRequest, ErrorKind};
use serde::Serialize;

use crate::app::App;
use crate::embed_worker::Embedded;
use crate::http::body;
use crate::http::envelope::RequestId;
use crate::http::error::{Dialect, json_text};
use crate::prepare::prepare;

/// Makes a request of a body.
type Read = fn(&[u8]) -> Result<EmbeddingsRequest, ApiError>;
/// Writes an answer.
type Write = fn(Done) -> Result<String, ApiError>;

/// `POST /v1/embeddings`
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let forms: (Read, Write) = (EmbeddingsRequest::from_json, Done::reply);
    match run(&app, id, &headers, body, forms).await {
        Ok(text) => json_text(text),
        Err(error) => Dialect::OpenAi.response(&error),
    }
}

/// `POST /embed`, and `POST /` where the model makes embeddings.
pub(crate) async fn embed(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let forms: (Read, Write) = (EmbeddingsRequest::from_tei_json, Done::vectors);
    match run(&app, id, &headers, body, forms).await {
        Ok(text) => json_text(text),
        Err(error) => Dialect::Tgi.response(&error),
    }
}

/// A request whose texts have run.
struct Done {
    request: EmbeddingsRequest,
    texts: EmbedTexts,
    model: String,
    pooled: Vec<Vec<f32>>,
    /// Of all texts.
    tokens: usize,
}

impl Done {
    fn reply(self) -> Result<String, ApiError> {
        let (request, texts) = (self.request, self.texts);
        written(&request.reply(&self.model, &texts, self.pooled, self.tokens)?)
    }

    fn vectors(self) -> Result<String, ApiError> {
        written(&self.request.vectors(&self.texts, self.pooled)?)
    }
}

/// Sees that a request has not too many texts.
pub(super) fn check_count(app: &App, field: &str, count: usize) -> Result<(), ApiError> {
    let most = app.options.texts_at_once();
    if count <= most {
        return Ok(());
    }
    let message = format!("{field} has {count} entries; expected at most {most}");
    Err(ApiError::invalid(field, message))
}

pub(super) fn written(reply: &impl Serialize) -> Result<String, ApiError> {
    serde_json::to_string(reply)
        .map_err(|error| ApiError::new(ErrorKind::Server, format!("the answer: {error}")))
}

async fn run(
    app: &Arc<App>,
    id: RequestId,
    headers: &HeaderMap,
    body: Body,
    (read, write): (Read, Write),
) -> Result<String, ApiError> {
    let bytes = body::read(app, headers, body).await?;
    let entry = app.admit(id.0)?;
    let facts = app.embeds()?;
    let began = Instant::now();
    // The place goes with the work: a client that leaves does not give it back before that is done.
    let (entry, request, texts) = prepare(app, &facts, move |app, facts| {
        let request = read(&bytes)?;
        app.check_model(request.model.as_deref())?;
        check_count(app, request.field(), request.inputs.len())?;
        let texts = request.tokens(&facts.texts)?;
        Ok((entry, request, texts))
    })
    .await?;
    app.shared.metrics.validated(began.elapsed());
    let tokens = texts.iter().map(EmbedTokens::len).sum();
    let Embedded { pooled, permit } = app.embed(texts, entry).await?;
    let done = Done {
        texts: facts.texts.clone(),
        model: app.options.model.clone(),
        request,
        pooled,
        tokens,
    };
    // An answer is many times as large as what it is made of.
    prepare(app, &facts, move |_, _| {
        let _place = permit;
        write(done)
    })
    .await
}
