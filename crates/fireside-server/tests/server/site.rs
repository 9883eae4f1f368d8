//! What browsers get, and the documentation.

use std::fs;
use std::path::PathBuf;

use crate::harness::{TestServer, gated, scripted};

const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

/// A folder with a page, for one test.
fn site(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(root.join("assets")).unwrap();
    fs::write(root.join("index.html"), "<!doctype html>the page").unwrap();
    fs::write(root.join("assets/app.js"), "the script").unwrap();
    root
}

fn with_site(name: &str, keys: &[&str]) -> TestServer {
    let root = site(name);
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    gated(|options| {
        options.web_root = Some(root);
        options.api_keys = keys;
    })
}

#[test]
fn the_root_is_a_page_for_browsers_and_health_for_all_others() {
    let server = scripted();
    let health = server.get("/");
    assert_eq!((health.status, health.text()), (200, String::new()));
    let page = server.send("GET", "/", &[BROWSER], "");
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(page.header("vary"), Some("accept"));
    let text = page.text();
    assert!(text.contains("<h1>test-model</h1>"), "{text}");
    assert!(
        text.contains("http://localhost/v1/chat/completions"),
        "{text}"
    );
}

#[test]
fn what_a_client_writes_into_the_page_stays_text() {
    let server = gated(|options| options.model = "<script>alert(1)</script>&".to_owned());
    let page = server.send("GET", "/", &[BROWSER], "").text();
    assert!(!page.contains("<script>"), "{page}");
    assert!(
        page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&amp;"),
        "{page}"
    );
}

#[test]
fn a_demo_page_is_served_with_its_files_and_nothing_beside_them() {
    let server = with_site("site", &[]);
    fs::write(site("site").join("../secret"), "no").unwrap();
    let page = server.send("GET", "/", &[BROWSER], "");
    assert_eq!(page.text(), "<!doctype html>the page");
    assert_eq!(server.get("/").text(), "");
    let script = server.get("/assets/app.js");
    assert_eq!(script.text(), "the script");
    assert_eq!(script.header("content-type"), Some("text/javascript"));
    for path in [
        "/../secret",
        "/%2e%2e/secret",
        "/assets/..%2f..%2fsecret",
        "/nothing",
    ] {
        let reply = server.get(path);
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.json()["error"]["code"], "not_found", "{path}");
    }
    // The routes are still there.
    assert_eq!(server.get("/info").status, 200);
    let generated = server.post("/assets/app.js", "{}");
    assert_eq!(generated.status, 404);
}

#[test]
fn a_key_guards_the_routes_and_not_the_page() {
    let server = with_site("keyed-site", &["secret"]);
    assert_eq!(server.send("GET", "/", &[BROWSER], "").status, 200);
    assert_eq!(server.get("/assets/app.js").status, 200);
    for path in ["/health", "/health/ready", "/ping", "/"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    for path in [
        "/info",
        "/metrics",
        "/v1/models",
        "/docs/",
        "/api-doc/openapi.json",
    ] {
        assert_eq!(server.get(path).status, 401, "{path}");
        let key = [("authorization", "Bearer secret")];
        assert_eq!(server.send("GET", path, &key, "").status, 200, "{path}");
    }
    assert_eq!(server.post("/", r#"{"inputs": "ha"}"#).status, 401);
}

#[test]
fn the_documentation_is_a_page_over_an_openapi_document() {
    let server = scripted();
    let page = server.get("/docs/");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("swagger-ui"));
    assert_eq!(server.get("/docs").header("location"), Some("/docs/"));
    let api = server.get("/api-doc/openapi.json").json();
    assert!(api["openapi"].as_str().unwrap().starts_with("3.1"));
    let chat = &api["paths"]["/v1/chat/completions"]["post"];
    let schema = &chat["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["$ref"], "#/components/schemas/ChatCompletionRequest");
}
