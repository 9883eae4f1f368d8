//! What wraps every request: its id, its log line, and the key that it needs.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use fireside_openai::{ApiError, ErrorKind};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tracing::Instrument;

use crate::app::App;
use crate::http::error::Dialect;
use crate::trace;

/// Longest id that is taken over from a client.
const LONGEST_ID: usize = 128;

/// What monitors ask every few seconds; logged on request only.
const PROBES: [&str; 4] = ["/health", "/health/ready", "/ping", "/metrics"];

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request: the client's, or a new one.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) Arc<str>);

/// Gives every request an id, and every answer the same; logs what was asked and answered.
pub(crate) async fn identify(mut request: Request, next: Next) -> Response {
    let given = request.headers().get(&REQUEST_ID);
    let given = given.and_then(|id| id.to_str().ok()).filter(|id| {
        (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    });
    let id: Arc<str> = given.map_or_else(fresh, str::to_owned).into();
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let method = request.method().clone();
    let path: Arc<str> = request.uri().path().into();
    let began = Instant::now();
    let span = trace::request(&request, &id);
    let mut response = next.run(request).instrument(span.clone()).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let status = response.status().as_u16();
    span.record("http.response.status_code", status);
    let ms = began.elapsed().as_millis() as u64;
    if status < 400 && PROBES.contains(&&*path) {
        tracing::debug!(request_id = %id, %method, %path, status, ms, "answered");
    } else {
        tracing::info!(request_id = %id, %method, %path, status, ms, "answered");
    }
    response
}

/// 128 random bits in hexadecimal.
pub(crate) fn fresh() -> String {
    let mut bytes = [0u8; 16];
    // Without a source of randomness ids are no longer unique, and everything else works.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The keys that are accepted, as digests: comparing them takes the same time whatever a client
/// sends.
#[derive(Debug, Clone)]
pub(crate) struct Keys(Arc<[[u8; 32]]>);

impl Keys {
    pub(crate) fn new(keys: &[String]) -> Self {
        Self(keys.iter().map(|key| Sha256::digest(key).into()).collect())
    }

    fn accepts(&self, key: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(key).into();
        let all = self.0.iter();
        all.fold(Choice::from(0), |found, own| found | own.ct_eq(&digest))
            .into()
    }
}

/// Lets only those in who have a key.
pub(crate) async fn authorize(
    State((app, keys)): State<(Arc<App>, Keys)>,
    request: Request,
    next: Next,
) -> Response {
    if app.options.api_keys.is_empty() {
        return next.run(request).await;
    }
    let path = request.uri().path();
    let header = request.headers().get(header::AUTHORIZATION);
    let key = header
        .and_then(|value| value.to_str().ok()?.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key.trim());
    if key.is_some_and(|key| keys.accepts(key)) {
        return next.run(request).await;
    }
    let message = match key {
        None => "no api key: expected the header authorization with Bearer and the key",
        Some(_) => "the api key is wrong",
    };
    let error = ApiError::new(ErrorKind::Unauthorized, message).with_code("invalid_api_key");
    Dialect::of(path).response(&error)
}
