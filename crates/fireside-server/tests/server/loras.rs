//! LoRA adapters: named by requests, listed, loaded and unloaded by clients.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{TestServer, checkpoint};

const BASE: &str = "../../tests/fixtures/tiny-llama/head-dim";
const FOLDER: &str = "../../tests/fixtures/lora";
const COMPLETIONS: &str = "/v1/completions";
const LOAD: &str = "/v1/load_lora_adapter";
const UNLOAD: &str = "/v1/unload_lora_adapter";

/// A server with one adapter from the start, whose clients may load others.
fn server() -> TestServer {
    let loras = &[("first", "../../tests/fixtures/lora/llama")];
    checkpoint(BASE, loras, |options| {
        options.lora_root = Some(Path::new(FOLDER).into());
    })
}

/// What a model of this name makes of a prompt.
fn answer(server: &TestServer, model: &str) -> Value {
    let body = json!({
        "model": model, "prompt": [5, 9, 30, 12, 7, 44], "max_tokens": 6, "temperature": 0,
        "ignore_eos": true, "logprobs": 0,
    });
    let reply = server.post(COMPLETIONS, &body.to_string());
    assert_eq!(reply.status, 200, "{}", reply.text());
    let reply = reply.json();
    assert_eq!(reply["model"], model);
    reply["choices"][0]["logprobs"]["token_logprobs"].clone()
}

fn names(server: &TestServer) -> Vec<String> {
    let models = server.get("/v1/models").json();
    let data = models["data"].as_array().unwrap().clone();
    data.iter()
        .map(|card| card["id"].as_str().unwrap().into())
        .collect()
}

#[test]
fn an_adapter_is_a_model_of_its_own_to_openais_clients_and_an_id_to_tgis() {
    let server = server();
    let (plain, adapted) = (answer(&server, "test-model"), answer(&server, "first"));
    assert_ne!(plain, adapted);
    assert_eq!(names(&server), ["test-model", "first"]);
    let card = server.get("/v1/models/first").json();
    assert_eq!(card["parent"], "test-model");
    assert_eq!(card["base_model"], "fireside/tiny-llama/head-dim");

    let generate = |parameters: Value| {
        let body = json!({ "inputs": "a b c", "parameters": parameters });
        server.post("/generate", &body.to_string())
    };
    let limits = json!({ "max_new_tokens": 6 });
    let text = |adapter: &str| {
        let mut parameters = limits.clone();
        parameters["adapter_id"] = adapter.into();
        parameters["details"] = true.into();
        generate(parameters).json()["details"]["tokens"].clone()
    };
    assert_ne!(text("test-model"), text("first"));
    let refused = generate(json!({ "adapter_id": "second" }));
    assert_eq!(refused.status, 422);
    assert_eq!(
        refused.json()["error"],
        "adapter_id is \"second\"; expected \"test-model\" or one of its LoRA adapters, \"first\""
    );
}

#[test]
fn clients_load_and_unload_adapters_while_the_server_runs() {
    let server = server();
    let before = answer(&server, "first");
    let load = |name: &str, path: &str| {
        let body = json!({ "lora_name": name, "lora_path": path });
        server.post(LOAD, &body.to_string())
    };
    let loaded = load("second", "llama-attention");
    assert_eq!(loaded.status, 200, "{}", loaded.text());
    assert_eq!(
        loaded.json()["message"],
        "the LoRA adapter \"second\" is loaded"
    );
    assert_eq!(names(&server), ["test-model", "first", "second"]);
    let second = answer(&server, "second");
    assert_ne!(second, before);
    assert_eq!(answer(&server, "first"), before);

    for (name, path, field, what) in [
        (
            "first",
            "llama",
            "lora_name",
            "a name that no other adapter has",
        ),
        (
            "test-model",
            "llama",
            "lora_name",
            "that is not the model's",
        ),
        ("tgi", "llama", "lora_name", "that is not the model's"),
        ("", "llama", "lora_name", "a name of up to 256 bytes"),
        (
            "third",
            "../tiny-llama",
            "lora_path",
            "a folder in the server's --lora-root",
        ),
        (
            "third",
            "none",
            "lora_path",
            "a folder in the server's --lora-root",
        ),
        ("third", "qwen2", "lora_path", "for this model it would be"),
    ] {
        let refused = load(name, path);
        assert_eq!(refused.status, 400, "{}", refused.text());
        let error = refused.json()["error"].clone();
        assert_eq!(error["param"], field, "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(what), "{message}");
    }

    let unload = |name: &str| server.post(UNLOAD, &json!({ "lora_name": name }).to_string());
    assert_eq!(unload("first").status, 200);
    assert_eq!(names(&server), ["test-model", "second"]);
    assert_eq!(answer(&server, "second"), second);
    assert_eq!(unload("first").status, 404);
    let gone = server.post(COMPLETIONS, r#"{"model": "first", "prompt": "a"}"#);
    assert_eq!(gone.status, 404);
    assert_eq!(gone.json()["error"]["code"], "model_not_found");
    for body in ["{}", r#"{"lora_name": 7}"#, "[]"] {
        assert_eq!(server.post(UNLOAD, body).status, 400, "{body}");
    }
}

#[test]
fn clients_change_no_adapters_unless_the_owner_lets_them() {
    let server = checkpoint(BASE, &[], |_| {});
    for (path, body) in [
        (LOAD, json!({ "lora_name": "a", "lora_path": "llama" })),
        (UNLOAD, json!({ "lora_name": "a" })),
    ] {
        let refused = server.post(path, &body.to_string());
        assert_eq!(refused.status, 403);
        let message = refused.json()["error"]["message"].clone();
        assert!(
            message.as_str().unwrap().contains("--lora-root FOLDER"),
            "{message}"
        );
    }
}
