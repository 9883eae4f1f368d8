//! Requests of one pass over texts: embeddings and scores take the same way from a body to an answer.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use fireside_engine::EmbedTokens;
use fireside_openai::{ApiError, ErrorKind};
use serde::Serialize;

use crate::app::App;
use crate::embed_worker::Embedded;
use crate::http::body;
use crate::http::envelope::RequestId;
use crate::http::error::{Dialect, json_text};
use crate::prepare::prepare;

/// A request whose texts run once.
pub(super) trait Texts: Sized + Send + 'static {
    /// What is known of the served model.
    type Facts: Send + Sync + 'static;

    /// The model's facts, if it makes what is asked for.
    fn facts(app: &App) -> Result<Arc<Self::Facts>, ApiError>;

    /// The model that the request names.
    fn model(&self) -> Option<&str>;

    /// The field of the texts, and how many there are.
    fn count(&self) -> (&'static str, usize);

    /// The tokens to run.
    fn tokens(&self, facts: &Self::Facts) -> Result<Vec<EmbedTokens>, ApiError>;
}

/// A request whose texts have run.
pub(super) struct Done<T: Texts> {
    pub(super) request: T,
    pub(super) facts: Arc<T::Facts>,
    /// The served model's name.
    pub(super) model: String,
    /// The hidden state of each text, pooled as the model does.
    pub(super) states: Vec<Vec<f32>>,
    /// Of all texts.
    pub(super) tokens: usize,
}

/// A route's forms: how a body is read, and how an answer is written.
pub(super) struct Forms<T: Texts> {
    pub(super) dialect: Dialect,
    pub(super) read: fn(&[u8]) -> Result<T, ApiError>,
    pub(super) write: fn(Done<T>) -> Result<String, ApiError>,
}

/// Answers a request.
pub(super) async fn answer<T: Texts>(
    app: Arc<App>,
    id: RequestId,
    headers: HeaderMap,
    body: Body,
    forms: Forms<T>,
) -> Response {
    let dialect = forms.dialect;
    match run(&app, id, &headers, body, forms).await {
        Ok(text) => json_text(text),
        Err(error) => dialect.response(&error),
    }
}

async fn run<T: Texts>(
    app: &Arc<App>,
    id: RequestId,
    headers: &HeaderMap,
    body: Body,
    Forms { read, write, .. }: Forms<T>,
) -> Result<String, ApiError> {
    let bytes = body::read(app, headers, body).await?;
    let entry = app.admit(id.0)?;
    let facts = T::facts(app)?;
    let began = Instant::now();
    // The place goes with the work: a client that leaves does not give it back before that is done.
    let (entry, request, texts) = prepare(app, &facts, move |app, facts| {
        let request = read(&bytes)?;
        app.check_model(request.model())?;
        check_count(app, request.count())?;
        let texts = request.tokens(facts)?;
        Ok((entry, request, texts))
    })
    .await?;
    app.shared.metrics.validated(began.elapsed());
    let tokens = texts.iter().map(EmbedTokens::len).sum();
    let Embedded { pooled, permit } = app.embed(texts, entry).await?;
    let done = Done {
        facts: Arc::clone(&facts),
        model: app.options.model.clone(),
        request,
        states: pooled,
        tokens,
    };
    // An answer is many times as large as what it is made of, and a head of scores is the host's.
    prepare(app, &facts, move |_, _| {
        let _place = permit;
        write(done)
    })
    .await
}

/// Sees that a request has not too many texts.
fn check_count(app: &App, (field, count): (&str, usize)) -> Result<(), ApiError> {
    let most = app.options.texts_at_once();
    if count <= most {
        return Ok(());
    }
    let message = format!("{field} has {count} entries; expected at most {most}");
    Err(ApiError::invalid(field, message))
}

/// A reply as JSON.
pub(super) fn written(reply: &impl Serialize) -> Result<String, ApiError> {
    serde_json::to_string(reply)
        .map_err(|error| ApiError::new(ErrorKind::Server, format!("the answer: {error}")))
}
