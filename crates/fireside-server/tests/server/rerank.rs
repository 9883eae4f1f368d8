//! Reranking over HTTP, with tiny random models.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::{TestServer, embeddings, reranker, scripted};

/// A query with its texts, and what transformers makes of them.
#[derive(Deserialize)]
struct Case {
    query: String,
    texts: Vec<String>,
    tokens: Vec<Vec<u32>>,
    logits: Vec<f64>,
    scores: Vec<f64>,
}

fn cases(name: &str) -> Vec<Case> {
    let path = format!("../../tests/fixtures/rerankers/{name}/expected.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    serde_json::from_value(all["cases"].clone()).unwrap()
}

/// The results are the texts with the best scores, in their order.
fn assert_best(results: &Value, field: &str, wanted: &[f64], most: usize) {
    let results = results.as_array().unwrap();
    let mut best: Vec<usize> = (0..wanted.len()).collect();
    best.sort_by(|a, b| wanted[*b].total_cmp(&wanted[*a]));
    let places: Vec<usize> = results
        .iter()
        .map(|one| one["index"].as_u64().unwrap() as usize)
        .collect();
    assert_eq!(places, best[..most.min(best.len())]);
    for (one, place) in results.iter().zip(places) {
        let off = one[field].as_f64().unwrap() - wanted[place];
        assert!(off.abs() < 1e-3, "{one}: {off}");
    }
}

#[test]
fn documents_get_their_scores_the_best_first() {
    for name in ["bert-sigmoid", "bert-identity"] {
        let server = reranker(name, |_| {});
        for case in cases(name) {
            let body = json!({
                "model": "test-model", "query": case.query, "documents": case.texts, "truncate": true,
            });
            let reply = server.post("/v1/rerank", &body.to_string());
            assert_eq!(reply.status, 200, "{}", reply.text());
            let whole = reply.json();
            assert!(whole["id"].as_str().unwrap().starts_with("rerank-"));
            assert_eq!(whole["model"], "test-model");
            let tokens: usize = case.tokens.iter().map(Vec::len).sum();
            assert_eq!(
                whole["usage"],
                json!({ "prompt_tokens": tokens, "total_tokens": tokens })
            );
            assert_best(
                &whole["results"],
                "relevance_score",
                &case.scores,
                usize::MAX,
            );
            for one in whole["results"].as_array().unwrap() {
                let place = one["index"].as_u64().unwrap() as usize;
                assert_eq!(one["document"]["text"], case.texts[place]);
            }
        }
    }
}

#[test]
fn as_many_as_asked_for_come_without_documents_where_none_are_wanted() {
    let server = reranker("bert-sigmoid", |_| {});
    let case = cases("bert-sigmoid").remove(0);
    let documents: Vec<Value> = case.texts.iter().map(|t| json!({ "text": t })).collect();
    let body = json!({
        "query": case.query, "documents": documents, "top_n": 2, "return_documents": false,
    });
    let whole = server.post("/v1/rerank", &body.to_string()).json();
    assert_best(&whole["results"], "relevance_score", &case.scores, 2);
    assert!(whole["results"][0].get("document").is_none());
    // Pairs that are not wanted in the answer were run all the same.
    let tokens: usize = case.tokens.iter().map(Vec::len).sum();
    assert_eq!(whole["usage"]["total_tokens"], tokens);
    let raw = json!({ "query": case.query, "documents": case.texts, "raw_scores": true });
    let whole = server.post("/v1/rerank", &raw.to_string()).json();
    assert_best(
        &whole["results"],
        "relevance_score",
        &case.logits,
        usize::MAX,
    );
}

#[test]
fn text_embeddings_inferences_routes_give_a_list_of_probabilities() {
    let server = reranker("bert-identity", |_| {});
    let case = cases("bert-identity").remove(0);
    let likely: Vec<f64> = case
        .logits
        .iter()
        .map(|l| 1.0 / (1.0 + (-l).exp()))
        .collect();
    for path in ["/rerank", "/"] {
        let mut body = json!({ "query": case.query, "texts": case.texts });
        let reply = server.post(path, &body.to_string());
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_best(&reply.json(), "score", &likely, usize::MAX);
        assert!(reply.json()[0].get("text").is_none());
        body["raw_scores"] = true.into();
        body["return_text"] = true.into();
        let reply = server.post(path, &body.to_string()).json();
        assert_best(&reply, "score", &case.logits, usize::MAX);
        let best = reply[0]["index"].as_u64().unwrap() as usize;
        assert_eq!(reply[0]["text"], case.texts[best]);
    }
    let wrong = server.post("/rerank", r#"{"query": "a", "texts": []}"#);
    assert_eq!(wrong.status, 422);
    assert_eq!(wrong.json()["error_type"], "validation");
}

#[test]
fn what_cannot_be_ranked_is_refused_by_name() {
    let server = reranker("bert-identity", |_| {});
    let long = "fire ".repeat(100);
    for (body, param, message) in [
        (
            json!({ "query": "a", "documents": ["a", long] }),
            "documents",
            "documents[1] with the query has 104 tokens; expected at most 48, or truncate",
        ),
        (
            json!({ "query": long, "documents": ["a"] }),
            "query",
            "query has 103 tokens; expected at most 48, or truncate",
        ),
        (
            json!({ "query": "a", "documents": "a" }),
            "documents",
            "documents is \"a\"; expected a list of strings, or of objects with a text",
        ),
        (
            json!({ "documents": ["a"] }),
            "query",
            "query is missing; expected a string",
        ),
    ] {
        let reply = server.post("/v1/rerank", &body.to_string());
        assert_eq!(reply.status, 400, "{message}");
        let error = reply.json()["error"].clone();
        assert_eq!(error["message"], message);
        assert_eq!(error["param"], param);
    }
    let body = json!({ "query": long, "texts": [long, "a"], "truncate": true });
    assert_eq!(server.post("/rerank", &body.to_string()).status, 200);
    let other = json!({ "query": "a", "documents": ["a"], "model": "another" });
    assert_eq!(server.post("/v1/rerank", &other.to_string()).status, 404);
    let few = reranker("bert-sigmoid", |options| {
        options.max_client_batch_size = Some(2)
    });
    let body = json!({ "query": "a", "documents": ["a", "b", "c"] });
    assert_eq!(
        few.post("/v1/rerank", &body.to_string()).json()["error"]["message"],
        "documents has 3 entries; expected at most 2"
    );
}

/// A model that makes something else says what to call.
fn assert_wrong_model(server: &TestServer, calls: &[(&str, Value)], message: &str) {
    for (path, body) in calls {
        let reply = server.post(path, &body.to_string());
        assert!(
            matches!(reply.status, 400 | 422),
            "{path}: {}",
            reply.status
        );
        assert!(reply.text().contains(message), "{}", reply.text());
        if path.starts_with("/v1") {
            assert_eq!(reply.json()["error"]["code"], "wrong_model");
        }
    }
}

#[test]
fn models_for_another_task_say_so() {
    let rank = [
        ("/v1/rerank", json!({ "query": "a", "documents": ["a"] })),
        ("/rerank", json!({ "query": "a", "texts": ["a"] })),
    ];
    let embed = [
        ("/v1/embeddings", json!({ "input": "a" })),
        ("/embed", json!({ "inputs": "a" })),
    ];
    let generate = [
        ("/v1/completions", json!({ "prompt": "a" })),
        ("/generate", json!({ "inputs": "a" })),
    ];
    let ranks = reranker("bert-sigmoid", |_| {});
    let no_embeddings = "makes scores of texts, no embeddings: call /v1/rerank";
    assert_wrong_model(&ranks, &embed, no_embeddings);
    let no_text = "makes scores of texts, no text: call /v1/rerank";
    assert_wrong_model(&ranks, &generate, no_text);
    let embeds = embeddings(|_| {});
    let no_scores = "makes embeddings, no scores of texts: call /v1/embeddings";
    assert_wrong_model(&embeds, &rank, no_scores);
    let no_scores = "makes text: serve a cross-encoder for scores of texts";
    assert_wrong_model(&scripted(), &rank, no_scores);
}

#[test]
fn what_is_served_is_told_and_requests_are_counted() {
    let server = reranker("bert-sigmoid", |_| {});
    let info = server.get("/info").json();
    assert_eq!(info["model_pipeline_tag"], "text-ranking");
    assert_eq!(info["max_input_length"], 96);
    assert_eq!(info["model_type"]["reranker"]["activation"], "sigmoid");
    let models = server.get("/v1/models").json();
    assert_eq!(models["data"][0]["max_model_len"], 96);
    let case = &cases("bert-sigmoid")[0];
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let body = json!({ "query": case.query, "documents": case.texts });
                let reply = server.post("/v1/rerank", &body.to_string()).json();
                assert_best(
                    &reply["results"],
                    "relevance_score",
                    &case.scores,
                    usize::MAX,
                );
            });
        }
    });
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("tgi_request_success 12"), "{metrics}");
    assert!(metrics.contains("tgi_request_input_length_count 12"));
}
