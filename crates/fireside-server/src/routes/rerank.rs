//! Reranking: `POST /v1/rerank`, and `POST /rerank` of Text Embeddings Inference.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use fireside_engine::EmbedTokens;
use fireside_openai::{ApiError, RerankRequest};

use super::texts::{Done, Forms, Texts, answer, written};
use crate::app::App;
use crate::http::envelope::{RequestId, fresh};
use crate::http::error::Dialect;
use crate::worker::RankFacts;

/// `POST /v1/rerank`
pub(crate) async fn documents(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let forms = Forms {
        dialect: Dialect::OpenAi,
        read: RerankRequest::from_json,
        write: reply,
    };
    answer(app, id, headers, body, forms).await
}

/// `POST /rerank`, and `POST /` where the model scores texts.
pub(crate) async fn texts(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let forms = Forms {
        dialect: Dialect::Tgi,
        read: RerankRequest::from_tei_json,
        write: ranks,
    };
    answer(app, id, headers, body, forms).await
}

impl Texts for RerankRequest {
    type Facts = RankFacts;

    fn facts(app: &App) -> Result<Arc<RankFacts>, ApiError> {
        app.ranks()
    }

    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn count(&self) -> (&'static str, usize) {
        (self.field(), self.texts.len())
    }

    fn tokens(&self, facts: &RankFacts) -> Result<Vec<EmbedTokens>, ApiError> {
        Self::tokens(self, &facts.texts)
    }
}

fn reply(done: Done<RerankRequest>) -> Result<String, ApiError> {
    let id = format!("rerank-{}", fresh());
    let reply = done.request.reply(
        id,
        &done.model,
        &done.facts.texts,
        &done.states,
        done.tokens,
    );
    written(&reply?)
}

fn ranks(done: Done<RerankRequest>) -> Result<String, ApiError> {
    written(&done.request.ranks(&done.facts.texts, &done.states)?)
}
