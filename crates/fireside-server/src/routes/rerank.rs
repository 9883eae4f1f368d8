//! Reranking: `POST /v1/rerank`, and `POST /rerank` of Text Embeddings Inference.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use fireside_engine::{EmbedTokens, RankTexts};
use fireside_openai::{ApiError, RerankRequest};

use super::embeddings::{check_count, written};
use crate::app::App;
use crate::embed_worker::Embedded;
use crate::http::body;
use crate::http::envelope::{RequestId, fresh};
use crate::http::error::{Dialect, json_text};
use crate::prepare::prepare;

/// Makes a request of a body.
type Read = fn(&[u8]) -> Result<RerankRequest, ApiError>;
/// Writes an answer.
type Write = fn(Done) -> Result<String, ApiError>;

/// `POST /v1/rerank`
pub(crate) async fn documents(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let forms: (Read, Write) = (RerankRequest::from_json, Done::reply);
    match run(&app, id, &headers, body, forms).await {
        Ok(text) => json_text(text),
        Err(error) => Dialect::OpenAi.response(&error),
    }
}

/// `POST /rerank`, and `POST /` where the model scores texts.
pub(crate) async fn texts(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let forms: (Read, Write) = (RerankRequest::from_tei_json, Done::ranks);
    match run(&app, id, &headers, body, forms).await {
        Ok(text) => json_text(text),
        Err(error) => Dialect::Tgi.response(&error),
    }
}

/// A request whose pairs have run.
struct Done {
    request: RerankRequest,
    texts: RankTexts,
    model: String,
    /// The hidden state of each pair's first token.
    states: Vec<Vec<f32>>,
    /// Of all pairs.
    tokens: usize,
}

impl Done {
    fn reply(self) -> Result<String, ApiError> {
        let id = format!("rerank-{}", fresh());
        let reply = self
            .request
            .reply(id, &self.model, &self.texts, &self.states, self.tokens);
        written(&reply?)
    }

    fn ranks(self) -> Result<String, ApiError> {
        written(&self.request.ranks(&self.texts, &self.states)?)
    }
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
    let facts = app.ranks()?;
    let began = Instant::now();
    // The place goes with the work: a client that leaves does not give it back before that is done.
    let (entry, request, pairs) = prepare(app, &facts, move |app, facts| {
        let request = read(&bytes)?;
        app.check_model(request.model.as_deref())?;
        check_count(app, request.field(), request.texts.len())?;
        let pairs = request.tokens(&facts.texts)?;
        Ok((entry, request, pairs))
    })
    .await?;
    app.shared.metrics.validated(began.elapsed());
    let tokens = pairs.iter().map(EmbedTokens::len).sum();
    let Embedded { pooled, permit } = app.embed(pairs, entry).await?;
    let done = Done {
        texts: facts.texts.clone(),
        model: app.options.model.clone(),
        request,
        states: pooled,
        tokens,
    };
    // The head is the host's.
    prepare(app, &facts, move |_, _| {
        let _place = permit;
        write(done)
    })
    .await
}
