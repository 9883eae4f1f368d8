//! OpenAI's routes: exact bytes of whole answers and streams.

use serde_json::{Value, json};

use crate::client::Stream;
use crate::harness::{END, GOOD, HA, SMILE, STOP, plain, scripted, tiny};

const CHAT: &str = "/v1/chat/completions";
const COMPLETE: &str = "/v1/completions";

fn texts(frames: &[String]) -> Vec<Value> {
    frames
        .iter()
        .filter(|frame| *frame != "[DONE]")
        .map(|frame| serde_json::from_str(frame).unwrap())
        .collect()
}

/// The text of choice `index` in the chunks of a completion.
fn text_of(chunks: &[Value], index: usize) -> String {
    let choices = chunks.iter().filter_map(|chunk| chunk["choices"].get(0));
    choices
        .filter(|choice| choice["index"] == index)
        .filter_map(|choice| {
            choice["text"]
                .as_str()
                .or(choice["delta"]["content"].as_str())
        })
        .collect()
}

fn reasons(chunks: &[Value]) -> Vec<String> {
    let choices = chunks.iter().filter_map(|chunk| chunk["choices"].get(0));
    choices
        .filter_map(|choice| choice["finish_reason"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn a_chat_streams_in_exactly_this_order() {
    let server = scripted();
    let body = r#"{"model": "tgi", "messages": [{"role": "user", "content": "ha"}], "stream": true,
        "max_tokens": 2, "temperature": 0, "stream_options": {"include_usage": true}}"#;
    let mut stream = server.stream(CHAT, body);
    assert_eq!(stream.status, 200);
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    assert_eq!(stream.header("cache-control"), Some("no-cache"));
    assert_eq!(stream.header("x-accel-buffering"), Some("no"));
    let frames = stream.rest();
    let ids: Vec<Value> = texts(&frames)
        .iter()
        .map(|chunk| chunk["id"].clone())
        .collect();
    assert!(
        ids.iter()
            .all(|id| *id == ids[0] && id.as_str().unwrap().starts_with("chatcmpl-"))
    );
    let plain: Vec<String> = frames.iter().map(|frame| plain(frame)).collect();
    let chunk = |choices: &str| {
        format!(
            r#"{{"id":"ID","object":"chat.completion.chunk","created":0,"model":"test-model","choices":[{choices}]}}"#
        )
    };
    let choice = |delta: &str, reason: &str| {
        chunk(&format!(
            r#"{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}"#
        ))
    };
    assert_eq!(
        plain,
        [
            choice(r#"{"role":"assistant","content":""}"#, "null"),
            choice(r#"{"content":" ha"}"#, "null"),
            choice(r#"{"content":" ha"}"#, "null"),
            choice("{}", r#""length""#),
            format!(
                "{},{}",
                chunk("").strip_suffix('}').unwrap(),
                r#""usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":0}}}"#
            ),
            "[DONE]".to_owned(),
        ]
    );
}

#[test]
fn without_include_usage_no_chunk_is_without_choices() {
    let server = scripted();
    let body =
        r#"{"messages": [{"role": "user", "content": "ha"}], "stream": true, "max_tokens": 1}"#;
    let frames = server.stream(CHAT, body).rest();
    assert_eq!(frames.last().unwrap(), "[DONE]");
    for chunk in texts(&frames) {
        assert_eq!(chunk["choices"].as_array().unwrap().len(), 1);
        assert!(chunk.get("usage").is_none());
    }
}

#[test]
fn whole_answers_have_exactly_this_form() {
    let server = scripted();
    let chat = server.post(
        CHAT,
        r#"{"messages": [{"role": "user", "content": "ha"}], "max_tokens": 2, "temperature": 0}"#,
    );
    assert_eq!(chat.status, 200);
    assert_eq!(chat.header("content-type"), Some("application/json"));
    assert_eq!(
        plain(&chat.text()),
        concat!(
            r#"{"id":"ID","object":"chat.completion","created":0,"model":"test-model","choices":["#,
            r#"{"index":0,"message":{"role":"assistant","content":" ha ha"},"logprobs":null,"#,
            r#""finish_reason":"length"}],"#,
            r#""usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"prompt_tokens_details":{"cached_tokens":0}}}"#
        )
    );
    let body = format!(r#"{{"model": "test-model", "prompt": [{END}], "temperature": 0}}"#);
    assert_eq!(
        plain(&server.post(COMPLETE, &body).text()),
        concat!(
            r#"{"id":"ID","object":"text_completion","created":0,"model":"test-model","choices":["#,
            r#"{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}],"#,
            r#""usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2,"prompt_tokens_details":{"cached_tokens":0}}}"#
        )
    );
}

#[test]
fn prompts_and_n_make_choices_in_order() {
    let server = scripted();
    let body = format!(
        r#"{{"prompt": [[{HA}], [{GOOD}]], "n": 2, "max_tokens": 2, "temperature": 0, "echo": true}}"#
    );
    let whole = server.post(COMPLETE, &body).json();
    let own: Vec<(u64, &str)> = whole["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["index"].as_u64().unwrap(), c["text"].as_str().unwrap()))
        .collect();
    assert_eq!(own[0].0, 0);
    assert_eq!(
        own.iter().map(|c| c.1).collect::<Vec<_>>(),
        ["ha ha ha", "ha ha ha", "好好好", "好好好"]
    );
    // A prompt counts once, whatever n is.
    assert_eq!(
        whole["usage"],
        json!({
            "prompt_tokens": 2,
            "completion_tokens": 8,
            "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 0},
        })
    );
    let streamed = body.replace("\"n\"", "\"stream\": true, \"n\"");
    let chunks = texts(&server.stream(COMPLETE, &streamed).rest());
    for (index, (_, text)) in own.iter().enumerate() {
        assert_eq!(text_of(&chunks, index), *text);
    }
    assert_eq!(reasons(&chunks), ["length"; 4]);
}

#[test]
fn nothing_of_a_stop_string_is_ever_sent() {
    let server = scripted();
    for stop in [r#"" stop!""#, r#"[" stop!", "never"]"#, r#""op!""#] {
        for stream in [false, true] {
            let body = format!(
                r#"{{"prompt": [{STOP}], "max_tokens": 9, "temperature": 0, "stop": {stop}, "stream": {stream}}}"#
            );
            let (text, reason) = if stream {
                let chunks = texts(&server.stream(COMPLETE, &body).rest());
                (text_of(&chunks, 0), reasons(&chunks).join(","))
            } else {
                let whole = server.post(COMPLETE, &body).json();
                let choice = &whole["choices"][0];
                (
                    choice["text"].as_str().unwrap().to_owned(),
                    choice["finish_reason"].as_str().unwrap().to_owned(),
                )
            };
            let expected = if stop.contains(" stop") { "op!" } else { "" };
            assert_eq!(
                (text.as_str(), reason.as_str()),
                (expected, "stop"),
                "{stop} {stream}"
            );
        }
    }
}

#[test]
fn characters_of_several_tokens_come_whole_even_where_the_limit_cuts_one() {
    let server = scripted();
    for (tokens, expected) in [(7, "\u{1F600}"), (3, ""), (6, "")] {
        let body = |stream: bool| {
            format!(
                r#"{{"prompt": [7], "max_tokens": {tokens}, "temperature": 0, "stop": "好", "stream": {stream}}}"#
            )
        };
        let whole = server.post(COMPLETE, &body(false)).json();
        let chunks = texts(&server.stream(COMPLETE, &body(true)).rest());
        let text = whole["choices"][0]["text"].as_str().unwrap();
        assert_eq!(text_of(&chunks, 0), text);
        assert!(text.starts_with(expected), "{text:?}");
        assert_eq!(whole["choices"][0]["finish_reason"], "length");
    }
    assert_eq!(SMILE, 4);
}

#[test]
fn logprobs_come_in_both_forms() {
    let server = scripted();
    let chat = server.post(
        CHAT,
        r#"{"messages": [{"role": "user", "content": "ha"}], "max_tokens": 1, "temperature": 0,
            "logprobs": true, "top_logprobs": 2}"#,
    );
    let content = &chat.json()["choices"][0]["logprobs"]["content"];
    assert_eq!(content[0]["token"], " ha");
    assert_eq!(content[0]["logprob"], -0.5);
    assert_eq!(content[0]["top_logprobs"].as_array().unwrap().len(), 2);
    let body = format!(r#"{{"prompt": [{HA}], "max_tokens": 2, "temperature": 0, "logprobs": 0}}"#);
    let logprobs = &server.post(COMPLETE, &body).json()["choices"][0]["logprobs"];
    assert_eq!(logprobs["token_logprobs"], json!([-0.5, -0.5]));
}

#[test]
fn an_echo_with_logprobs_scores_the_prompt_with_or_without_new_tokens() {
    let server = scripted();
    let body = |tokens: usize, more: &str| {
        format!(
            r#"{{"prompt": [[{HA}, {GOOD}, {SMILE}], [{HA}]], "max_tokens": {tokens}, "temperature": 0,
                "echo": true, "logprobs": 1{more}}}"#
        )
    };
    let whole = server.post(COMPLETE, &body(0, "")).json();
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(
        choice["logprobs"],
        json!({
            "tokens": [" ha", "好", "bytes:\\xf0"],
            "token_logprobs": [null, -1.5, -1.5],
            "top_logprobs": [null, {" ha": -0.5, "好": -1.5}, {"好": -0.5, "bytes:\\xf0": -1.5}],
            "text_offset": [0, 2, 3],
        })
    );
    assert_eq!(whole["choices"][1]["logprobs"]["tokens"], json!([" ha"]));
    assert_eq!(whole["usage"]["prompt_tokens"], 4);
    assert_eq!(whole["usage"]["completion_tokens"], 0);
    let chunks = texts(
        &server
            .stream(COMPLETE, &body(0, r#", "stream": true"#))
            .rest(),
    );
    assert_eq!(chunks.len(), 2);
    for chunk in &chunks {
        let own = &chunk["choices"][0];
        assert_eq!(
            own,
            &whole["choices"][own["index"].as_u64().unwrap() as usize]
        );
    }

    let longer = server.post(COMPLETE, &body(2, "")).json();
    let columns = &longer["choices"][1]["logprobs"];
    assert_eq!(longer["choices"][1]["text"], "ha ha ha");
    assert_eq!(columns["token_logprobs"], json!([null, -0.5, -0.5]));
    assert_eq!(columns["text_offset"], json!([0, 2, 5]));
    let chunks = texts(
        &server
            .stream(COMPLETE, &body(2, r#", "stream": true"#))
            .rest(),
    );
    assert_eq!(text_of(&chunks, 1), "ha ha ha");
    let refused = server.post(COMPLETE, r#"{"prompt": "ha", "max_tokens": 0}"#);
    assert_eq!(refused.json()["error"]["param"], "max_tokens");
}

#[test]
fn best_of_gives_n_of_its_sequences_and_counts_the_tokens_of_all() {
    let server = scripted();
    let body = |more: &str| {
        format!(r#"{{"prompt": [[{HA}], [{GOOD}]], "max_tokens": 2, "best_of": 4{more}}}"#)
    };
    let whole = server.post(COMPLETE, &body(r#", "n": 2"#)).json();
    let choices = whole["choices"].as_array().unwrap();
    let texts: Vec<&str> = choices
        .iter()
        .map(|c| c["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, [" ha ha", " ha ha", "好好", "好好"]);
    assert!(choices.iter().all(|choice| choice["logprobs"].is_null()));
    assert_eq!(whole["usage"]["completion_tokens"], 16);
    for more in [
        r#", "stream": true"#,
        r#", "temperature": 0"#,
        r#", "n": 5"#,
    ] {
        let refused = server.post(COMPLETE, &body(more));
        assert_eq!(
            (refused.status, &refused.json()["error"]["param"]),
            (400, &json!("best_of"))
        );
    }
}

#[test]
fn models_are_listed_and_found_by_each_of_their_names() {
    let server = scripted();
    let list = server.get("/v1/models").json();
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"][0]["id"], "test-model");
    assert_eq!(list["data"][0]["max_model_len"], 4096);
    for name in ["test-model", "tgi"] {
        assert_eq!(
            server.get(&format!("/v1/models/{name}")).json()["id"],
            "test-model"
        );
    }
    let unknown = server.get("/v1/models/someone/else");
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.json()["error"]["code"], "model_not_found");
}

#[test]
fn a_real_checkpoint_gives_the_same_text_whole_and_as_a_stream_alone_and_in_company() {
    let server = tiny();
    let body = |stream: bool| {
        format!(
            r#"{{"prompt": "the cat was", "max_tokens": 24, "temperature": 0, "stream": {stream}}}"#
        )
    };
    let alone = server.post(COMPLETE, &body(false)).json();
    let text = alone["choices"][0]["text"].as_str().unwrap();
    assert!(!text.is_empty());
    let mut streams: Vec<Stream> = (0..4)
        .map(|_| server.stream(COMPLETE, &body(true)))
        .collect();
    for stream in &mut streams {
        assert_eq!(text_of(&texts(&stream.rest()), 0), text);
    }
    let sampled =
        r#"{"prompt": "the cat was", "max_tokens": 16, "seed": 7, "top_p": 1, "top_k": 0}"#;
    let [first, second] = [0, 1].map(|_| server.post(COMPLETE, sampled).json());
    assert_eq!(first["choices"][0]["text"], second["choices"][0]["text"]);
}
