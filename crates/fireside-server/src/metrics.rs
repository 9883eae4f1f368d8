//! Prometheus metrics under TGI's and vLLM's names, so that both projects' dashboards fill.
//!
//! TGI's counters have no `_total` at their ends, vLLM's have. Both sets are fed from the same
//! events; none has a value of its own.

use std::collections::HashMap;
use std::time::Duration;

use fireside_engine::{EngineStats, FinishReason, Finished, Request};
use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder, exponential_buckets,
};

/// vLLM's buckets for the time to the first token.
const FIRST_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];
/// vLLM's buckets for the time between tokens.
const BETWEEN_TOKENS: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
];
/// vLLM's buckets for whole requests and their parts.
const REQUEST: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
];
/// Buckets for numbers of tokens, in vLLM's steps of 1, 2 and 5.
const TOKENS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5,
];
/// Buckets for numbers of sequences.
const SEQUENCES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];

/// The content type of what [`Metrics::render`] gives.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    tgi: Tgi,
    vllm: Vllm,
    slow_readers: IntCounterVec,
    body_bytes: IntGauge,
    draft_steps: IntCounter,
}

#[derive(Debug)]
struct Tgi {
    queue_size: IntGauge,
    batch_size: IntGauge,
    batch_tokens: IntGauge,
    most_tokens: IntGauge,
    concat: IntCounterVec,
    requests: IntCounter,
    successes: IntCounter,
    failures: IntCounterVec,
    batches: IntCounterVec,
    batch_successes: IntCounterVec,
    batch_failures: IntCounterVec,
    duration: Histogram,
    validation: Histogram,
    queue: Histogram,
    inference: Histogram,
    per_token: Histogram,
    generated: Histogram,
    input: Histogram,
    max_new: Histogram,
    skipped: Histogram,
    next_size: Histogram,
    forward: prometheus::HistogramVec,
    decode: prometheus::HistogramVec,
    filter: prometheus::HistogramVec,
    batch_inference: prometheus::HistogramVec,
}

#[derive(Debug)]
struct Vllm {
    running: IntGauge,
    waiting: IntGauge,
    cache: Gauge,
    cache_old: Gauge,
    prompt_tokens: IntCounter,
    generation_tokens: IntCounter,
    prefix_queries: IntCounter,
    prefix_hits: IntCounter,
    cached_tokens: IntCounter,
    preemptions: IntCounter,
    drafted: IntCounter,
    accepted: IntCounter,
    successes: IntCounterVec,
    rejections: IntCounterVec,
    first_token: Histogram,
    between: Histogram,
    between_old: Histogram,
    per_token: Histogram,
    e2e: Histogram,
    queue: Histogram,
    inference: Histogram,
    prefill: Histogram,
    decode: Histogram,
    prompt: Histogram,
    generation: Histogram,
    max_generation: Histogram,
    n: Histogram,
    max_tokens: Histogram,
    iteration: Histogram,
}

/// Makes metrics and registers them.
struct Maker {
    registry: Registry,
    labels: HashMap<String, String>,
}

impl Maker {
    fn add<C: Collector + Clone + 'static>(
        &self,
        metric: prometheus::Result<C>,
    ) -> prometheus::Result<C> {
        let metric = metric?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(name, help).const_labels(self.labels.clone())
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(IntGauge::with_opts(self.opts(name, help)))
    }

    fn share(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.add(Gauge::with_opts(self.opts(name, help)))
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(IntCounter::with_opts(self.opts(name, help)))
    }

    /// A counter with one label, at 0 for each of its values.
    fn counters(
        &self,
        (name, help): (&str, &str),
        label: &str,
        values: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let counters = self.add(IntCounterVec::new(self.opts(name, help), &[label]))?;
        for value in values {
            counters.with_label_values(&[value]).inc_by(0);
        }
        Ok(counters)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(buckets.to_vec());
        self.add(Histogram::with_opts(opts))
    }
}

