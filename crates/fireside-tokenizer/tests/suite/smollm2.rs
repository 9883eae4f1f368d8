//! The vocabulary and the template of the real SmolLM2 file, whose path is in `FIRESIDE_TEST_GGUF`.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::common::{fixture, ids, pairs, skip};
use crate::gguf::{Meta, vocab};
use fireside_tokenizer::{ChatInput, ChatTemplate, GgufVocab, Tokenizer};
use serde_json::json;

/// The file's metadata, or `None` with a line that says why the test is skipped.
fn metadata() -> Option<HashMap<String, Meta>> {
    let Some(path) = std::env::var_os("FIRESIDE_TEST_GGUF").map(PathBuf::from) else {
        skip(
            "smollm2_tokenizer",
            "FIRESIDE_TEST_GGUF is not set to the path of SmolLM2-135M-Instruct.Q4_1.gguf",
        );
        return None;
    };
    Some(crate::gguf::metadata(&path))
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
