//! From a body to engine requests, away from the threads that move bytes.

use std::sync::Arc;
use std::time::Instant;

use fireside_openai::{ApiError, ErrorKind};

use crate::app::App;
use crate::worker::Facts;

/// Runs what parses, renders and tokenizes on a thread that may be busy for a while. A request that
/// makes it panic is answered with an error, and hurts nobody else.
///
/// # Errors
///
/// Those of `work`.
pub(crate) async fn prepare<T: Send + 'static>(
    app: &Arc<App>,
    facts: &Arc<Facts>,
    work: impl FnOnce(&App, &Facts) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let began = Instant::now();
    let (own_app, own_facts) = (Arc::clone(app), Arc::clone(facts));
    let done = tokio::task::spawn_blocking(move || work(&own_app, &own_facts)).await;
    app.shared.metrics.validated(began.elapsed());
    match done {
        Ok(result) => result.inspect_err(|error| app.count_refusal(error)),
        Err(_) => Err(ApiError::new(
            ErrorKind::Server,
            "the request could not be read: this is a fault of the server",
        )),
    }
}
