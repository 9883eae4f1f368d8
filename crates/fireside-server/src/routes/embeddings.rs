//! `POST /v1/embeddings`

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use fireside_openai::{ApiError, EmbeddingsRequest};

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
    let result = embed(&app, id, &headers, body).await;
    result.unwrap_or_else(|error| Dialect::OpenAi.response(&error))
}

async fn embed(
    app: &Arc<App>,
    id: RequestId,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let bytes = body::read(app, headers, body).await?;
    let entry = app.admit(id.0)?;
    let facts = app.embeds()?;
    // The place goes with the work: a client that leaves does not give it back before that is done.
    let (entry, request, texts) = prepare(app, &facts, move |app, facts| {
        let request = EmbeddingsRequest::from_json(&bytes)?;
        app.check_model(request.model.as_deref())?;
        let texts = request.tokens(&facts.texts)?;
        Ok((entry, request, texts))
    })
    .await?;
    let tokens = texts.iter().map(Vec::len).sum();
    let pooled = app.embed(texts, entry).await?;
    let reply = request.reply(&app.options.model, &facts.texts, pooled, tokens)?;
    Ok(json_response(&reply))
}
