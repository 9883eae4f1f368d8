//! Pages of other sites, which a browser lets send requests to any server that it can reach.

use crate::client::{Reply, exchange};
use crate::harness::{JSON, TestServer, gated, scripted};

const EVIL: &str = "https://evil.example";
const GENERATING: [(&str, &str); 9] = [
    (
        "/v1/chat/completions",
        r#"{"messages": [{"role": "user", "content": "ha"}]}"#,
    ),
    ("/v1/completions", r#"{"prompt": [3]}"#),
    ("/", r#"{"inputs": "ha"}"#),
    ("/generate", r#"{"inputs": "ha"}"#),
    ("/generate?prompt=ha", ""),
    ("/generate_stream", r#"{"inputs": "ha"}"#),
    ("/tokenize", r#"{"inputs": "ha"}"#),
    ("/detokenize", r#"{"tokens": [3]}"#),
    (
        "/chat_tokenize",
        r#"{"messages": [{"role": "user", "content": "ha"}]}"#,
    ),
];

/// Sends a request that names another host.
fn to_host(server: &TestServer, host: &str, head: &str, body: &str) -> Reply {
    let length = body.len();
    let text = format!("{head} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n{body}");
    exchange(server.address, text.as_bytes()).unwrap()
}

#[test]
fn a_page_of_another_site_generates_nothing() {
    let server = scripted();
    for (path, body) in GENERATING {
        // What a page may send without asking first: with such a type, or with none.
        let simple = [("origin", EVIL), ("content-type", "text/plain")];
        for headers in [&simple[..], &simple[..1], &[("origin", "null"), JSON]] {
            let reply = server.send("POST", path, headers, body);
            assert_eq!(reply.status, 403, "{path}: {}", reply.text());
            assert!(reply.text().contains("--cors-allow-origin"), "{path}");
            assert!(reply.header("access-control-allow-origin").is_none());
        }
    }
    assert_eq!(server.metric("tgi_request_count"), 0.0);
    let reply = server.send("POST", "/generate", &[("origin", EVIL), JSON], "{}");
    assert_eq!(reply.json()["error_type"], "forbidden");
    let reply = server.send("POST", "/v1/completions", &[("origin", EVIL), JSON], "{}");
    assert_eq!(reply.json()["error"]["type"], "permission_error");
    assert_eq!(reply.json()["error"]["code"], "foreign_origin");
}

#[test]
fn the_servers_own_page_and_clients_without_an_origin_go_on() {
    let server = scripted();
    for (path, body) in GENERATING {
        for origin in [None, Some(("origin", "http://localhost"))] {
            let headers: Vec<_> = [JSON].into_iter().chain(origin).collect();
            assert_eq!(
                server.send("POST", path, &headers, body).status,
                200,
                "{path}"
            );
        }
    }
}

#[test]
fn a_name_that_was_pointed_at_loopback_leads_nowhere() {
    let server = scripted();
    let port = server.address.port();
    for (path, body) in GENERATING {
        let reply = to_host(&server, "evil.example", &format!("POST {path}"), body);
        assert_eq!(reply.status, 403, "{path}");
        assert!(reply.text().contains("--cors-allow-origin"), "{path}");
    }
    for path in ["/info", "/metrics", "/v1/models", "/api-doc/openapi.json"] {
        let head = format!("GET {path}");
        assert_eq!(
            to_host(&server, "evil.example", &head, "").status,
            403,
            "{path}"
        );
        for own in [format!("127.0.0.1:{port}"), format!("localhost:{port}")] {
            assert_eq!(to_host(&server, &own, &head, "").status, 200, "{path}");
        }
    }
    // Probes tell nothing, whoever asks.
    assert_eq!(
        to_host(&server, "evil.example", "GET /health", "").status,
        200
    );
    assert_eq!(server.metric("tgi_request_count"), 0.0);
}

#[test]
fn an_origin_that_the_owner_allows_may_call_and_others_still_may_not() {
    let allowed = "https://chat.example.org";
    let server = gated(|options| options.cors_allow_origin = vec![allowed.to_owned()]);
    server.gate.open();
    let (path, body) = GENERATING[1];
    let reply = server.send("POST", path, &[("origin", allowed), JSON], body);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("access-control-allow-origin"), Some(allowed));
    let reply = server.send("POST", path, &[("origin", EVIL), JSON], body);
    assert_eq!(reply.status, 403);
    // A proxy on this machine may hand the public name on.
    assert_eq!(
        to_host(&server, "chat.example.org", "GET /info", "").status,
        200
    );
    let all = gated(|options| options.cors_allow_origin = vec!["*".to_owned()]);
    all.gate.open();
    assert_eq!(
        all.send("POST", path, &[("origin", EVIL), JSON], body)
            .status,
        200
    );
}

#[test]
fn with_a_key_only_the_key_counts() {
    let server = gated(|options| options.api_keys = vec!["secret".to_owned()]);
    server.gate.open();
    let (path, body) = GENERATING[1];
    let key = ("authorization", "Bearer secret");
    let reply = server.send("POST", path, &[("origin", EVIL), JSON, key], body);
    assert_eq!(reply.status, 200);
    let reply = server.send("POST", path, &[("origin", EVIL), JSON], body);
    assert_eq!(reply.status, 401);
}