impl Tgi {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let make = Maker {
            registry: registry.clone(),
            labels: HashMap::new(),
        };
        let seconds = exponential_buckets(0.0001, 1.5, 35)?;
        let methods = |name: &str, help: &str| {
            let opts = HistogramOpts::new(name, help).buckets(seconds.clone());
            make.add(prometheus::HistogramVec::new(opts, &["method"]))
        };
        let kinds = ["prefill", "decode"];
        Ok(Self {
            queue_size: make.gauge("tgi_queue_size", "Sequences that wait")?,
            batch_size: make.gauge("tgi_batch_current_size", "Sequences that run")?,
            batch_tokens: make.gauge(
                "tgi_batch_current_max_tokens",
                "Positions of the KV cache that running sequences hold",
            )?,
            most_tokens: make.gauge("tgi_batch_max_total_tokens", "Positions of the KV cache")?,
            concat: make.counters(
                (
                    "tgi_batch_concat",
                    "Steps in which sequences began beside others that ran",
                ),
                "reason",
                &["chunking"],
            )?,
            requests: make.counter("tgi_request_count", "Requests received")?,
            successes: make.counter("tgi_request_success", "Requests answered to their ends")?,
            failures: make.counters(
                ("tgi_request_failure", "Requests that failed, and how"),
                "err",
                &[
                    "overloaded",
                    "validation",
                    "incomplete",
                    "generation",
                    "dropped",
                    "template",
                ],
            )?,
            batches: make.counters(
                ("tgi_batch_inference_count", "Steps begun"),
                "method",
                &kinds,
            )?,
            batch_successes: make.counters(
                (
                    "tgi_batch_inference_success",
                    "Steps that came to their ends",
                ),
                "method",
                &kinds,
            )?,
            batch_failures: make.counters(
                ("tgi_batch_inference_failure", "Steps that failed"),
                "method",
                &kinds,
            )?,
            duration: make.histogram(
                "tgi_request_duration",
                "Seconds of whole requests",
                &seconds,
            )?,
            validation: make.histogram(
                "tgi_request_validation_duration",
                "Seconds from the body to tokens that are ready to run",
                &seconds,
            )?,
            queue: make.histogram(
                "tgi_request_queue_duration",
                "Seconds before the first step",
                &seconds,
            )?,
            inference: make.histogram(
                "tgi_request_inference_duration",
                "Seconds from the first step to the end",
                &seconds,
            )?,
            per_token: make.histogram(
                "tgi_request_mean_time_per_token_duration",
                "Mean seconds of a token of a request",
                &seconds,
            )?,
            generated: make.histogram(
                "tgi_request_generated_tokens",
                "Tokens generated",
                TOKENS,
            )?,
            input: make.histogram("tgi_request_input_length", "Tokens of prompts", TOKENS)?,
            max_new: make.histogram("tgi_request_max_new_tokens", "Tokens asked for", TOKENS)?,
            skipped: make.histogram(
                "tgi_request_skipped_tokens",
                "Prompt tokens found in the prefix cache",
                TOKENS,
            )?,
            next_size: make.histogram("tgi_batch_next_size", "Sequences of a step", SEQUENCES)?,
            forward: methods(
                "tgi_batch_forward_duration",
                "Seconds of a step on the device",
            )?,
            decode: methods(
                "tgi_batch_decode_duration",
                "Seconds to make tokens and texts of what the device gave",
            )?,
            filter: methods(
                "tgi_batch_filter_duration",
                "Seconds to hand a step's tokens on and to end what is done",
            )?,
            batch_inference: methods("tgi_batch_inference_duration", "Seconds of a step")?,
        })
    }
}

