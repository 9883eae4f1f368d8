//! Embeddings over HTTP, from a tiny random model.

use serde_json::{Value, json};

use crate::client::Reply;
use crate::harness::{TestServer, embeddings, scripted};

/// What transformers makes of the fixture's texts.
fn expected() -> (Vec<String>, Vec<Vec<f64>>, Vec<usize>) {
    let bytes = std::fs::read("../../tests/fixtures/embeddings/bert-mean/expected.json").unwrap();
    let all: Value = serde_json::from_slice(&bytes).unwrap();
    let texts = serde_json::from_value(all["texts"].clone()).unwrap();
    let vectors = serde_json::from_value(all["embeddings"].clone()).unwrap();
    let tokens: Vec<Vec<u32>> = serde_json::from_value(all["tokens"].clone()).unwrap();
    (texts, vectors, tokens.iter().map(Vec::len).collect())
}

fn ask(server: &TestServer, body: &Value) -> Reply {
    server.post("/v1/embeddings", &body.to_string())
}

fn vectors(reply: &Value) -> Vec<Vec<f64>> {
    let data = reply["data"].as_array().unwrap();
    let vector = |one: &Value| serde_json::from_value(one["embedding"].clone()).unwrap();
    data.iter().map(vector).collect()
}

fn assert_close(found: &[Vec<f64>], wanted: &[Vec<f64>]) {
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!(found.len(), wanted.len());
        let off = found.iter().zip(wanted).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f64::max) < 1e-3);
    }
}

#[test]
fn a_list_of_texts_gets_its_embeddings_in_order() {
    let server = embeddings(|_| {});
    let (texts, wanted, tokens) = expected();
    let reply = ask(&server, &json!({ "model": "test-model", "input": texts }));
    assert_eq!(reply.status, 200);
    let whole = reply.json();
    assert_eq!(whole["object"], "list");
    assert_eq!(whole["model"], "test-model");
    assert_eq!(whole["data"][1]["index"], 1);
    assert_eq!(whole["data"][1]["object"], "embedding");
    let tokens: usize = tokens.iter().sum();
    assert_eq!(
        whole["usage"],
        json!({ "prompt_tokens": tokens, "total_tokens": tokens })
    );
    assert_close(&vectors(&whole), &wanted);
    let one = ask(&server, &json!({ "input": texts[1] })).json();
    assert_close(&vectors(&one), &wanted[1..2]);
}

#[test]
fn base64_holds_the_same_floats() {
    let server = embeddings(|_| {});
    let floats = vectors(&ask(&server, &json!({ "input": "the old wolf" })).json());
    let body = json!({ "input": "the old wolf", "encoding_format": "base64" });
    let coded = ask(&server, &body).json();
    let coded = coded["data"][0]["embedding"].as_str().unwrap();
    // 48 floats of four bytes, three bytes in four letters.
    assert_eq!(coded.len(), 48 * 4 / 3 * 4);
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |letter: &u8| letters.iter().position(|l| l == letter).unwrap() as u32;
    let bytes: Vec<u8> = coded
        .as_bytes()
        .chunks(4)
        .flat_map(|four| {
            let bits = four
                .iter()
                .fold(0, |bits, letter| bits << 6 | digit(letter));
            bits.to_be_bytes()[1..].to_vec()
        })
        .collect();
    for (bytes, float) in bytes.chunks(4).zip(&floats[0]) {
        let own = f32::from_le_bytes(bytes.try_into().unwrap());
        assert!((f64::from(own) - float).abs() < 1e-6);
    }
}

