//! From a body to engine requests that run, away from the threads that move bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fireside_engine::Request;
use fireside_openai::{ApiError, ErrorKind};

use crate::app::{Answer, App};
use crate::http::envelope::RequestId;
use crate::http::error::Names;
use crate::worker::Facts;

/// What a body asks for.
pub(crate) struct Wanted<T> {
    /// What the engine is to run.
    pub(crate) requests: Vec<Request>,
    pub(crate) stream: bool,
    /// What becomes of it.
    pub(crate) form: T,
}

/// A request that the engine took.
pub(crate) struct Begun<T> {
    pub(crate) answer: Answer,
    pub(crate) facts: Arc<Facts>,
    pub(crate) stream: bool,
    pub(crate) form: T,
    /// From the body until the requests were ready to run.
    pub(crate) validation: Duration,
}

/// Takes a place, makes requests of a body with `read`, holds them to the limits, and hands them to
/// the engine.
///
/// # Errors
///
/// No place, a body that means nothing, requests that the engine does not take.
pub(crate) async fn begin<T: Send + 'static>(
    app: &Arc<App>,
    id: RequestId,
    names: Names,
    read: impl FnOnce(&App, &Facts) -> Result<Wanted<T>, ApiError> + Send + 'static,
) -> Result<Begun<T>, ApiError> {
    let entry = app.admit(id.0)?;
    let facts = app.facts()?;
    let began = Instant::now();
    // The place goes with the work: a client that leaves does not give it back before that is done.
    let (entry, wanted) = prepare(app, &facts, move |app, facts| {
        let mut wanted = read(app, facts)?;
        app.fit(facts, &names, &mut wanted.requests)?;
        Ok((entry, wanted))
    })
    .await?;
    let validation = began.elapsed();
    app.shared.metrics.validated(validation);
    let answer = app.submit(wanted.requests, entry, wanted.stream).await?;
    Ok(Begun {
        answer,
        facts,
        stream: wanted.stream,
        form: wanted.form,
        validation,
    })
}

/// Runs what parses, renders and tokenizes on a thread that may be busy for a while. A request that
/// makes it panic is answered with an error, and hurts nobody else.
///
/// # Errors
///
/// Those of `work`.
pub(crate) async fn prepare<F: Send + Sync + 'static, T: Send + 'static>(
    app: &Arc<App>,
    facts: &Arc<F>,
    work: impl FnOnce(&App, &F) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let (own_app, own_facts) = (Arc::clone(app), Arc::clone(facts));
    let done = tokio::task::spawn_blocking(move || work(&own_app, &own_facts)).await;
    match done {
        Ok(result) => result.inspect_err(|error| app.count_refusal(error)),
        Err(_) => Err(ApiError::new(
            ErrorKind::Server,
            "the request could not be read: this is a fault of the server",
        )),
    }
}
