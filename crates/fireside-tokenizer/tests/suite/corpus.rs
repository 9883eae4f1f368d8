//! One corpus over every kind of tokenizer: the tokens and texts that transformers gives.

use std::path::{Path, PathBuf};

use crate::common::{fixture, ids, skip, strings};
use fireside_tokenizer::{GgufVocab, SpecialText, Tokenizer, TokenizerConfig};
use serde_json::{Map, Value, json};

const TEXTS: &str = include_str!("../fixtures/corpus/texts.json");
const VOCABULARIES: &str = include_str!("../fixtures/corpus/vocabularies.json");
const KINDS: &str = include_str!("../fixtures/corpus/kinds.json");
const REAL: &str = include_str!("../fixtures/corpus/real.json");

/// Published vocabularies in GGUF files, each with texts and what transformers makes of them beside it.
const GGUF: [&str; 12] = [
    "command-r",
    "deepseek-coder",
    "deepseek-llm",
    "falcon",
    "gpt-2",
    "llama-bpe",
    "llama-spm",
    "mpt",
    "phi-3",
    "qwen2",
    "refact",
    "starcoder",
];

/// What parts the texts that are beside them.
const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

/// Every way in which two results differ, so that one run shows them all.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn compare<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, ours: T, theirs: T) {
        if ours != theirs {
            self.0
                .push(format!("{what}\n  ours   {ours:?}\n  theirs {theirs:?}"));
        }
    }

    fn none(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

/// What comes out of a stream, token by token.
fn streamed(tokenizer: &Tokenizer, tokens: &[u32], skip_special: bool) -> String {
    let mut stream = tokenizer.stream(skip_special);
    let mut text: String = tokens.iter().filter_map(|&id| stream.push(id)).collect();
    text.extend(stream.finish());
    text
}

/// Compares the tokens of the corpus, with and without special tokens.
fn encodes(name: &str, tokenizer: &Tokenizer, expected: &Value, found: &mut Differences) {
    let texts = fixture(TEXTS);
    let (before, after) = (ids(&expected["around"][0]), ids(&expected["around"][1]));
    let rows = expected["ids"].as_array().unwrap();
    let texts = strings(&texts["texts"]);
    assert_eq!(rows.len(), texts.len());
    for (text, plain) in texts.into_iter().zip(rows) {
        let plain = ids(plain);
        let what = format!("{name}: {text:?}");
        found.compare(&what, tokenizer.encode(text, false).unwrap(), plain.clone());
        let whole = [before.clone(), plain, after.clone()].concat();
        found.compare(&what, tokenizer.encode(text, true).unwrap(), whole);
    }
}

/// Compares the texts that come back, whole and as a stream.
fn decodes(name: &str, tokenizer: &Tokenizer, expected: &Value, found: &mut Differences) {
    let texts = fixture(TEXTS);
    let texts = strings(&texts["texts"]);
    let rows = expected["ids"].as_array().unwrap();
    let mut cases: Vec<(Vec<u32>, bool, String)> = Vec::new();
    for (key, skip_special) in [("shown", false), ("shown_skip", true)] {
        let shown = expected[key].as_array().unwrap();
        for ((text, row), shown) in texts.iter().zip(rows).zip(shown) {
            let shown = shown.as_str().unwrap_or(text).to_owned();
            cases.push((ids(row), skip_special, shown));
        }
    }
    for case in expected["decode"].as_array().unwrap() {
        for (at, skip_special) in [(1, false), (2, true)] {
            let shown = case[at].as_str().unwrap().to_owned();
            cases.push((ids(&case[0]), skip_special, shown));
        }
    }
    for (row, skip_special, shown) in cases {
        let what = format!("{name}: {row:?}, without special tokens: {skip_special}");
        found.compare(&what, tokenizer.decode(&row, skip_special), shown.clone());
        found.compare(&what, streamed(tokenizer, &row, skip_special), shown);
    }
}

/// A kind's tokenizer.json, with the vocabulary that it shares with others.
fn tokenizer_json(kind: &Value, vocabularies: &Value) -> Vec<u8> {
    let vocabulary = &vocabularies[kind["vocabulary"].as_str().unwrap()];
    let mut file = kind["tokenizer"].clone();
    let tokens = strings(&vocabulary["tokens"]);
    let vocab: Map<String, Value> = (0u32..)
        .zip(tokens)
        .map(|(id, token)| (token.to_owned(), id.into()))
        .collect();
    file["model"]["vocab"] = vocab.into();
    if !vocabulary["merges"].is_null() {
        file["model"]["merges"] = vocabulary["merges"].clone();
    }
    serde_json::to_vec(&file).unwrap()
}

/// The same tokenizer as a GGUF file has it.
fn gguf<'a>(kind: &'a Value, vocabulary: &'a Value) -> GgufVocab<'a> {
    let settings = &kind["gguf"];
    let tokens = strings(&vocabulary["tokens"]);
    let bos = settings["bos"].as_u64().map(|id| id as u32);
    let common = GgufVocab {
        bos,
        add_bos: Some(bos.is_some()),
        add_space_prefix: settings["add_space_prefix"].as_bool(),
        ..GgufVocab::default()
    };
    if kind["vocabulary"] == "byte_level" {
        return GgufVocab {
            model: "gpt2",
            pre: settings["pre"].as_str(),
            token_types: (0..tokens.len())
                .map(|id| if id < 3 { 3 } else { 1 })
                .collect(),
            merges: strings(&vocabulary["merges"]),
            tokens,
            ..common
        };
    }
    let mut tokens = tokens;
    let scores = vocabulary["scores"].as_array().unwrap();
    let mut scores: Vec<f32> = scores
        .iter()
        .map(|score| score.as_f64().unwrap() as f32)
        .collect();
    let turns = settings["turns"].as_u64().unwrap() as usize;
    let mut token_types = crate::common::types(&vocabulary["token_types"]);
    token_types[3..3 + turns].fill(3);
    if settings["placeholder"] == true {
        tokens.push("<|placeholder1|>");
        token_types.push(3);
        scores.push(0.0);
    }
    GgufVocab {
        model: "llama",
        scores,
        token_types,
        tokens,
        ..common
    }
}

#[test]
fn every_kind_of_tokenizer_json_gives_the_tokens_and_texts_of_transformers() {
    let (kinds, vocabularies) = (fixture(KINDS), fixture(VOCABULARIES));
    let mut found = Differences::default();
    for (name, kind) in kinds.as_object().unwrap() {
        let json = tokenizer_json(kind, &vocabularies);
        let tokenizer = Tokenizer::from_json(&json, None).unwrap();
        encodes(name, &tokenizer, kind, &mut found);
        decodes(name, &tokenizer, kind, &mut found);
    }
    found.none();
}

/// The tokenizer of a kind's GGUF file, where it has one.
fn of_gguf(kind: &Value, vocabularies: &Value) -> Option<Tokenizer> {
    let vocabulary = &vocabularies[kind["vocabulary"].as_str().unwrap()];
    let there = !kind["gguf"].is_null();
    there.then(|| Tokenizer::from_gguf(&gguf(kind, vocabulary)).unwrap())
}

#[test]
fn the_same_vocabularies_in_gguf_files_give_the_same_tokens_and_texts() {
    let (kinds, vocabularies) = (fixture(KINDS), fixture(VOCABULARIES));
    let mut found = Differences::default();
    let mut compared = 0;
    for (name, kind) in kinds.as_object().unwrap() {
        let Some(tokenizer) = of_gguf(kind, &vocabularies) else {
            continue;
        };
        compared += 1;
        encodes(name, &tokenizer, kind, &mut found);
        decodes(name, &tokenizer, kind, &mut found);
    }
    assert!(compared >= 11);
    found.none();
}

#[test]
fn vocabularies_have_the_same_tokens_whatever_file_they_are_in() {
    let (kinds, vocabularies) = (fixture(KINDS), fixture(VOCABULARIES));
    let mut found = Differences::default();
    let mut compared = 0;
    for (name, kind) in kinds.as_object().unwrap() {
        let Some(gguf) = of_gguf(kind, &vocabularies) else {
            continue;
        };
        let json = Tokenizer::from_json(&tokenizer_json(kind, &vocabularies), None).unwrap();
        // Two of them have a token more in one of the files.
        if json.vocab_size() == gguf.vocab_size() {
            compared += 1;
            found.compare(name, json.same_tokens(&gguf), Ok(()));
            found.compare(name, gguf.same_tokens(&json), Ok(()));
        }
    }
    assert!(compared >= 9);
    found.none();
}

#[test]
fn a_token_that_only_one_vocabulary_has_or_that_is_another_there_is_told() {
    let (kinds, vocabularies) = (fixture(KINDS), fixture(VOCABULARIES));
    let kind = &kinds["gpt2"];
    let with = |added: &[(&str, bool)]| {
        let mut file: Value = serde_json::from_slice(&tokenizer_json(kind, &vocabularies)).unwrap();
        let first = file["model"]["vocab"].as_object().unwrap().len();
        let list = file["added_tokens"].as_array_mut().unwrap();
        for (id, (content, special)) in (first..).zip(added) {
            list.push(json!({"id": id, "content": content, "special": special,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}));
        }
        let json = serde_json::to_vec(&file).unwrap();
        (Tokenizer::from_json(&json, None).unwrap(), first)
    };
    let (plain, first) = with(&[]);
    let (turn, _) = with(&[("<|turn|>", true)]);
    let (other, _) = with(&[("<|end|>", true)]);
    let (common, _) = with(&[("<|turn|>", false)]);
    assert_eq!(turn.same_tokens(&turn), Ok(()));
    assert_eq!(turn.same_tokens(&common), Ok(()));
    let told = |its: &str, own: &str| Err(format!("its token {first} is {its}, not {own}"));
    assert_eq!(turn.same_tokens(&plain), told("nothing", r#""<|turn|>""#));
    assert_eq!(plain.same_tokens(&turn), told(r#""<|turn|>""#, "nothing"));
    assert_eq!(
        turn.same_tokens(&other),
        told(r#""<|end|>""#, r#""<|turn|>""#)
    );
    // What only fills a table up is no token.
    let padding = format!("[PAD{first}]");
    let (padded, _) = with(&[(&padding, true)]);
    assert_eq!(plain.same_tokens(&padded), Ok(()));
    assert_eq!(padded.same_tokens(&plain), Ok(()));
    turn.same_tokens(&padded).unwrap_err();
    padded.same_tokens(&turn).unwrap_err();
}

#[test]
fn word_piece_marks_a_sequence_and_neither_cuts_nor_fills_it() {
    let (kinds, vocabularies) = (fixture(KINDS), fixture(VOCABULARIES));
    // What published files of embedding models ask for.
    let mut kind = kinds["bert_uncased"].clone();
    kind["tokenizer"]["truncation"] =
        json!({"max_length": 8, "strategy": "LongestFirst", "stride": 0});
    kind["tokenizer"]["padding"] = json!({"strategy": {"Fixed": 8}, "direction": "Right",
        "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"});
    let config = TokenizerConfig::from_json(br#"{"pad_token": "[PAD]", "unk_token": "[UNK]"}"#);
    let json = tokenizer_json(&kind, &vocabularies);
    let tokenizer = Tokenizer::from_json(&json, Some(&config.unwrap())).unwrap();
    let id = |token: &str| tokenizer.token_to_id(token).unwrap();
    assert_eq!(tokenizer.special_tokens().pad, Some(id("[PAD]")));
    assert_eq!(tokenizer.special_tokens().unk, Some(id("[UNK]")));
    assert_eq!(
        tokenizer.encode("", true).unwrap(),
        [id("[CLS]"), id("[SEP]")]
    );
    let ids = tokenizer.encode(&"the fire. ".repeat(500), true).unwrap();
    assert_eq!((ids[0], *ids.last().unwrap()), (id("[CLS]"), id("[SEP]")));
    assert!(ids.len() >= 1502, "{}", ids.len());
    assert_eq!(tokenizer.decode(&ids[..7], true), "the fire. the fire.");
    // A word that is too long is unknown as a whole, in no time.
    let long = tokenizer.encode(&"a".repeat(1 << 20), false).unwrap();
    assert_eq!(long, [id("[UNK]")]);
    let plain = tokenizer
        .encode_with("[SEP]", false, SpecialText::Plain)
        .unwrap();
    assert!(!plain.contains(&id("[SEP]")), "{plain:?}");
}

/// The folder of published tokenizers, or `None` with a recorded skip.
fn published(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("FIRESIDE_TEST_TOKENIZERS").map(PathBuf::from);
    if folder.is_none() {
        skip(
            test,
            "FIRESIDE_TEST_TOKENIZERS is not set to a folder of published tokenizers: \
             tests/fixtures/make_corpus_fixtures.py of fireside-tokenizer tells where they come from",
        );
    }
    folder
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn published_tokenizers_give_the_tokens_and_texts_of_transformers() {
    let Some(folder) = published("published_tokenizers") else {
        return;
    };
    let mut found = Differences::default();
    for (name, expected) in fixture(REAL).as_object().unwrap() {
        let json = read(&folder.join(name).join("tokenizer.json"));
        let tokenizer = Tokenizer::from_json(&json, None).unwrap();
        encodes(name, &tokenizer, expected, &mut found);
        decodes(name, &tokenizer, expected, &mut found);
    }
    found.none();
}

/// The tokenizer of a GGUF file.
fn gguf_tokenizer(path: &Path) -> Tokenizer {
    let meta = crate::gguf::metadata(path);
    Tokenizer::from_gguf(&crate::gguf::vocab(&meta)).unwrap()
}

#[test]
fn published_gguf_vocabularies_give_the_tokens_of_transformers() {
    let Some(folder) = published("published_gguf_vocabularies") else {
        return;
    };
    let mut found = Differences::default();
    for name in GGUF {
        let path = folder.join("gguf").join(format!("ggml-vocab-{name}.gguf"));
        let tokenizer = gguf_tokenizer(&path);
        let beside = |end: &str| String::from_utf8(read(&path.with_extension(end))).unwrap();
        let (texts, expected) = (beside("gguf.inp"), beside("gguf.out"));
        let expected: Vec<&str> = expected.lines().collect();
        let texts = texts.strip_suffix(SEPARATOR).unwrap();
        let texts: Vec<&str> = texts.split(SEPARATOR).collect();
        assert_eq!(texts.len(), expected.len(), "{name}");
        for (text, expected) in texts.into_iter().zip(expected) {
            let theirs: Vec<u32> = expected
                .split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect();
            let ours = tokenizer.encode(text, false).unwrap();
            found.compare(&format!("{name}: {text:?}"), ours, theirs);
        }
    }
    // The same vocabulary as one of the tokenizer.json files.
    let tokenizer = gguf_tokenizer(&folder.join("gguf").join("ggml-vocab-llama-bpe.gguf"));
    let expected = &fixture(REAL)["llama3_1"];
    encodes("llama-bpe", &tokenizer, expected, &mut found);
    decodes("llama-bpe", &tokenizer, expected, &mut found);
    found.none();
}

#[test]
fn the_gemma_gguf_file_gives_the_tokens_and_texts_of_transformers() {
    let Some(path) = std::env::var_os("FIRESIDE_TEST_GEMMA_GGUF").map(PathBuf::from) else {
        skip(
            "gemma_tokenizer",
            "FIRESIDE_TEST_GEMMA_GGUF is not set to the path of gemma-3-270m-q4_k_m.gguf",
        );
        return;
    };
    let mut found = Differences::default();
    let tokenizer = gguf_tokenizer(&path);
    let mut expected = fixture(REAL)["gemma3"].take();
    // In the file, unused tokens are control tokens, which are left out on request.
    let unused = |id: &u32| {
        tokenizer
            .id_to_token(*id)
            .is_some_and(|t| t.starts_with("<unused"))
    };
    let rows = expected["decode"].as_array_mut().unwrap();
    rows.retain(|row| !ids(&row[0]).iter().any(unused));
    encodes("gemma3", &tokenizer, &expected, &mut found);
    decodes("gemma3", &tokenizer, &expected, &mut found);
    // Two markers that are written out in a text are one token only in tokenizer.json, which lists it as added.
    found.0.retain(|what| !what.contains("▁literal▁▁marker▁"));
    found.none();
}
