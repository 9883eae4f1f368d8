//! The routes, each only a translation.

mod embeddings;
mod loras;
mod openai;
pub(crate) mod operations;
mod rerank;
mod texts;
mod tgi;
mod tokens;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, Method};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use fireside_openai::{ApiError, ErrorKind};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use crate::app::App;
use crate::http::envelope::{Keys, authorize, identify};
use crate::http::error::Dialect;
use crate::http::visitors::{Visitors, turn_away};
use crate::{docs, site};

/// All routes, for a server that listens on this address.
pub(crate) fn router(app: Arc<App>, address: Option<IpAddr>) -> Router {
    let keys = Keys::new(&app.options.api_keys);
    let visitors = Visitors::new(&app.options, address);
    let guarded = Router::new()
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/completions", post(openai::completions))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/load_lora_adapter", post(loras::load))
        .route("/v1/unload_lora_adapter", post(loras::unload))
        .route("/v1/rerank", post(rerank::documents))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*id}", get(openai::model))
        .route("/", post(tgi::switch))
        .route("/embed", post(embeddings::embed))
        .route("/rerank", post(rerank::texts))
        .route("/generate", post(tgi::generate))
        .route("/generate_stream", post(tgi::generate_stream))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/chat_tokenize", post(tokens::chat_tokenize))
        .route("/metrics", get(operations::metrics))
        .route("/info", get(operations::info))
        .route("/version", get(operations::version))
        .merge(docs::router())
        .route_layer(from_fn_with_state((Arc::clone(&app), keys), authorize))
        .route_layer(from_fn_with_state(visitors, turn_away));
    let open = Router::new()
        .route("/", get(site::root))
        .route("/health", get(operations::health))
        .route("/health/ready", get(operations::ready))
        .route("/ping", get(operations::health));
    let router = site::files(guarded.merge(open), app.options.web_root.as_deref())
        .method_not_allowed_fallback(wrong_method);
    let router = match cors(&app) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.layer(from_fn(identify)).with_state(app)
}

/// Which pages of other origins may call; none unless the owner says so.
fn cors(app: &App) -> Option<CorsLayer> {
    let origins = &app.options.cors_allow_origin;
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST])
        // A star would leave out `authorization`, which clients with a key send.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(Any);
    match origins.as_slice() {
        [] => None,
        all if all.iter().any(|origin| origin == "*") => Some(layer.allow_origin(Any)),
        some => {
            let origins = some.iter().filter_map(|o| HeaderValue::from_str(o).ok());
            Some(layer.allow_origin(origins.collect::<Vec<_>>()))
        }
    }
}

pub(crate) async fn unknown_path(request: Request) -> Response {
    let path = request.uri().path();
    let shown: String = path.chars().take(80).collect();
    let message = format!("there is nothing at {shown}; GET /info says what is served");
    let error = ApiError::new(ErrorKind::NotFound, message).with_code("not_found");
    Dialect::of(path).response(&error)
}

async fn wrong_method(request: Request) -> Response {
    let path = request.uri().path();
    let message = format!("{path} cannot be called with {}", request.method());
    let error = ApiError::new(ErrorKind::MethodNotAllowed, message);
    Dialect::of(path).response(&error)
}
