//! TGI's routes: exact bytes of whole answers and streams, and its errors.

use serde_json::{Value, json};

use crate::harness::{gated, scripted, tiny};

fn frame(index: usize, text: &str, end: &str) -> String {
    format!(
        r#"{{"index":{index},"token":{{"id":3,"text":"{text}","logprob":-0.5,"special":false}},{end}}}"#
    )
}

const OPEN: &str = r#""generated_text":null,"details":null"#;

#[test]
fn a_stream_has_a_frame_for_each_token_and_ends_without_done() {
    let server = scripted();
    let body = r#"{"inputs": "ha", "parameters": {"max_new_tokens": 3}, "stream": true}"#;
    for (path, text) in [("/generate_stream", " ha ha ha"), ("/", "ha ha ha ha")] {
        let mut stream = server.stream(path, body);
        assert_eq!(stream.status, 200);
        assert_eq!(stream.header("content-type"), Some("text/event-stream"));
        assert_eq!(stream.header("x-compute-type"), Some("gpu"));
        assert_eq!(stream.header("x-compute-characters"), Some("2"));
        let end = format!(
            r#""generated_text":"{text}","details":{{"finish_reason":"length","generated_tokens":3,"seed":null,"input_length":2}}"#
        );
        assert_eq!(
            stream.rest(),
            [
                frame(1, " ha", OPEN),
                frame(2, " ha", OPEN),
                frame(3, " ha", &end)
            ]
        );
    }
}

