//! What browsers get: the demo page, or a page that says what is served.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::handler::HandlerWithoutStateExt;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use tower_http::services::ServeDir;

use crate::app::App;
use crate::routes::{operations, unknown_path};

/// The page for servers without a demo page.
const LANDING: &str = include_str!("landing.html");
/// It has no script, and only the style that stands in it.
const LANDING_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const INDEX: &str = "index.html";

/// `GET /`: the page for browsers; for all others health, as with TGI.
pub(crate) async fn root(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter();
    let browser = accept
        .filter_map(|accept| accept.to_str().ok())
        .any(|accept| accept.contains("text/html"));
    let mut response = if browser {
        page(&app, &headers).await
    } else {
        operations::health(State(app)).await
    };
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

async fn page(app: &App, headers: &HeaderMap) -> Response {
    let Some(root) = &app.options.web_root else {
        let policy = [(header::CONTENT_SECURITY_POLICY, LANDING_POLICY)];
        let page = LANDING
            .replace("{address}", &address(app, headers))
            .replace("{model}", &escape(&app.options.model))
            .replace("{version}", env!("CARGO_PKG_VERSION"));
        return (policy, Html(page)).into_response();
    };
    match tokio::fs::read_to_string(root.join(INDEX)).await {
        Ok(page) => ([(header::CACHE_CONTROL, "no-cache")], Html(page)).into_response(),
        Err(error) => {
            tracing::error!(root = %root.display(), %error, "the demo page cannot be read");
            StatusCode::NOT_FOUND.into_response()
        }
    }
}

/// This server's address, as the client wrote it.
fn address(app: &App, headers: &HeaderMap) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let scheme = if app.options.tls.is_some() {
        "https"
    } else {
        "http"
    };
    format!("{scheme}://{}", escape(host.unwrap_or("localhost")))
}

/// The demo page's files for every path that is no route.
pub(crate) fn files(router: Router<Arc<App>>, root: Option<&Path>) -> Router<Arc<App>> {
    match root {
        None => router.fallback(unknown_path),
        Some(root) => {
            let files = ServeDir::new(root)
                .append_index_html_on_directories(false)
                .call_fallback_on_method_not_allowed(true)
                .fallback(unknown_path.into_service());
            router.fallback_service(files)
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
