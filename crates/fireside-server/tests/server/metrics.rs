//! Metrics under the names that dashboards ask for.

use crate::client::Stream;
use crate::harness::{gated, scripted};

/// What TGI's dashboard asks for, and is there here.
const TGI: &[&str] = &[
    "tgi_batch_concat",
    "tgi_batch_current_max_tokens",
    "tgi_batch_current_size",
    "tgi_batch_decode_duration_bucket",
    "tgi_batch_filter_duration_bucket",
    "tgi_batch_forward_duration_bucket",
    "tgi_batch_inference_count",
    "tgi_batch_inference_duration_bucket",
    "tgi_batch_inference_failure",
    "tgi_batch_inference_success",
    "tgi_batch_max_total_tokens",
    "tgi_batch_next_size_bucket",
    "tgi_queue_size",
    "tgi_request_count",
    "tgi_request_duration_bucket",
    "tgi_request_failure",
    "tgi_request_generated_tokens_bucket",
    "tgi_request_inference_duration_bucket",
    "tgi_request_input_length_bucket",
    "tgi_request_max_new_tokens_bucket",
    "tgi_request_mean_time_per_token_duration_bucket",
    "tgi_request_queue_duration_bucket",
    "tgi_request_skipped_tokens_bucket",
    "tgi_request_success",
    "tgi_request_validation_duration_bucket",
];

/// What vLLM's dashboard asks for, under its present and its old names.
const VLLM: &[&str] = &[
    "vllm:e2e_request_latency_seconds_bucket",
    "vllm:generation_tokens_total",
    "vllm:gpu_cache_usage_perc",
    "vllm:inter_token_latency_seconds_bucket",
    "vllm:iteration_tokens_total_bucket",
    "vllm:kv_cache_usage_perc",
    "vllm:num_preemptions_total",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:prefix_cache_hits_total",
    "vllm:prefix_cache_queries_total",
    "vllm:prompt_tokens_cached_total",
    "vllm:prompt_tokens_total",
    "vllm:request_decode_time_seconds_bucket",
    "vllm:request_generation_tokens_bucket",
    "vllm:request_inference_time_seconds_bucket",
    "vllm:request_max_num_generation_tokens_bucket",
    "vllm:request_params_max_tokens_bucket",
    "vllm:request_params_n_bucket",
    "vllm:request_prefill_time_seconds_bucket",
    "vllm:request_prompt_tokens_bucket",
    "vllm:request_queue_time_seconds_bucket",
    "vllm:request_success_total",
    "vllm:request_time_per_output_token_seconds_bucket",
    "vllm:time_per_output_token_seconds_bucket",
    "vllm:time_to_first_token_seconds_bucket",
];

#[test]
fn every_name_is_there_and_counts_what_happened() {
    let server = scripted();
    let body = r#"{"prompt": [3, 3], "max_tokens": 4, "n": 2, "temperature": 0}"#;
    assert_eq!(server.post("/v1/completions", body).status, 200);
    assert_eq!(server.post("/v1/completions", "{}").status, 400);
    let reply = server.get("/metrics");
    assert_eq!(
        reply.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let text = reply.text();
    let has = |name: &str| {
        let named = |line: &str| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with(['{', ' ']).then_some(())
        };
        text.lines().any(|line| named(line).is_some())
    };
    for name in TGI.iter().chain(VLLM) {
        assert!(has(name), "{name} in {text}");
    }
    for line in text.lines().filter(|line| line.starts_with("vllm:")) {
        assert!(line.contains(r#"model_name="test-model""#), "{line}");
    }
    let info = server.get("/info").json();
    let cache = info["max_batch_total_tokens"].as_f64().unwrap();
    let own = |name: &str| format!(r#"{name}{{engine="0",model_name="test-model"}}"#);
    for (name, value) in [
        ("tgi_request_count", 2.0),
        ("fireside_draft_steps_total", 0.0),
        ("tgi_request_success", 1.0),
        (r#"tgi_request_failure{err="validation"}"#, 1.0),
        ("tgi_request_generated_tokens_sum", 8.0),
        ("tgi_batch_max_total_tokens", cache),
        (r#"tgi_batch_concat{reason="chunking"}"#, 0.0),
        (r#"tgi_batch_decode_duration_count{method="decode"}"#, 3.0),
        (r#"tgi_batch_filter_duration_count{method="decode"}"#, 3.0),
        (r#"tgi_batch_forward_duration_count{method="decode"}"#, 3.0),
        (
            r#"tgi_batch_inference_duration_count{method="decode"}"#,
            3.0,
        ),
        (&own("vllm:generation_tokens_total"), 8.0),
        (&own("vllm:time_to_first_token_seconds_count"), 2.0),
        (&own("vllm:inter_token_latency_seconds_count"), 6.0),
        (
            r#"vllm:request_success_total{engine="0",finished_reason="length",model_name="test-model"}"#,
            2.0,
        ),
    ] {
        // The last step's numbers come right after its answer.
        server.until(name, |server| server.metric(name) == value);
    }
    // 35 buckets from 0.1 ms up, each half as long again as the one before.
    let buckets = text
        .lines()
        .filter(|line| line.starts_with("tgi_request_duration_bucket"));
    assert_eq!(buckets.count(), 36);
    assert!(
        text.contains(r#"tgi_request_duration_bucket{le="0.0001"}"#),
        "{text}"
    );
}

#[test]
fn the_parts_of_a_step_are_timed_and_a_request_that_joins_others_is_counted() {
    let server = gated(|_| {});
    let body = |tokens: usize| {
        format!(r#"{{"prompt": [3], "max_tokens": {tokens}, "temperature": 0, "stream": true}}"#)
    };
    let first = server.begin("/v1/completions", &body(4000));
    server.gate.allow(1);
    server.until("one that runs", |own| {
        own.metric("tgi_batch_current_size") == 1.0
    });
    let joining = server.begin("/v1/completions", &body(2));
    server.until("the join", |own| {
        own.gate.allow(1);
        own.metric(r#"tgi_batch_concat{reason="chunking"}"#) == 1.0
    });
    server.gate.open();
    for socket in [joining, first] {
        let mut stream = Stream::begin(socket).unwrap();
        assert_eq!(stream.rest().last().unwrap(), "[DONE]");
    }
    let sum = |part: &str| {
        let name = |method| format!(r#"tgi_batch_{part}_duration_sum{{method="{method}"}}"#);
        server.metric(&name("prefill")) + server.metric(&name("decode"))
    };
    let parts = ["forward", "decode", "filter"].map(sum);
    assert!(parts.iter().all(|part| *part > 0.0), "{parts:?}");
    assert!(sum("inference") >= parts.iter().sum::<f64>(), "{parts:?}");
}
