//! A bad vocabulary is one clear line.

use crate::common::{bpe_vocab, fixture, spm_vocab};
use fireside_tokenizer::{Error, GgufVocab, Tokenizer};

const BYTE_LEVEL: &str = include_str!("../fixtures/byte_level_tokenizer.json");

fn message(vocab: &GgufVocab<'_>) -> String {
    Tokenizer::from_gguf(vocab).unwrap_err().to_string()
}

fn json_error(json: &str) -> Error {
    Tokenizer::from_json(json.as_bytes(), None).unwrap_err()
}

#[test]
fn each_bad_gguf_vocabulary_says_what_is_wrong() {
    let bpe = fixture(include_str!("../fixtures/bpe.json"));
    let spm = fixture(include_str!("../fixtures/spm.json"));
    let good = bpe_vocab(&bpe, "gpt-2");
    let count = good.tokens.len();
    for model in ["bert", "t5", "rwkv", ""] {
        let vocab = GgufVocab {
            model,
            ..good.clone()
        };
        assert_eq!(
            message(&vocab),
            format!(
                "tokenizer model \"{model}\" is not supported; known models: gpt2 (byte-level BPE), \
                 llama (SentencePiece BPE)"
            )
        );
    }
    let vocab = GgufVocab {
        pre: Some("gpt-99"),
        ..good.clone()
    };
    assert!(
        message(&vocab)
            .starts_with("pre-tokenizer \"gpt-99\" (tokenizer.ggml.pre) is not known; known pre-")
    );
    let vocab = GgufVocab {
        merges: vec![],
        ..good.clone()
    };
    assert_eq!(
        message(&vocab),
        "the BPE tokenizer has no merges; expected a list of token pairs in tokenizer.ggml.merges"
    );
    let vocab = GgufVocab {
        merges: vec!["a b c"],
        ..good.clone()
    };
    assert!(
        message(&vocab)
            .starts_with("merge 0 (\"a b c\") of tokenizer.ggml.merges uses or makes a token that")
    );
    let vocab = GgufVocab {
        merges: vec!["ab"],
        ..good.clone()
    };
    assert_eq!(
        message(&vocab),
        "merge 0 (\"ab\") of tokenizer.ggml.merges is not two tokens separated by a space"
    );
    let vocab = GgufVocab {
        tokens: vec![],
        ..good.clone()
    };
    assert_eq!(
        message(&vocab),
        "the tokenizer has no tokens (tokenizer.ggml.tokens is empty or missing)"
    );
    let vocab = GgufVocab {
        token_types: vec![1],
        ..good.clone()
    };
    assert_eq!(
        message(&vocab),
        format!("tokenizer.ggml.token_type has 1 entries, but the vocabulary has {count} tokens")
    );
    let vocab = GgufVocab {
        eos: Some(1_000_000),
        ..good.clone()
    };
    assert_eq!(
        message(&vocab),
        format!("tokenizer.ggml.eos_token_id is 1000000, but the vocabulary has {count} tokens")
    );
    let vocab = GgufVocab {
        token_types: vec![3, 3, 3],
        tokens: vec!["a", "b", "c"],
        scores: vec![],
        unk: None,
        ..spm_vocab(&spm)
    };
    // The unknown token is 0 where a file does not say.
    assert!(Tokenizer::from_gguf(&vocab).is_ok());
}

#[test]
fn each_bad_tokenizer_json_says_what_is_wrong() {
    for (json, start) in [
        ("", "tokenizer.json: EOF while parsing"),
        ("[1]", "tokenizer.json: "),
        ("{}", "tokenizer.json: missing field `model`"),
        (
            r#"{"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
                "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}"#,
            "tokenizer.json: normalizer Precompiled (a SentencePiece character map) is not supported",
        ),
        (
            r#"{"model": {"type": "BPE", "vocab": {}, "merges": []}}"#,
            "the tokenizer has no tokens (model.vocab of tokenizer.json is empty or missing)",
        ),
        (
            r#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}}}"#,
            "the BPE tokenizer has no merges; expected a list of token pairs in model.merges of tokenizer.json",
        ),
        (
            r#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b", "ab ab"]}}"#,
            "merge 1 (\"ab ab\") of model.merges of tokenizer.json makes a token that is not in the vocabulary",
        ),
        (
            r#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 4294967295}, "merges": []}}"#,
            "a token id in tokenizer.json is 4294967295, above the limit of 4194303",
        ),
        (
            r#"{"model": {"type": "Pairs", "vocab": {"a": 0}}}"#,
            "tokenizer.json: model type \"Pairs\" is not supported; known types: BPE, Unigram, WordLevel, WordPiece",
        ),
        (
            r###"{"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": {"a": 0, "##b": 1}}}"###,
            "tokenizer.json: model.unk_token \"[UNK]\" is not in the vocabulary",
        ),
        (
            r###"{"model": {"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100000, "vocab": {"a": 0, "##b": 1}}}"###,
            "tokenizer.json: model.max_input_chars_per_word is 100000; at most 1000 is supported",
        ),
        (
            r#"{"decoder": {"type": "CTC"}, "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}"#,
            "tokenizer.json: decoder \"CTC\" is not supported; known decoders: ",
        ),
    ] {
        let message = json_error(json).to_string();
        assert!(message.starts_with(start), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn every_truncation_of_a_tokenizer_json_is_an_error() {
    for end in (0..BYTE_LEVEL.len() - 1).step_by(37) {
        let Some(part) = BYTE_LEVEL.get(..end) else {
            continue;
        };
        assert!(matches!(json_error(part), Error::Json { .. }));
    }
}

#[test]
fn a_large_vocabulary_builds() {
    let words: Vec<String> = (0..262_144).map(|n| format!("▁w{n:x}")).collect();
    let mut tokens = vec!["<unk>", "<s>", "</s>"];
    tokens.extend(words.iter().map(String::as_str).take(262_141));
    let count = tokens.len();
    let tokenizer = Tokenizer::from_gguf(&GgufVocab {
        model: "llama",
        scores: (0..count).map(|n| -(n as f32)).collect(),
        token_types: vec![1; count],
        tokens,
        unk: Some(0),
        ..GgufVocab::default()
    })
    .unwrap();
    assert_eq!(tokenizer.vocab_size(), 262_144);
    assert_eq!(tokenizer.token_to_id("▁wff"), Some(258));
}
