//! Cancellation, overload, failures, and the end of the server.

use fireside_engine::{EngineConfig, Executor};
use fireside_server::Loaded;

use crate::client::{Stream, connect, request};
use crate::harness::{
    FAIL, HA, JSON, LOSE, PANIC, TestServer, drafting, gated, gated_engine, narrow, no_gate,
    scripted, start,
};
use std::io::Write;
use std::time::Duration;

const COMPLETE: &str = "/v1/completions";
const RUNNING: &str = r#"vllm:num_requests_running{engine="0",model_name="test-model"}"#;
const WAITING: &str = r#"vllm:num_requests_waiting{engine="0",model_name="test-model"}"#;
const REFUSALS: &str =
    r#"vllm:admission_rejections_total{engine="0",model_name="test-model",reason="queue_full"}"#;

const GENERATED: &str = r#"vllm:generation_tokens_total{engine="0",model_name="test-model"}"#;
const LOST_REQUEST: &str = r#"fireside_slow_readers_total{lost="request"}"#;
const LOST_CONNECTION: &str = r#"fireside_slow_readers_total{lost="connection"}"#;

fn body(token: u32, tokens: usize, stream: bool) -> String {
    format!(
        r#"{{"prompt": [{token}], "max_tokens": {tokens}, "temperature": 0, "stream": {stream}}}"#
    )
}

/// Reads answers that are streams to their ends.
fn finish(sockets: impl IntoIterator<Item = std::net::TcpStream>) {
    for socket in sockets {
        let mut stream = Stream::begin(socket).unwrap();
        assert_eq!(stream.status, 200);
        assert_eq!(stream.rest().last().unwrap(), "[DONE]");
    }
}

fn idle(server: &TestServer) {
    server.until("an idle engine", |own| {
        own.metric(RUNNING) == 0.0 && own.metric(WAITING) == 0.0
    });
}

#[test]
fn a_client_that_leaves_frees_its_slot_before_the_next_step() {
    let server = gated_engine(
        |_| {},
        EngineConfig {
            max_running: 1,
            ..EngineConfig::default()
        },
    );
    let dropped = r#"tgi_request_failure{err="dropped"}"#;
    // One in decode as a stream, one in the queue, one that is not a stream.
    let mut stream = server.stream(COMPLETE, &body(HA, 4000, true));
    let queued = server.begin(COMPLETE, &body(HA, 4000, true));
    let whole = server.begin(COMPLETE, &body(HA, 4000, false));
    server.wait_for_requests(3);
    server.gate.allow(2);
    assert!(stream.data().is_some());
    drop(stream);
    drop(queued);
    drop(whole);
    server.until("the losses", |own| {
        own.gate.allow(1);
        own.metric(dropped) == 3.0
    });
    idle(&server);
    server.gate.open();
    assert_eq!(server.post(COMPLETE, &body(HA, 2, false)).status, 200);
}

