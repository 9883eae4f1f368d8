//! What clients get wrong, and what hostile ones try: each is answered by name, and the server is
//! well afterwards.

use std::io::Write;
use std::time::Duration;

use serde_json::Value;

use crate::client::{Stream, connect, exchange, request};
use crate::harness::{HA, JSON, TestServer, gated, scripted};

const CHAT: &str = "/v1/chat/completions";
const COMPLETE: &str = "/v1/completions";

/// A completion with more fields.
fn with(rest: &str) -> String {
    format!(r#"{{"prompt": [{HA}], "max_tokens": 2, {rest}}}"#)
}

#[track_caller]
fn refused(server: &TestServer, path: &str, body: &str, status: u16, param: Option<&str>) -> Value {
    let reply = server.post(path, body);
    let shown: String = body.chars().take(200).collect();
    assert_eq!(reply.status, status, "{shown}: {}", reply.text());
    assert_eq!(
        reply.header("content-type"),
        Some("application/json"),
        "{shown}"
    );
    let error = reply.json()["error"].clone();
    assert_eq!(error["param"].as_str(), param, "{shown}: {error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.len() < 400 && !message.contains('\n'), "{message}");
    if let Some(param) = param {
        assert!(message.contains(param) || param == "prompt", "{message}");
    }
    assert_eq!(server.get("/health").status, 200, "{shown}");
    error
}

#[test]
fn bodies_that_are_no_requests_are_refused_as_json() {
    let server = scripted();
    for bad in [
        "",
        "{",
        "[]",
        "\"x\"",
        "null",
        r#"{"prompt": "a", "prompt": "b"}"#,
        r#"{"prompt": "\ud800"}"#,
    ] {
        refused(&server, COMPLETE, bad, 400, None);
        refused(&server, CHAT, bad, 400, None);
    }
    refused(
        &server,
        COMPLETE,
        &format!("{{\"a\": {}", "[".repeat(100_000)),
        400,
        None,
    );
    let bytes = request("POST", COMPLETE, &[JSON], b"{\"prompt\": \"\xff\"}");
    assert_eq!(exchange(server.address, &bytes).unwrap().status, 400);
}

#[test]
fn other_content_types_are_refused_as_json() {
    let server = scripted();
    let reply = server.send(
        "POST",
        COMPLETE,
        &[("content-type", "text/plain")],
        &with(r#""n": 1"#),
    );
    assert_eq!(reply.status, 415);
    let message = reply.json()["error"]["message"].clone();
    assert_eq!(
        message,
        "content-type is \"text/plain\"; expected application/json"
    );
    for good in [
        "application/json; charset=utf-8",
        "application/vnd.api+json",
    ] {
        let reply = server.send(
            "POST",
            COMPLETE,
            &[("content-type", good)],
            &with(r#""n": 1"#),
        );
        assert_eq!(reply.status, 200);
    }
}

#[test]
fn bodies_over_the_limit_are_refused_with_and_without_a_length() {
    let server = gated(|options| options.payload_limit = 1000);
    server.gate.open();
    let big = with(&format!(r#""user": "{}""#, "x".repeat(1000)));
    let reply = server.post(COMPLETE, &big);
    assert_eq!(reply.status, 413);
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(
        reply.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("1000 bytes")
    );
    let mut socket = connect(server.address);
    let head = format!(
        "POST {COMPLETE} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    // It does not wait for the end.
    for _ in 0..4 {
        let _ = socket.write_all(format!("190\r\n{}\r\n", "x".repeat(400)).as_bytes());
    }
    assert_eq!(Stream::begin(socket).unwrap().status, 413);
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn all_bodies_together_are_bounded_and_room_comes_back() {
    let server = gated(|options| {
        options.payload_limit = 1000;
        options.payload_total_limit = Some(1500);
        // The slow one is not to be given up on a slow machine.
        options.read_timeout = Duration::from_secs(600);
    });
    server.gate.open();
    assert_eq!(server.get("/info").json()["payload_total_limit"], 1500);
    let big = with(&format!(r#""user": "{}""#, "x".repeat(800)));
    let (last, front) = big.as_bytes().split_last().unwrap();
    let mut slow = connect(server.address);
    let all = request("POST", COMPLETE, &[JSON], big.as_bytes());
    slow.write_all(all.strip_suffix(&[*last]).unwrap()).unwrap();
    assert!(front.len() > 800);
    server.until("most of the slow body", |own| {
        own.metric("fireside_body_bytes") == front.len() as f64
    });
    // What has come of the slow one leaves no room for another.
    for path in [COMPLETE, "/generate", "/tokenize"] {
        let refused = server.post(path, &big);
        assert_eq!(refused.status, 429, "{path}");
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(refused.header("connection"), Some("close"));
        assert!(refused.text().contains("1500 bytes"), "{}", refused.text());
    }
    let small = server.post(COMPLETE, &with(r#""n": 1"#));
    assert_eq!(small.status, 200);
    let own = r#"{engine="0",model_name="test-model",reason="payload"}"#;
    assert_eq!(
        server.metric(&format!("vllm:admission_rejections_total{own}")),
        3.0
    );
    slow.write_all(&[*last]).unwrap();
    assert_eq!(Stream::begin(slow).unwrap().status, 200);
    for _ in 0..4 {
        assert_eq!(server.post(COMPLETE, &big).status, 200);
    }
}

#[test]
fn heads_over_the_limit_are_refused() {
    let server = scripted();
    let long = "x".repeat(100_000);
    let reply = exchange(
        server.address,
        &request("GET", "/health", &[("x-long", &long)], b""),
    );
    assert_eq!(reply.map_or(431, |reply| reply.status), 431);
    let names: Vec<String> = (0..1000).map(|n| format!("x-{n}")).collect();
    let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let reply = exchange(server.address, &request("GET", "/health", &headers, b""));
    assert_eq!(reply.map_or(431, |reply| reply.status), 431);
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn a_head_or_a_body_that_does_not_come_is_not_waited_for() {
    let server = gated(|options| options.read_timeout = std::time::Duration::from_millis(50));
    let mut socket = connect(server.address);
    socket
        .write_all(b"GET /health HTTP/1.1\r\nx-slow: ")
        .unwrap();
    assert!(Stream::begin(socket).is_none_or(|reply| reply.status == 408));
    let mut socket = connect(server.address);
    let head =
        format!("POST {COMPLETE} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\n{{");
    socket.write_all(head.as_bytes()).unwrap();
    assert_eq!(Stream::begin(socket).unwrap().status, 408);
}

#[test]
fn keys_are_asked_for_everywhere_but_at_health() {
    let server = gated(|options| options.api_keys = vec!["first".into(), "second".into()]);
    server.gate.open();
    let call = |key: Option<&str>| {
        let headers: Vec<(&str, &str)> =
            key.map(|key| ("authorization", key)).into_iter().collect();
        server.send(
            "POST",
            COMPLETE,
            &[&headers[..], &[JSON]].concat(),
            &with(r#""n": 1"#),
        )
    };
    for bad in [
        None,
        Some("Bearer"),
        Some("Bearer "),
        Some("Bearer third"),
        Some("Basic first"),
        Some("first"),
    ] {
        let reply = call(bad);
        assert_eq!(reply.status, 401, "{bad:?}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        assert_eq!(reply.json()["error"]["type"], "authentication_error");
    }
    for good in ["Bearer first", "Bearer second", "bearer first"] {
        assert_eq!(call(Some(good)).status, 200, "{good}");
    }
    assert_eq!(server.get("/v1/models").status, 401);
    assert_eq!(server.get("/metrics").status, 401);
    for open in ["/health", "/health/ready", "/ping"] {
        assert_eq!(server.get(open).status, 200);
    }
}

#[test]
fn unknown_paths_and_methods_are_refused_as_json() {
    let server = scripted();
    let reply = server.get("/v1/unknown");
    assert_eq!(reply.status, 404);
    assert_eq!(reply.json()["error"]["code"], "not_found");
    let reply = server.get(COMPLETE);
    assert_eq!(reply.status, 405);
    assert_eq!(reply.header("allow"), Some("POST"));
    assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
}

#[test]
fn other_models_are_refused_by_name() {
    let server = scripted();
    let error = refused(
        &server,
        COMPLETE,
        &with(r#""model": "gpt-4""#),
        404,
        Some("model"),
    );
    assert_eq!(error["code"], "model_not_found");
    for good in ["\"tgi\"", "\"test-model\"", "\"\"", "null"] {
        assert_eq!(
            server
                .post(COMPLETE, &with(&format!(r#""model": {good}"#)))
                .status,
            200
        );
    }
}

#[test]
fn values_that_mean_nothing_name_their_field() {
    let server = scripted();
    for (rest, param) in [
        (r#""temperature": -1"#, "temperature"),
        (r#""temperature": 3"#, "temperature"),
        (r#""temperature": "hot""#, "temperature"),
        (r#""top_p": 0"#, "top_p"),
        (r#""top_p": 1.1"#, "top_p"),
        (r#""top_k": -2"#, "top_k"),
        (r#""n": 1000000000"#, "n"),
        (r#""n": 0"#, "n"),
        (r#""best_of": 1000000000"#, "best_of"),
        (r#""stop": ["a", "b", "c", "d", "e"]"#, "stop"),
        (r#""stop": [""]"#, "stop"),
        (r#""logit_bias": {"abc": 1}"#, "logit_bias"),
        (r#""logit_bias": {"999999": 5}"#, "logit_bias"),
        (r#""logit_bias": {"3": 1000}"#, "logit_bias"),
        (
            r#""stream_options": {"include_usage": true}"#,
            "stream_options",
        ),
        (r#""frequency_penalty": 3"#, "frequency_penalty"),
        (
            r#""response_format": {"type": "json_schema", "json_schema": {}}"#,
            "response_format",
        ),
        (r#""guided_regex": "(""#, "guided_regex"),
        (r#""grammar": """#, "grammar"),
        (r#""tools": [{"type": "function"}]"#, "tools"),
    ] {
        refused(&server, COMPLETE, &with(rest), 400, Some(param));
    }
    refused(
        &server,
        COMPLETE,
        &with(r#""temperature": 1e999"#),
        400,
        None,
    );
    for good in [
        r#""top_p": 1, "top_k": 0"#,
        r#""top_k": -1"#,
        r#""temperature": null, "top_p": null, "top_k": null, "stop": null, "seed": null, "n": null"#,
        r#""stop": "a""#,
        r#""stop": ["a"]"#,
        r#""unknown": {"a": 1}"#,
    ] {
        let reply = server.post(COMPLETE, &with(good));
        assert_eq!(reply.status, 200, "{good}: {}", reply.text());
    }
}

#[test]
fn prompts_that_cannot_be_continued_are_refused() {
    let server = scripted();
    let many = format!(r#"{{"prompt": [{}"a"]}}"#, r#""a","#.repeat(300_000));
    for bad in [
        r#"{"prompt": []}"#,
        r#"{"prompt": [[]]}"#,
        r#"{"prompt": [-1]}"#,
        r#"{"prompt": [99]}"#,
        &many,
        r#"{"max_tokens": 1}"#,
    ] {
        refused(&server, COMPLETE, bad, 400, Some("prompt"));
    }
    refused(&server, CHAT, r#"{"messages": []}"#, 400, Some("messages"));
    let image = r#"{"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}]}"#;
    refused(&server, CHAT, image, 400, Some("messages[0].content"));
    let spoof = r#"{"messages": [{"role": "user", "content": "ha"}], "max_tokens": 1,
        "chat_template": "{% for i in range(10**9) %}{% endfor %}", "chat_template_kwargs": {"tokenize": true}}"#;
    assert_eq!(server.post(CHAT, spoof).status, 200);
    let kwargs = r#"{"messages": [{"role": "user", "content": "ha"}], "top_logprobs": 2}"#;
    refused(&server, CHAT, kwargs, 400, Some("top_logprobs"));
}

#[test]
fn lengths_are_held_to_the_context() {
    let server = scripted();
    for bad in ["0", "-1", "9223372036854775808", "1.5"] {
        let body = format!(r#"{{"prompt": [{HA}], "max_tokens": {bad}}}"#);
        refused(&server, COMPLETE, &body, 400, Some("max_tokens"));
    }
    for over in ["1000000000000", "4096"] {
        let body = format!(r#"{{"prompt": [{HA}], "max_tokens": {over}}}"#);
        let error = refused(&server, COMPLETE, &body, 400, Some("max_tokens"));
        assert_eq!(error["code"], "context_length_exceeded");
    }
    let prompt = |tokens: usize| {
        format!(
            r#"{{"prompt": [{}{HA}], "max_tokens": 1}}"#,
            "3,".repeat(tokens - 1)
        )
    };
    let error = refused(&server, COMPLETE, &prompt(4096), 400, Some("prompt"));
    assert_eq!(error["code"], "context_length_exceeded");
    assert_eq!(
        error["message"],
        "the prompt has 4096 tokens; expected at most 4095"
    );
    assert_eq!(server.post(COMPLETE, &prompt(4095)).status, 200);
    // A chat that names no limit may fill the context.
    let chat = r#"{"messages": [{"role": "user", "content": "ha"}], "stop": "never"}"#;
    let usage = server.post(CHAT, chat).json()["usage"].clone();
    assert_eq!(usage["total_tokens"], 4096);
}

#[test]
fn ids_of_requests_are_echoed_or_made() {
    let server = scripted();
    let own = server.send("GET", "/health", &[("x-request-id", "abc-1")], "");
    assert_eq!(own.header("x-request-id"), Some("abc-1"));
    let spaced = server.send("GET", "/v1/nothing", &[("x-request-id", "a b")], "");
    assert_eq!(spaced.header("x-request-id").map(str::len), Some(32));
}

#[test]
fn pages_of_other_origins_may_call_only_where_the_owner_says_so() {
    let origin = ("origin", "https://example.org");
    let closed = scripted().send("GET", "/v1/models", &[origin], "");
    assert_eq!(closed.header("access-control-allow-origin"), None);
    let server = gated(|options| {
        options.cors_allow_origin = vec!["https://example.org".into()];
        options.api_keys = vec!["key".into()];
    });
    let asked = [
        origin,
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization,content-type",
        ),
    ];
    let preflight = server.send("OPTIONS", CHAT, &asked, "");
    assert_eq!(preflight.status, 200);
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        Some("https://example.org")
    );
    assert_eq!(preflight.header("access-control-allow-credentials"), None);
    // A star would not mean the key's header.
    let headers = preflight.header("access-control-allow-headers");
    assert_eq!(headers, Some("authorization,content-type"));
    let other = server.send("GET", "/health", &[("origin", "https://example.com")], "");
    assert_eq!(other.header("access-control-allow-origin"), None);
}