#[test]
fn whole_answers_are_objects_and_those_of_the_root_are_lists() {
    let server = scripted();
    let body = |more: &str| {
        format!(
            r#"{{"inputs": "ha", "parameters": {{"max_new_tokens": 2{more}}}, "stream": false}}"#
        )
    };
    let plain = server.post("/generate", &body(""));
    assert_eq!(plain.text(), r#"{"generated_text":" ha ha"}"#);
    for (name, value) in [
        ("x-compute-type", "gpu"),
        ("x-compute-characters", "2"),
        ("x-prompt-tokens", "2"),
        ("x-generated-tokens", "2"),
    ] {
        assert_eq!(plain.header(name), Some(value));
    }
    for name in [
        "x-compute-time",
        "x-total-time",
        "x-validation-time",
        "x-queue-time",
        "x-inference-time",
        "x-time-per-token",
    ] {
        let value: f64 = plain.header(name).unwrap().parse().unwrap();
        assert!(value >= 0.0, "{name}");
    }
    assert_eq!(
        server.post("/", &body("")).text(),
        r#"[{"generated_text":"ha ha ha"}]"#
    );
    let own = server.post("/", &body(r#", "return_full_text": false"#));
    assert_eq!(own.text(), r#"[{"generated_text":" ha ha"}]"#);
    let detailed = server.post(
        "/generate",
        &body(r#", "details": true, "top_n_tokens": 2"#),
    );
    let details = &detailed.json()["details"];
    assert_eq!(details["finish_reason"], "length");
    assert_eq!(details["generated_tokens"], 2);
    assert_eq!(details["prefill"], json!([]));
    assert_eq!(
        details["tokens"][1],
        json!({"id": 3, "text": " ha", "logprob": -0.5, "special": false})
    );
    assert_eq!(details["top_tokens"][0].as_array().unwrap().len(), 2);
    let prefill = server.post("/generate", &body(r#", "decoder_input_details": true"#));
    assert_eq!(
        prefill.json()["details"]["prefill"],
        json!([
            {"id": 1, "text": "<s>", "logprob": null},
            {"id": 3, "text": " ha", "logprob": -0.5},
        ])
    );
    let best = server.post(
        "/generate",
        &body(r#", "details": true, "best_of": 2, "do_sample": true"#),
    );
    let details = &best.json()["details"];
    assert_eq!(details["best_of_sequences"].as_array().unwrap().len(), 1);
    assert!(details["seed"].is_u64());
}

#[test]
fn ends_have_tgis_names_and_special_tokens_are_marked() {
    let server = scripted();
    let end = r#"{"inputs": "end", "parameters": {"details": true}}"#;
    let details = server.post("/generate", end).json()["details"].clone();
    assert_eq!(details["finish_reason"], "eos_token");
    assert_eq!(details["tokens"][0]["text"], "</s>");
    assert_eq!(details["tokens"][0]["special"], true);
    let stop = r#"{"inputs": "st", "parameters": {"details": true, "stop": ["!"]}}"#;
    let whole = server.post("/generate", stop).json();
    assert_eq!(whole["details"]["finish_reason"], "stop_sequence");
    assert_eq!(whole["generated_text"], "op");
}

#[test]
fn the_pipelines_example_takes_its_prompt_from_the_query() {
    let server = scripted();
    let reply = server.send("POST", "/generate?prompt=ha%20ha&max_new_tokens=2", &[], "");
    assert_eq!(reply.text(), r#"{"generated_text":"ha ha ha ha"}"#);
    let reply = server.send("POST", "/generate?prompt=ha", &[], "");
    let text = reply.json()["generated_text"].as_str().unwrap().to_owned();
    assert_eq!(text.matches("ha").count(), 257);
    let empty = server.send("POST", "/generate?prompt=", &[], "");
    assert_eq!(empty.status, 422);
    assert_eq!(empty.json()["error_type"], "validation");
}

#[test]
fn truncate_keeps_the_end_of_a_prompt() {
    let server = scripted();
    let body = r#"{"inputs": "ha ha ha", "parameters": {"max_new_tokens": 1, "truncate": 2, "watermark": true}}"#;
    let reply = server.post("/generate", body);
    assert_eq!(reply.header("x-prompt-tokens"), Some("2"));
    assert_eq!(
        reply.header("x-fireside-warning"),
        Some("watermark has no effect")
    );
}

#[test]
fn errors_are_tgis() {
    let server = scripted();
    for (body, status, kind) in [
        ("{", 422, "validation"),
        ("[]", 422, "validation"),
        ("{}", 422, "validation"),
        (r#"{"inputs": ""}"#, 422, "validation"),
        (
            r#"{"inputs": "ha", "parameters": {"temperature": -1}}"#,
            422,
            "validation",
        ),
        (
            r#"{"inputs": "ha", "parameters": {"top_p": 1.1}}"#,
            422,
            "validation",
        ),
        (
            r#"{"inputs": "ha", "parameters": {"max_new_tokens": 5000}}"#,
            422,
            "validation",
        ),
        (
            r#"{"inputs": "ha", "parameters": {"best_of": 3}}"#,
            422,
            "validation",
        ),
        (
            r#"{"inputs": "ha", "parameters": {"grammar": {"type": "json", "value": {}}}}"#,
            422,
            "validation",
        ),
        (r#"{"inputs": "fail"}"#, 424, "generation"),
    ] {
        for path in ["/", "/generate", "/generate_stream"] {
            let body = body.replacen('{', r#"{"stream": false, "#, usize::from(body.len() > 2));
            let reply = server.post(path, &body.replace(", }", "}"));
            if path == "/generate_stream" && kind == "generation" {
                assert_eq!(reply.status, 200);
                let text = reply.text();
                assert!(text.starts_with(r#"data: {"error":"#), "{text}");
                assert!(text.contains(r#""error_type":"generation""#), "{text}");
                continue;
            }
            assert_eq!(reply.status, status, "{path} {body}: {}", reply.text());
            assert_eq!(reply.json()["error_type"], kind, "{path} {body}");
            assert!(reply.json()["error"].is_string());
        }
    }
    for body in [
        r#"{"inputs": "ha", "parameters": {"decoder_input_details": true}}"#,
        r#"{"inputs": "ha", "parameters": {"best_of": 2, "do_sample": true}}"#,
    ] {
        let refused = server.post("/generate_stream", body);
        assert_eq!(
            (refused.status, &refused.json()["error_type"]),
            (422, &json!("validation"))
        );
    }
    let wrong = server.get("/generate");
    assert_eq!(
        (wrong.status, wrong.json()["error"].is_string()),
        (405, true)
    );
    let server = gated(|options| options.max_concurrent_requests = 1);
    let _held = server.begin("/generate", r#"{"inputs": "ha"}"#);
    server.wait_for_requests(1);
    let refused = server.post("/generate", r#"{"inputs": "ha"}"#);
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["error_type"], "overloaded");
    assert_eq!(refused.header("retry-after"), Some("1"));
}

#[test]
fn tokenize_answers_in_the_form_that_was_asked() {
    let server = tiny();
    let text = "the cat é";
    let tgi = server
        .post("/tokenize", &json!({"inputs": text}).to_string())
        .json();
    let spans = tgi.as_array().unwrap();
    let joined: String = spans
        .iter()
        .map(|span| span["text"].as_str().unwrap())
        .collect();
    assert!(joined.starts_with("the cat"), "{joined}");
    for pair in spans.windows(2) {
        assert_eq!(pair[0]["stop"], pair[1]["start"]);
    }
    let ids: Vec<&Value> = spans.iter().map(|span| &span["id"]).collect();
    let vllm = server
        .post("/tokenize", &json!({"prompt": text}).to_string())
        .json();
    assert_eq!(vllm["tokens"], json!(ids));
    assert_eq!(vllm["count"], ids.len());
    assert_eq!(vllm["max_model_len"], 256);
    let llama = server
        .post("/tokenize", &json!({"content": "the cat"}).to_string())
        .json();
    let back = server.post("/detokenize", &llama.to_string()).json();
    assert_eq!(back, json!({"prompt": "the cat", "content": "the cat"}));
    for (path, body) in [
        ("/tokenize", "{}"),
        ("/tokenize", r#"{"inputs": 7}"#),
        ("/detokenize", "{}"),
        ("/detokenize", r#"{"tokens": [100000]}"#),
        ("/chat_tokenize", r#"{"messages": []}"#),
    ] {
        assert_eq!(server.post(path, body).status, 422, "{path} {body}");
    }
}

#[test]
fn a_chat_is_shown_as_the_template_writes_it() {
    let server = scripted();
    let body = r#"{"messages": [{"role": "user", "content": "ha st"}]}"#;
    let reply = server.post("/chat_tokenize", body).json();
    assert_eq!(reply["templated_text"], "ha st");
    let ids: Vec<u64> = reply["tokenize_response"]
        .as_array()
        .unwrap()
        .iter()
        .map(|span| span["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, [3, 8]);
    assert_eq!(
        server.post("/tokenize", body).json()["tokens"],
        json!([3, 8])
    );
}

#[test]
fn a_chats_tokens_are_those_that_its_answer_counts_whatever_its_options() {
    let server = scripted();
    let cue = json!({"chat_template_kwargs": {"after": " st", "cue": " ha"}});
    for (options, expected) in [
        (json!({}), vec![3, 3]),
        (json!({"add_generation_prompt": true}), vec![3, 3]),
        (cue.clone(), vec![3, 8, 3, 8, 3]),
        (
            merged(&cue, "add_generation_prompt", true),
            vec![3, 8, 3, 8, 3],
        ),
        (
            merged(&cue, "add_generation_prompt", false),
            vec![3, 8, 3, 8],
        ),
        (merged(&cue, "continue_final_message", true), vec![3, 8, 3]),
        (
            merged(&cue, "continue_final_message", false),
            vec![3, 8, 3, 8, 3],
        ),
    ] {
        let mut body = options;
        body["messages"] = json!([
            {"role": "user", "content": "ha"},
            {"role": "assistant", "content": " ha"},
        ]);
        body["max_tokens"] = 1.into();
        let text = body.to_string();
        assert_eq!(
            server.post("/tokenize", &text).json()["tokens"],
            json!(expected),
            "{text}"
        );
        let shown = server.post("/chat_tokenize", &text).json();
        let spans = shown["tokenize_response"].as_array().unwrap();
        let ids: Vec<&Value> = spans.iter().map(|span| &span["id"]).collect();
        assert_eq!(json!(ids), json!(expected), "{text}");
        let answer = server.post("/v1/chat/completions", &text).json();
        assert_eq!(answer["usage"]["prompt_tokens"], expected.len(), "{text}");
    }
    let both = json!({
        "messages": [{"role": "user", "content": "ha"}],
        "continue_final_message": true,
        "add_generation_prompt": true,
    });
    for (path, status) in [
        ("/tokenize", 422),
        ("/chat_tokenize", 422),
        ("/v1/chat/completions", 400),
    ] {
        assert_eq!(
            server.post(path, &both.to_string()).status,
            status,
            "{path}"
        );
    }
}

fn merged(options: &Value, name: &str, value: bool) -> Value {
    let mut options = options.clone();
    options[name] = value.into();
    options
}

#[test]
fn info_and_health_tell_what_runs() {
    let server = scripted();
    let info = server.get("/info").json();
    for name in [
        "model_id",
        "model_sha",
        "model_pipeline_tag",
        "max_concurrent_requests",
        "max_best_of",
        "max_stop_sequences",
        "max_input_tokens",
        "max_total_tokens",
        "validation_workers",
        "max_client_batch_size",
        "draft_model",
        "router",
        "version",
        "sha",
        "docker_label",
    ] {
        assert!(info.get(name).is_some(), "{name}");
    }
    assert_eq!(info["max_total_tokens"], 4096);
    assert_eq!(info["payload_total_limit"], 64_000_000);
    assert!(info["draft_model"].is_null());
    assert_eq!(info["speculate"], 0);
    assert_eq!(info["kv_cache_dtype"], "f16");
    // Four times the KV cache.
    let cache = info["max_batch_total_tokens"].as_u64().unwrap();
    assert_eq!(info["max_queued_tokens"], 4 * cache);
    for path in ["/", "/health", "/health/ready", "/ping"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    assert!(server.get("/version").json()["version"].is_string());
}
