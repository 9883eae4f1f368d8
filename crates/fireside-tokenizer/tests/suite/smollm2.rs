//! The vocabulary and the template of the real SmolLM2 file, whose path is in `FIRESIDE_TEST_GGUF`.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::common::{fixture, ids, pairs};
use crate::gguf::Meta;
use fireside_tokenizer::{ChatInput, ChatTemplate, GgufVocab, Tokenizer};
use serde_json::json;

/// The file's metadata, or `None` with a line that says why the test is skipped.
fn metadata() -> Option<HashMap<String, Meta>> {
    let Some(path) = std::env::var_os("FIRESIDE_TEST_GGUF").map(PathBuf::from) else {
        eprintln!(
            "skipped: FIRESIDE_TEST_GGUF is not set to the path of SmolLM2-135M-Instruct.Q4_1.gguf"
        );
        return None;
    };
    Some(crate::gguf::metadata(&path))
}

fn vocab(meta: &HashMap<String, Meta>) -> GgufVocab<'_> {
    let get = |key: &str| meta.get(&format!("tokenizer.ggml.{key}"));
    let texts = |key: &str| {
        get(key)
            .map_or(&[][..], Meta::list)
            .iter()
            .filter_map(Meta::text)
            .collect()
    };
    let id = |key: &str| get(key).and_then(Meta::number).map(|id| id as u32);
    GgufVocab {
        model: get("model").and_then(Meta::text).unwrap_or_default(),
        pre: get("pre").and_then(Meta::text),
        tokens: texts("tokens"),
        token_types: get("token_type")
            .map_or(&[][..], Meta::list)
            .iter()
            .filter_map(|kind| kind.number().map(|kind| kind as i32))
            .collect(),
        merges: texts("merges"),
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        unk: id("unknown_token_id"),
        pad: id("padding_token_id"),
        add_bos: get("add_bos_token").and_then(Meta::flag),
        add_space_prefix: get("add_space_prefix").and_then(Meta::flag),
        ..GgufVocab::default()
    }
}

#[test]
fn the_real_vocabulary_gives_the_reference_tokens() {
    let Some(meta) = metadata() else { return };
    let fixture = fixture(include_str!("../fixtures/smollm2.json"));
    let tokenizer = Tokenizer::from_gguf(&vocab(&meta)).unwrap();
    assert_eq!(
        tokenizer.vocab_size() as u64,
        fixture["vocab_size"].as_u64().unwrap()
    );
    assert_eq!(tokenizer.special_tokens().stop, [0, 2]);
    for (text, expected) in pairs(&fixture["encode"]) {
        let text = text.as_str().unwrap();
        let tokens = tokenizer.encode(text, true).unwrap();
        assert_eq!(tokens, ids(expected), "{text:?}");
        assert_eq!(tokenizer.decode(&tokens, false), text);
    }
    for (row, expected) in pairs(&fixture["decode"]) {
        let row = ids(row);
        assert_eq!(
            tokenizer.decode(&row, false),
            expected.as_str().unwrap(),
            "{row:?}"
        );
        let mut stream = tokenizer.stream(false);
        let mut text: String = row.iter().filter_map(|&id| stream.push(id)).collect();
        text.extend(stream.finish());
        assert_eq!(text, expected.as_str().unwrap());
    }
}

#[test]
fn the_real_template_gives_the_reference_tokens() {
    let Some(meta) = metadata() else { return };
    let tokenizer = Tokenizer::from_gguf(&vocab(&meta)).unwrap();
    let template = ChatTemplate::from_model(
        meta.get("tokenizer.chat_template").and_then(Meta::text),
        [("bos_token", "<|im_start|>"), ("eos_token", "<|im_end|>")],
    )
    .unwrap();
    let messages = [json!({"role": "user", "content": "What is the capital of France?"})];
    let prompt = template
        .render(&ChatInput::new(&messages).with_generation_prompt())
        .unwrap();
    assert!(prompt.ends_with("<|im_start|>assistant\n"));
    let tokens = tokenizer.encode(&prompt, false).unwrap();
    assert_eq!(tokens.iter().filter(|&&id| id == 1).count(), 3);
    assert_eq!(tokens.iter().filter(|&&id| id == 2).count(), 2);
    assert_eq!(tokenizer.decode(&tokens, false), prompt);
}

#[test]
fn a_file_without_merges_is_one_clear_line() {
    let Some(meta) = metadata() else { return };
    let vocab = GgufVocab {
        merges: Vec::new(),
        ..vocab(&meta)
    };
    assert_eq!(
        Tokenizer::from_gguf(&vocab).unwrap_err().to_string(),
        "the BPE tokenizer has no merges; expected a list of token pairs in tokenizer.ggml.merges"
    );
}
