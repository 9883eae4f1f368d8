//! Logs to stderr, and traces to an OpenTelemetry collector.

use std::future::Future;
use std::io::IsTerminal;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use fireside_server::TRACE_TARGET;
use opentelemetry::global;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Where a collector takes spans over HTTP.
const PATH: &str = "/v1/traces";
/// Longest wait for a collector; spans that it does not take are dropped.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// Where traces go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Collector<'a> {
    pub(super) endpoint: &'a str,
    pub(super) service: &'a str,
}

/// What has to be kept while there is something to trace; the last spans are sent when it is dropped.
#[derive(Debug)]
pub(super) struct Telemetry(Option<SdkTracerProvider>);

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = &self.0 {
            // A collector that is gone cannot be told.
            let _ = provider.shutdown();
        }
    }
}

/// Begins to log, and to trace where there is a collector. `FIRESIDE_LOG` chooses what is logged.
///
/// # Errors
///
/// An endpoint that is no URL.
pub(super) fn begin(format: LogFormat, collector: Option<Collector>) -> Result<Telemetry> {
    let chosen = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("FIRESIDE_LOG")
        .from_env_lossy();
    let log = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let log = match format {
        LogFormat::Text => log.boxed(),
        LogFormat::Json => log.json().flatten_event(true).boxed(),
    };
    // Spans are for traces; the lines of the log carry the request's id themselves.
    let events = filter_fn(|metadata| metadata.target() != TRACE_TARGET);
    let log = log.with_filter(chosen).with_filter(events);
    let provider = collector.map(provider).transpose()?;
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("fireside"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target(TRACE_TARGET, LevelFilter::INFO))
    });
    // A logger that is there already stays.
    let _ = tracing_subscriber::registry()
        .with(log)
        .with(traces)
        .try_init();
    Ok(Telemetry(provider))
}

fn provider(collector: Collector) -> Result<SdkTracerProvider> {
    let endpoint = endpoint(collector.endpoint);
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .build()
        .into();
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client(agent))
        .with_endpoint(endpoint)
        .build()
        .with_context(|| format!("--otlp-endpoint {}", collector.endpoint))?;
    global::set_text_map_propagator(TraceContextPropagator::new());
    let service = Resource::builder().with_service_name(collector.service.to_owned());
    Ok(SdkTracerProvider::builder()
        .with_resource(service.build())
        .with_batch_exporter(exporter)
        .build())
}

/// The address of a collector's traces, from that of the collector.
fn endpoint(given: &str) -> String {
    let given = given.trim_end_matches('/');
    let rest = given.split_once("://").map_or(given, |(_, rest)| rest);
    if rest.contains('/') {
        given.to_owned()
    } else {
        format!("{given}{PATH}")
    }
}

/// Sends spans from the exporter's own thread, which may wait.
#[derive(Debug)]
struct Client(ureq::Agent);

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let request = Request::from_parts(head, body.to_vec());
            let (head, mut body) = self.0.run(request)?.into_parts();
            let body = body.read_to_vec()?;
            Ok(Response::from_parts(head, body.into()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_without_a_path_takes_traces_at_the_usual_one() {
        for (given, expected) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
            ("http://otel/v1/traces", "http://otel/v1/traces"),
            ("http://otel/own/path", "http://otel/own/path"),
        ] {
            assert_eq!(endpoint(given), expected);
        }
    }
}
