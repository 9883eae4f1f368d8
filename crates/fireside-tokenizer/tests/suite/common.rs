//! Fixtures, and vocabularies made from them.

use fireside_tokenizer::GgufVocab;
use serde_json::Value;

/// Parses a fixture.
pub(crate) fn fixture(json: &str) -> Value {
    serde_json::from_str(json).expect("the fixture is JSON")
}

pub(crate) fn strings(value: &Value) -> Vec<&str> {
    let items = value.as_array().expect("a list");
    items
        .iter()
        .map(|item| item.as_str().expect("a string"))
        .collect()
}

pub(crate) fn ids(value: &Value) -> Vec<u32> {
    let items = value.as_array().expect("a list");
    items
        .iter()
        .map(|item| item.as_u64().expect("an id") as u32)
        .collect()
}

pub(crate) fn types(value: &Value) -> Vec<i32> {
    ids(value).into_iter().map(|kind| kind as i32).collect()
}

/// Pairs such as `[text, [ids]]`.
pub(crate) fn pairs(value: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|pair| (&pair[0], &pair[1]))
}

/// The vocabulary of `spm.json`, or of an object in it.
pub(crate) fn spm_vocab(fixture: &Value) -> GgufVocab<'_> {
    GgufVocab {
        model: "llama",
        tokens: strings(&fixture["tokens"]),
        scores: fixture["scores"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|score| score.as_f64().expect("a score") as f32)
            .collect(),
        token_types: types(&fixture["token_types"]),
        bos: Some(1),
        eos: Some(2),
        unk: Some(0),
        ..GgufVocab::default()
    }
}

/// The vocabulary of `bpe.json` with a pre-tokenizer.
pub(crate) fn bpe_vocab<'a>(fixture: &'a Value, pre: &'a str) -> GgufVocab<'a> {
    GgufVocab {
        model: "gpt2",
        pre: Some(pre),
        tokens: strings(&fixture["tokens"]),
        token_types: types(&fixture["token_types"]),
        merges: strings(&fixture["merges"]),
        bos: Some(1),
        eos: Some(2),
        add_bos: Some(false),
        ..GgufVocab::default()
    }
}

/// Records a test that could not run, and why, where the test command counts it.
pub(crate) fn skip(test: &str, reason: &str) {
    use std::io::Write;
    eprintln!("skipped {test}: {reason}");
    if let Some(log) = std::env::var_os("FIRESIDE_SKIP_LOG") {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log);
        let _ = file.and_then(|mut file| writeln!(file, "{test}: {reason}"));
    }
}