#[test]
fn text_embeddings_inferences_routes_give_a_list_of_lists() {
    let server = embeddings(|_| {});
    let (texts, wanted, _) = expected();
    for path in ["/embed", "/"] {
        let reply = server.post(path, &json!({ "inputs": texts }).to_string());
        assert_eq!(reply.status, 200, "{path}");
        let lists: Vec<Vec<f64>> = serde_json::from_value(reply.json()).unwrap();
        assert_close(&lists, &wanted);
    }
    let wrong = server.post("/embed", r#"{"inputs": []}"#);
    assert_eq!(wrong.status, 422);
    assert_eq!(wrong.json()["error_type"], "validation");
}

#[test]
fn dimensions_prompts_and_cuts_are_as_asked() {
    let server = embeddings(|_| {});
    let short = ask(&server, &json!({ "input": "snow", "dimensions": 8 })).json();
    let short = &vectors(&short)[0];
    assert_eq!(short.len(), 8);
    let length: f64 = short.iter().map(|v| v * v).sum();
    assert!((length - 1.0).abs() < 1e-4);
    let asked = ask(&server, &json!({ "input": "snow", "prompt_name": "query" })).json();
    let written = ask(&server, &json!({ "input": "we burn snow" })).json();
    assert_eq!(asked["data"], written["data"]);
    let long = "fire ".repeat(300);
    let cut = ask(&server, &json!({ "input": long, "truncate": true })).json();
    assert_eq!(cut["usage"]["prompt_tokens"], 64);
    let ids = ask(&server, &json!({ "input": [2, 9, 3] })).json();
    assert_eq!(ids["usage"]["prompt_tokens"], 3);
}

#[test]
fn what_cannot_be_embedded_is_refused_by_name() {
    let server = embeddings(|_| {});
    let long = "fire ".repeat(300);
    for (body, param, message) in [
        (
            json!({ "input": ["a", long] }),
            "input",
            "input[1] has 302 tokens; expected at most 64, or truncate",
        ),
        (
            json!({ "input": [[2], []] }),
            "input",
            "input[1] is empty; expected some text",
        ),
        (
            json!({ "input": [[2, 9]], "prompt_name": "query" }),
            "input",
            "input[0] is token ids; expected text, for prompt_name to stand before",
        ),
        (
            json!({ "input": [[2, 500]] }),
            "input",
            "input[0] has the token 500; expected token ids below 120",
        ),
        (
            json!({ "input": "a", "dimensions": 49 }),
            "dimensions",
            "dimensions is 49; expected 1 to 48",
        ),
        (
            json!({ "input": "a", "prompt_name": "x" }),
            "prompt_name",
            "prompt_name is \"x\"; expected one of document, query",
        ),
    ] {
        let reply = ask(&server, &body);
        assert_eq!(reply.status, 400, "{message}");
        let error = reply.json()["error"].clone();
        assert_eq!(error["message"], message);
        assert_eq!(error["param"], param);
    }
    let other = ask(&server, &json!({ "input": "a", "model": "another" }));
    assert_eq!(other.status, 404);
}

#[test]
fn models_for_another_task_say_so() {
    let embeds = embeddings(|_| {});
    let chat = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    for (path, body) in [
        ("/v1/chat/completions", chat),
        ("/generate", json!({ "inputs": "Hi" })),
    ] {
        let reply = embeds.post(path, &body.to_string());
        assert!(
            matches!(reply.status, 400 | 422),
            "{path}: {}",
            reply.status
        );
        assert!(
            reply.text().contains("makes embeddings"),
            "{}",
            reply.text()
        );
    }
    let generates = scripted();
    let reply = ask(&generates, &json!({ "input": "a" }));
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json()["error"]["code"], "wrong_model");
}

#[test]
fn what_is_served_is_told() {
    let server = embeddings(|_| {});
    let info = server.get("/info").json();
    assert_eq!(info["model_pipeline_tag"], "feature-extraction");
    assert_eq!(info["max_input_length"], 64);
    assert_eq!(info["dimensions"], 48);
    assert_eq!(info["model_type"]["embedding"]["pooling"], "mean");
    let models = server.get("/v1/models").json();
    assert_eq!(models["data"][0]["max_model_len"], 64);
    assert_eq!(server.get("/health/ready").status, 200);
}

#[test]
fn many_clients_are_all_answered_and_counted() {
    let server = embeddings(|_| {});
    let (texts, wanted, _) = expected();
    std::thread::scope(|scope| {
        for (text, wanted) in texts.iter().zip(&wanted).cycle().take(24) {
            let server = &server;
            scope.spawn(move || {
                let reply = ask(server, &json!({ "input": [text, "snow"] }));
                assert_eq!(reply.status, 200);
                assert_close(&vectors(&reply.json())[..1], std::slice::from_ref(wanted));
            });
        }
    });
    let few = embeddings(|options| options.max_client_batch_size = Some(2));
    let reply = ask(&few, &json!({ "input": ["a", "b", "c"] }));
    assert_eq!(
        reply.json()["error"]["message"],
        "input has 3 entries; expected at most 2"
    );
    assert_eq!(few.get("/info").json()["max_client_batch_size"], 2);
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("tgi_request_success 24"), "{metrics}");
    assert!(metrics.contains("tgi_request_input_length_count 24"));
}
