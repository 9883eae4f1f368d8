//! Embeddings: `POST /v1/embeddings`, and `POST /embed` of Text Embeddings Inference.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use fireside_engine::EmbedTexts;
use fireside_openai::{ApiError, EmbeddingsRequest};
use serde_json::Value;

use crate::app::App;
use crate::http::body;
use crate::http::envelope::RequestId;
use crate::http::error::{Dialect, json_response};
use crate::prepare::prepare;

/// `POST /v1/embeddings`
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let embedded = run(&app, id, &headers, body, EmbeddingsRequest::from_json).await;
    let reply = embedded.and_then(|embedded| embedded.reply(&app.options.model));
    match reply {
        Ok(reply) => json_response(&reply),
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
    let embedded = run(&app, id, &headers, body, EmbeddingsRequest::from_tei_json).await;
    match embedded.and_then(Embedded::tei_reply) {
        Ok(reply) => json_response(&reply),
        Err(error) => Dialect::Tgi.response(&error),
    }
}

/// A request whose texts have run.
struct Embedded {
    request: EmbeddingsRequest,
    texts: EmbedTexts,
    pooled: Vec<Vec<f32>>,
    /// Of all texts.
    tokens: usize,
}

impl Embedded {
    fn reply(self, model: &str) -> Result<Value, ApiError> {
        self.request
            .reply(model, &self.texts, self.pooled, self.tokens)
    }

    fn tei_reply(self) -> Result<Value, ApiError> {
        self.request.tei_reply(&self.texts, self.pooled)
    }
}

async fn run(
    app: &Arc<App>,
    id: RequestId,
    headers: &HeaderMap,
    body: Body,
    read: fn(&[u8]) -> Result<EmbeddingsRequest, ApiError>,
) -> Result<Embedded, ApiError> {
    let bytes = body::read(app, headers, body).await?;
    let entry = app.admit(id.0)?;
    let facts = app.embeds()?;
    // The place goes with the work: a client that leaves does not give it back before that is done.
    let (entry, request, texts) = prepare(app, &facts, move |app, facts| {
        let request = read(&bytes)?;
        app.check_model(request.model.as_deref())?;
        let texts = request.tokens(&facts.texts)?;
        Ok((entry, request, texts))
    })
    .await?;
    let tokens = texts.iter().map(Vec::len).sum();
    Ok(Embedded {
        pooled: app.embed(texts, entry).await?,
        texts: facts.texts.clone(),
        request,
        tokens,
    })
}