#[test]
fn a_thousand_clients_that_leave_leave_nothing_behind() {
    let server = scripted();
    for round in 0..1000 {
        let mut socket = connect(server.address);
        let stream = round % 2 == 0;
        let bytes = request("POST", COMPLETE, &[JSON], body(HA, 4000, stream).as_bytes());
        socket.write_all(&bytes).unwrap();
    }
    idle(&server);
    server.until("free places", |own| {
        own.post(COMPLETE, &body(HA, 1, false)).status == 200
    });
    server.until("a free cache", |own| {
        own.metric(r#"vllm:kv_cache_usage_perc{engine="0",model_name="test-model"}"#) == 0.0
    });
}

#[test]
fn what_exceeds_the_places_is_told_to_come_again_and_the_rest_finishes() {
    let server = gated(|options| options.max_concurrent_requests = 2);
    let sockets = [0, 1].map(|_| server.begin(COMPLETE, &body(HA, 3, true)));
    server.wait_for_requests(2);
    for _ in 0..50 {
        let refused = server.post(COMPLETE, &body(HA, 3, false));
        assert_eq!(refused.status, 429);
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(refused.json()["error"]["type"], "overloaded_error");
    }
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/health/ready").status, 200);
    server.gate.open();
    finish(sockets);
    server.until("a free place", |own| {
        own.post(COMPLETE, &body(HA, 3, false)).status == 200
    });
}

#[test]
fn a_full_queue_of_the_engine_is_an_overload_too() {
    let server = gated_engine(
        |_| {},
        EngineConfig {
            max_running: 1,
            max_waiting: 2,
            ..EngineConfig::default()
        },
    );
    let too_many = r#"{"prompt": [3], "n": 3, "max_tokens": 1}"#;
    assert_eq!(server.post(COMPLETE, too_many).status, 400);
    let one = server.begin(COMPLETE, &body(HA, 4000, true));
    // It runs once it has a token.
    server.gate.allow(1);
    server.until("a first step", |own| {
        own.metric("tgi_batch_next_size_count") == 1.0
    });
    let others = [0, 1, 2].map(|_| server.begin(COMPLETE, &body(HA, 9, true)));
    server.until("a refusal", |own| {
        own.gate.allow(1);
        own.metric(REFUSALS) == 1.0
    });
    server.gate.open();
    let mut statuses = others.map(|socket| {
        let mut stream = Stream::begin(socket).unwrap();
        if stream.status == 200 {
            assert_eq!(stream.rest().last().unwrap(), "[DONE]");
        }
        stream.status
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 429]);
    finish([one]);
}

#[test]
fn a_reader_that_stops_reading_loses_its_request_and_is_told_so() {
    let server = narrow(|options| options.reader_lag = 8);
    let unread = server.ignore(COMPLETE, &body(HA, 4000, true));
    server.gate.open();
    server.until("the cut", |own| own.metric(LOST_REQUEST) == 1.0);
    idle(&server);
    assert_eq!(
        server.metric(r#"tgi_request_failure{err="generation"}"#),
        1.0
    );
    assert!(server.metric(GENERATED) < 4000.0);
    assert_eq!(server.post(COMPLETE, &body(HA, 2, false)).status, 200);
    // One who reads on finds what came before, and why there is no more.
    let mut stream = Stream::begin(unread).unwrap();
    let frames = stream.rest();
    assert!(
        frames.last().unwrap().contains("read too slowly"),
        "{frames:?}"
    );
}

#[test]
fn a_connection_that_takes_nothing_is_closed_and_its_request_ends() {
    let server = narrow(|options| options.write_timeout = Duration::from_secs(2));
    let _unread = server.ignore(COMPLETE, &body(HA, 4000, true));
    // More than the connection holds, and less than there is to come.
    server.gate.allow(2000);
    server.until("the cut", |own| own.metric(LOST_CONNECTION) == 1.0);
    assert_eq!(server.metric(LOST_REQUEST), 0.0);
    // The engine finds it with the next step.
    server.gate.open();
    server.until("the loss", |own| {
        own.metric(r#"tgi_request_failure{err="dropped"}"#) == 1.0
    });
    idle(&server);
    assert!(server.metric(GENERATED) < 4000.0);
}

#[test]
fn a_request_that_takes_too_long_ends_with_an_error() {
    let server = gated(|options| options.request_timeout = Duration::ZERO);
    let refused = server.post(COMPLETE, &body(HA, 3, false));
    assert_eq!(refused.status, 408);
    assert_eq!(refused.json()["error"]["code"], "timeout");
    server.gate.open();
    idle(&server);
}

#[test]
fn a_step_that_fails_ends_what_is_under_way_and_nothing_else() {
    let server = scripted();
    for token in [FAIL, LOSE, PANIC] {
        let whole = server.post(COMPLETE, &body(token, 3, false));
        assert_eq!(whole.status, 500, "{}", whole.text());
        assert_eq!(whole.json()["error"]["type"], "server_error");
        // A device that is lost is opened again.
        server.wait_until_ready();
        let mut stream = server.stream(COMPLETE, &body(token, 3, true));
        let frames = stream.rest();
        let error: serde_json::Value = serde_json::from_str(frames.last().unwrap()).unwrap();
        assert_eq!(error["error"]["type"], "server_error");
        server.wait_until_ready();
        assert_eq!(server.post(COMPLETE, &body(HA, 2, false)).status, 200);
    }
}

#[test]
fn a_device_that_is_lost_while_drafting_is_opened_again_without_the_draft_model() {
    let server = drafting();
    let info = server.get("/info").json();
    assert_eq!(info["draft_model"], "smaller");
    assert_eq!(info["speculate"], 7);
    assert_eq!(server.post(COMPLETE, &body(HA, 9, false)).status, 500);
    server.until("another engine", |own| {
        own.post(COMPLETE, &body(HA, 9, false)).status == 200
    });
    for _ in 0..4 {
        assert_eq!(server.post(COMPLETE, &body(HA, 9, false)).status, 200);
    }
    let info = server.get("/info").json();
    assert!(info["draft_model"].is_null(), "{info}");
    assert_eq!(info["speculate"], 0);
}

#[test]
fn an_engine_that_cannot_be_had_again_fails_the_health_check() {
    let server = scripted();
    server.until("the end of the engine", |own| {
        own.post(COMPLETE, &body(LOSE, 3, false));
        own.get("/health").status == 503
    });
    assert_eq!(server.get("/health").json()["error_type"], "healthcheck");
    let refused = server.post(COMPLETE, &body(HA, 3, false));
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["error"]["code"], "engine_dead");
}

/// An executor that there is never one of.
struct Never;

impl Executor for Never {
    fn limits(&self) -> fireside_engine::ExecutorLimits {
        unreachable!("nothing makes one")
    }

    async fn step(
        &mut self,
        _: &fireside_model::step::Step,
    ) -> Result<Vec<fireside_model::step::Selected>, fireside_engine::ExecutorError> {
        unreachable!("nothing makes one")
    }
}

#[test]
fn health_is_served_while_the_model_loads_and_readiness_is_not() {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let load = move |_| -> Result<Loaded<Never>, String> {
        let _ = ended.recv();
        Err("it does not load".into())
    };
    let server = start(|_| {}, load, no_gate());
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/ping").status, 200);
    assert_eq!(server.get("/health/ready").status, 503);
    let refused = server.post(COMPLETE, &body(HA, 3, false));
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["error"]["code"], "loading");
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop(end);
    server.until("the failure", |own| own.get("/health").status == 503);
}

#[test]
fn a_server_that_is_told_to_end_finishes_its_streams_and_takes_no_new_ones() {
    let mut server = gated(|_| {});
    let sockets = [0; 5].map(|_| server.begin(COMPLETE, &body(HA, 3, true)));
    server.wait_for_requests(5);
    server.stop();
    server.until("draining", |own| own.get("/health/ready").status == 503);
    assert_eq!(server.get("/health").status, 200);
    let refused = server.post(COMPLETE, &body(HA, 3, false));
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["error"]["code"], "draining");
    server.gate.open();
    finish(sockets);
    server.join();
}

#[test]
fn a_second_word_ends_at_once_and_so_does_the_drain_timeout() {
    let mut server = gated(|_| {});
    let _stream = server.stream(COMPLETE, &body(HA, 3, true));
    server.stop();
    server.stop();
    server.join();
    let mut server = gated(|options| options.drain_timeout = Duration::ZERO);
    let _stream = server.stream(COMPLETE, &body(HA, 3, true));
    server.stop();
    server.join();
}
