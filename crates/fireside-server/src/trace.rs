//! Spans for OpenTelemetry: one for each HTTP request, and within it one for what is generated.
//!
//! They cost nothing unless the owner's subscriber has a layer that takes the target
//! [`TARGET`]; logs are events, and carry the request's id themselves.

use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use fireside_engine::Finished;
use opentelemetry::global;
use opentelemetry_http::HeaderExtractor;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The target of all spans.
pub const TARGET: &str = "fireside::trace";

/// The span of an HTTP request, in the trace that the client's `traceparent` names.
pub(crate) fn request(request: &Request, id: &str) -> Span {
    let method = request.method().as_str();
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("unknown", MatchedPath::as_str);
    let span = tracing::info_span!(
        target: TARGET,
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        url.path = request.uri().path(),
        http.response.status_code = Empty,
        request_id = id,
    );
    if !span.is_disabled() {
        let headers = HeaderExtractor(request.headers());
        let parent = global::get_text_map_propagator(|propagator| propagator.extract(&headers));
        // Without OpenTelemetry there is no trace that it could belong to.
        let _ = span.set_parent(parent);
    }
    span
}

/// The span of a generation, from its admission to its last token. It has the attributes that vLLM
/// gives: counts in tokens, times in seconds.
#[derive(Debug)]
pub(crate) struct Generation {
    span: Span,
    arrived: Instant,
    prompt: usize,
    cached: usize,
    generated: usize,
    queued: Duration,
    first_token: Option<Duration>,
}

impl Generation {
    /// Begins in the span of the request that is handled now.
    pub(crate) fn new(id: &str, model: &str, arrived: Instant) -> Self {
        let span = tracing::info_span!(
            target: TARGET,
            "llm_request",
            gen_ai.request.id = id,
            gen_ai.response.model = model,
            gen_ai.usage.prompt_tokens = Empty,
            gen_ai.usage.cached_tokens = Empty,
            gen_ai.usage.completion_tokens = Empty,
            gen_ai.latency.time_in_queue = Empty,
            gen_ai.latency.time_to_first_token = Empty,
            gen_ai.latency.e2e = Empty,
        );
        Self {
            span,
            arrived,
            prompt: 0,
            cached: 0,
            generated: 0,
            queued: Duration::ZERO,
            first_token: None,
        }
    }

    /// A token came; only the first one counts.
    pub(crate) fn token(&mut self, now: Instant) {
        self.first_token.get_or_insert(now - self.arrived);
    }

    /// A sequence came to its end.
    pub(crate) fn finished(&mut self, finished: &Finished) {
        let stats = &finished.stats;
        self.prompt += stats.prompt_tokens;
        self.cached += stats.cached_tokens;
        self.generated += stats.generated_tokens;
        self.queued = self.queued.max(stats.queued);
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if self.span.is_disabled() {
            return;
        }
        let span = &self.span;
        span.record("gen_ai.usage.prompt_tokens", self.prompt);
        span.record("gen_ai.usage.cached_tokens", self.cached);
        span.record("gen_ai.usage.completion_tokens", self.generated);
        span.record("gen_ai.latency.time_in_queue", self.queued.as_secs_f64());
        if let Some(first) = self.first_token {
            span.record("gen_ai.latency.time_to_first_token", first.as_secs_f64());
        }
        let whole = self.arrived.elapsed().as_secs_f64();
        span.record("gen_ai.latency.e2e", whole);
    }
}