impl Vllm {
    fn new(registry: &Registry, model: &str) -> prometheus::Result<Self> {
        let labels = [("model_name", model), ("engine", "0")];
        let make = Maker {
            registry: registry.clone(),
            labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        };
        let request = |name: &str, help: &str| make.histogram(name, help, REQUEST);
        let tokens = |name: &str, help: &str| make.histogram(name, help, TOKENS);
        let between = |name: &str| make.histogram(name, "Seconds between tokens", BETWEEN_TOKENS);
        let cache = |name: &str| make.share(name, "Share of the KV cache in use, 1 for all");
        Ok(Self {
            running: make.gauge("vllm:num_requests_running", "Sequences that run")?,
            waiting: make.gauge("vllm:num_requests_waiting", "Sequences that wait")?,
            cache: cache("vllm:kv_cache_usage_perc")?,
            cache_old: cache("vllm:gpu_cache_usage_perc")?,
            prompt_tokens: make.counter("vllm:prompt_tokens_total", "Prompt tokens run")?,
            generation_tokens: make.counter("vllm:generation_tokens_total", "Tokens generated")?,
            prefix_queries: make.counter(
                "vllm:prefix_cache_queries_total",
                "Prompt tokens looked up in the prefix cache",
            )?,
            prefix_hits: make.counter(
                "vllm:prefix_cache_hits_total",
                "Prompt tokens found in the prefix cache",
            )?,
            cached_tokens: make.counter(
                "vllm:prompt_tokens_cached_total",
                "Prompt tokens that were not run again",
            )?,
            preemptions: make.counter(
                "vllm:num_preemptions_total",
                "Times that a sequence lost its cache to older ones",
            )?,
            drafted: make.counter(
                "vllm:spec_decode_num_draft_tokens_total",
                "Tokens drafted beyond the next ones",
            )?,
            accepted: make.counter(
                "vllm:spec_decode_num_accepted_tokens_total",
                "Drafted tokens that were generated",
            )?,
            successes: make.counters(
                (
                    "vllm:request_success_total",
                    "Sequences that ended, and how",
                ),
                "finished_reason",
                &["stop", "length", "abort"],
            )?,
            rejections: make.counters(
                (
                    "vllm:admission_rejections_total",
                    "Requests not taken, and why",
                ),
                "reason",
                &["concurrency", "queue_full", "payload"],
            )?,
            first_token: make.histogram(
                "vllm:time_to_first_token_seconds",
                "Seconds to the first token",
                FIRST_TOKEN,
            )?,
            between: between("vllm:inter_token_latency_seconds")?,
            between_old: between("vllm:time_per_output_token_seconds")?,
            per_token: make.histogram(
                "vllm:request_time_per_output_token_seconds",
                "Mean seconds between the tokens of a request",
                BETWEEN_TOKENS,
            )?,
            e2e: request(
                "vllm:e2e_request_latency_seconds",
                "Seconds of whole requests",
            )?,
            queue: request(
                "vllm:request_queue_time_seconds",
                "Seconds before the first step",
            )?,
            inference: request(
                "vllm:request_inference_time_seconds",
                "Seconds from first step to end",
            )?,
            prefill: request(
                "vllm:request_prefill_time_seconds",
                "Seconds from first step to first token",
            )?,
            decode: request(
                "vllm:request_decode_time_seconds",
                "Seconds from first to last token",
            )?,
            prompt: tokens("vllm:request_prompt_tokens", "Tokens of prompts")?,
            generation: tokens("vllm:request_generation_tokens", "Tokens generated")?,
            max_generation: tokens("vllm:request_max_num_generation_tokens", "Tokens asked for")?,
            n: make.histogram("vllm:request_params_n", "Sequences asked for", SEQUENCES)?,
            max_tokens: tokens("vllm:request_params_max_tokens", "Tokens asked for")?,
            iteration: tokens("vllm:iteration_tokens_total", "Tokens of a step")?,
        })
    }
}

/// TGI's name of a step: one that runs prompts, or one that only goes on.
fn method(prefill: bool) -> &'static str {
    if prefill { "prefill" } else { "decode" }
}

