//! Embeddings: `POST /v1/embeddings`, and `POST /embed` of Text Embeddings Inference.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use fireside_engine::EmbedTokens;
use fireside_openai::{ApiError, EmbeddingsRequest};

use super::texts::{Done, Forms, Texts, answer, written};
use crate::app::App;
use crate::http::envelope::RequestId;
use crate::http::error::Dialect;
use crate::worker::EmbedFacts;

/// `POST /v1/embeddings`
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let forms = Forms {
        dialect: Dialect::OpenAi,
        read: EmbeddingsRequest::from_json,
        write: reply,
    };
    answer(app, id, headers, body, forms).await
}

/// `POST /embed`, and `POST /` where the model makes embeddings.
pub(crate) async fn embed(
    State(app): State<Arc<App>>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let forms = Forms {
        dialect: Dialect::Tgi,
        read: EmbeddingsRequest::from_tei_json,
        write: vectors,
    };
    answer(app, id, headers, body, forms).await
}

impl Texts for EmbeddingsRequest {
    type Facts = EmbedFacts;

    fn facts(app: &App) -> Result<Arc<EmbedFacts>, ApiError> {
        app.embeds()
    }

    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn count(&self) -> (&'static str, usize) {
        (self.field(), self.inputs.len())
    }

    fn tokens(&self, facts: &EmbedFacts) -> Result<Vec<EmbedTokens>, ApiError> {
        Self::tokens(self, &facts.texts)
    }
}

fn reply(done: Done<EmbeddingsRequest>) -> Result<String, ApiError> {
    let texts = &done.facts.texts;
    written(
        &done
            .request
            .reply(&done.model, texts, done.states, done.tokens)?,
    )
}

fn vectors(done: Done<EmbeddingsRequest>) -> Result<String, ApiError> {
    written(&done.request.vectors(&done.facts.texts, done.states)?)
}