impl Metrics {
    /// All metrics at 0, labelled with the model's name.
    ///
    /// # Errors
    ///
    /// None: names are fixed and differ.
    pub(crate) fn new(model: &str) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let make = Maker {
            registry: registry.clone(),
            labels: HashMap::from([("version".into(), env!("CARGO_PKG_VERSION").into())]),
        };
        make.gauge("fireside_build_info", "What is running; always 1")?
            .set(1);
        let plain = Maker {
            registry: registry.clone(),
            labels: HashMap::new(),
        };
        let slow_readers = plain.counters(
            (
                "fireside_slow_readers_total",
                "Clients that read too slowly, and what they lost",
            ),
            "lost",
            &["request", "connection"],
        )?;
        let body_bytes =
            plain.gauge("fireside_body_bytes", "Bytes of bodies that are being read")?;
        let draft_steps = plain.counter(
            "fireside_draft_steps_total",
            "Steps of the model that drafts",
        )?;
        Ok(Self {
            slow_readers,
            body_bytes,
            draft_steps,
            tgi: Tgi::new(&registry)?,
            vllm: Vllm::new(&registry, model)?,
            registry,
        })
    }

    /// A request for a generation came in.
    pub(crate) fn received(&self) {
        self.tgi.requests.inc();
    }

    /// A request came to its end.
    pub(crate) fn succeeded(&self) {
        self.tgi.successes.inc();
    }

    /// So many bytes of bodies are in memory.
    pub(crate) fn bodies(&self, bytes: usize) {
        self.body_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A request for embeddings or scores came to its end, with so many tokens in all.
    pub(crate) fn embedded(&self, tokens: usize, queued: Duration, whole: Duration) {
        self.tgi.successes.inc();
        self.tgi.input.observe(tokens as f64);
        self.tgi.queue.observe(queued.as_secs_f64());
        self.tgi.duration.observe(whole.as_secs_f64());
        self.vllm.prompt_tokens.inc_by(tokens as u64);
        self.vllm.prompt.observe(tokens as f64);
        self.vllm.queue.observe(queued.as_secs_f64());
        self.vllm.e2e.observe(whole.as_secs_f64());
    }

    /// A request failed: `overloaded`, `validation`, `template`, `generation` or `dropped`.
    pub(crate) fn failed(&self, kind: &str) {
        self.tgi.failures.with_label_values(&[kind]).inc();
    }

    /// A request was not taken, for want of this.
    pub(crate) fn rejected(&self, reason: &str) {
        self.failed("overloaded");
        self.vllm.rejections.with_label_values(&[reason]).inc();
    }

    /// A client read so slowly that it lost its `request` or its `connection`.
    pub(crate) fn slow_reader(&self, lost: &str) {
        self.slow_readers.with_label_values(&[lost]).inc();
    }

    /// A body became tokens.
    pub(crate) fn validated(&self, duration: Duration) {
        self.tgi.validation.observe(duration.as_secs_f64());
    }

    /// The engine took a request.
    pub(crate) fn accepted(&self, request: &Request) {
        let max = request.params.max_new_tokens.unwrap_or_default() as f64;
        self.tgi.max_new.observe(max);
        self.vllm.max_generation.observe(max);
        self.vllm.max_tokens.observe(max);
        let n = request.params.num_return_sequences.unwrap_or(1);
        self.vllm.n.observe(n as f64);
    }

    /// A sequence has its first token.
    pub(crate) fn first_token(&self, since_arrival: Duration) {
        self.vllm.first_token.observe(since_arrival.as_secs_f64());
    }

    /// A sequence has a further token.
    pub(crate) fn next_token(&self, since_last: Duration) {
        let seconds = since_last.as_secs_f64();
        self.vllm.between.observe(seconds);
        self.vllm.between_old.observe(seconds);
    }

    /// A sequence ended.
    pub(crate) fn finished(&self, finished: &Finished) {
        let stats = &finished.stats;
        let reason = finished.reason.openai();
        self.vllm.successes.with_label_values(&[reason]).inc();
        if finished.reason == FinishReason::Cancelled {
            return;
        }
        let [queued, prefill, decode] =
            [stats.queued, stats.prefill, stats.decode].map(|time| time.as_secs_f64());
        let (prompt, generated) = (stats.prompt_tokens as f64, stats.generated_tokens as f64);
        self.tgi.queue.observe(queued);
        self.tgi.inference.observe(prefill + decode);
        self.tgi.duration.observe(queued + prefill + decode);
        self.tgi
            .per_token
            .observe((prefill + decode) / generated.max(1.0));
        self.tgi.generated.observe(generated);
        self.tgi.input.observe(prompt);
        self.tgi.skipped.observe(stats.cached_tokens as f64);
        self.vllm.queue.observe(queued);
        self.vllm.prefill.observe(prefill);
        self.vllm.decode.observe(decode);
        self.vllm.inference.observe(prefill + decode);
        self.vllm.e2e.observe(queued + prefill + decode);
        self.vllm
            .per_token
            .observe(decode / (generated - 1.0).max(1.0));
        self.vllm.prompt.observe(prompt);
        self.vllm.generation.observe(generated);
    }

    /// A step begins, with sequences that wait for their first one or without.
    pub(crate) fn step_begins(&self, waiting: bool) {
        self.tgi.batches.with_label_values(&[method(waiting)]).inc();
    }

    /// A step failed.
    pub(crate) fn step_failed(&self, waiting: bool) {
        let failures = &self.tgi.batch_failures;
        failures.with_label_values(&[method(waiting)]).inc();
    }

    /// A step came to its end, between these two states of the engine, and its tokens were handed on.
    pub(crate) fn stepped(
        &self,
        duration: Duration,
        handing_on: Duration,
        before: &EngineStats,
        after: &EngineStats,
    ) {
        let prompt = after.prefill_tokens.saturating_sub(before.prefill_tokens);
        let generated = after
            .generated_tokens
            .saturating_sub(before.generated_tokens);
        let method = method(prompt > 0);
        self.tgi.batch_successes.with_label_values(&[method]).inc();
        for (histogram, time) in [
            (
                &self.tgi.forward,
                after.forward.saturating_sub(before.forward),
            ),
            (
                &self.tgi.decode,
                after.selection.saturating_sub(before.selection),
            ),
            (&self.tgi.filter, handing_on),
            (&self.tgi.batch_inference, duration + handing_on),
        ] {
            let histogram = histogram.with_label_values(&[method]);
            histogram.observe(time.as_secs_f64());
        }
        self.tgi
            .next_size
            .observe(before.running.max(after.running) as f64);
        self.vllm.prompt_tokens.inc_by(prompt);
        self.vllm.generation_tokens.inc_by(generated);
        let queries = after.prefix_queries.saturating_sub(before.prefix_queries);
        let hits = after.prefix_hits.saturating_sub(before.prefix_hits);
        if queries > 0 && before.running > 0 {
            self.tgi.concat.with_label_values(&["chunking"]).inc();
        }
        self.vllm.prefix_queries.inc_by(queries);
        self.vllm.prefix_hits.inc_by(hits);
        self.vllm.cached_tokens.inc_by(hits);
        self.vllm.iteration.observe((prompt + generated) as f64);
        self.vllm
            .preemptions
            .inc_by(after.preemptions.saturating_sub(before.preemptions));
        let drafted = after.drafted_tokens.saturating_sub(before.drafted_tokens);
        self.vllm.drafted.inc_by(drafted);
        let accepted = after.accepted_tokens.saturating_sub(before.accepted_tokens);
        self.vllm.accepted.inc_by(accepted);
        let draft_steps = after.draft_steps.saturating_sub(before.draft_steps);
        self.draft_steps.inc_by(draft_steps);
    }

    /// What waits, runs and is held now.
    pub(crate) fn gauges(&self, stats: &EngineStats, block: usize) {
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let held = stats.used_blocks;
        self.tgi.queue_size.set(whole(stats.waiting));
        self.tgi.batch_size.set(whole(stats.running));
        self.tgi.batch_tokens.set(whole(held.saturating_mul(block)));
        let most = stats.total_blocks.saturating_mul(block);
        self.tgi.most_tokens.set(whole(most));
        self.vllm.waiting.set(whole(stats.waiting));
        self.vllm.running.set(whole(stats.running));
        let share = held as f64 / stats.total_blocks.max(1) as f64;
        self.vllm.cache.set(share);
        self.vllm.cache_old.set(share);
    }

    /// Sequences that wait, as last told.
    pub(crate) fn waiting(&self) -> usize {
        usize::try_from(self.tgi.queue_size.get()).unwrap_or_default()
    }

    /// All metrics in Prometheus' text format.
    pub(crate) fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing to a vector does not fail.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}
