//! Two texts as one sequence.

use crate::common::{fixture, spm_vocab};
use fireside_tokenizer::{Pair, Tokenizer};
use serde_json::{Value, json};

/// A tokenizer of words, with what says how texts are joined.
fn words(processor: Value) -> Tokenizer {
    let words = ["[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "e", "f"];
    let vocab: serde_json::Map<String, Value> = words
        .iter()
        .enumerate()
        .map(|(id, word)| ((*word).to_owned(), id.into()))
        .collect();
    let file = json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": processor,
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]" },
        // Cutting is the caller's, whatever the file says.
        "truncation": { "max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right" },
    });
    Tokenizer::from_json(file.to_string().as_bytes(), None).unwrap()
}

fn template() -> Value {
    let special =
        |name: &str, kind: u32| json!({ "SpecialToken": { "id": name, "type_id": kind } });
    let sequence = |name: &str, kind: u32| json!({ "Sequence": { "id": name, "type_id": kind } });
    let token = |name: &str, id: u32| json!({ "id": name, "ids": [id], "tokens": [name] });
    json!({
        "type": "TemplateProcessing",
        "single": [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)],
        "pair": [
            special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0), sequence("B", 1),
            special("[SEP]", 1),
        ],
        "special_tokens": { "[CLS]": token("[CLS]", 1), "[SEP]": token("[SEP]", 2) },
    })
}

fn join(tokenizer: &Tokenizer, first: &str, second: &str, most: usize) -> Pair {
    let first = tokenizer.encode_part(first).unwrap();
    let second = tokenizer.encode_part(second).unwrap();
    tokenizer.join(&first, second, most).unwrap()
}

#[test]
fn a_template_says_what_stands_around_two_texts_and_of_which_type_they_are() {
    let tokenizer = words(template());
    assert_eq!(tokenizer.pair_overhead(), 3);
    let pair = join(&tokenizer, "a b", "c", usize::MAX);
    assert_eq!(pair.ids, [1, 3, 4, 2, 5, 2]);
    assert_eq!(pair.types, [0, 0, 0, 0, 1, 1]);
    let empty = join(&tokenizer, "", "", 3);
    assert_eq!(empty.ids, [1, 2, 2]);
}

#[test]
fn bert_processing_joins_as_its_template_does() {
    let bert = json!({ "type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1] });
    let [bert, template] = [words(bert), words(template())];
    for (first, second, most) in [("a b", "c", 9), ("a b c d", "e f", 7)] {
        let wanted = join(&template, first, second, most);
        assert_eq!(join(&bert, first, second, most), wanted);
    }
}

#[test]
fn long_pairs_are_cut_at_the_ends_of_their_texts_the_longer_one_first() {
    let tokenizer = words(template());
    let ids = |first: &str, second: &str, most| join(&tokenizer, first, second, most).ids;
    assert_eq!(ids("a", "b c d e f", 7), [1, 3, 2, 4, 5, 6, 2]);
    assert_eq!(ids("a b c d e", "f", 7), [1, 3, 4, 5, 2, 8, 2]);
    assert_eq!(ids("a b c", "d e f", 8), [1, 3, 4, 2, 6, 7, 8, 2]);
    assert_eq!(ids("a b c", "d e f", 3), [1, 2, 2]);
    let mut part = tokenizer.encode_part("a b c").unwrap();
    part.truncate(2);
    assert_eq!(part.len(), 2);
    part.truncate(0);
    assert!(part.is_empty());
}

#[test]
fn texts_follow_each_other_where_nothing_says_how_they_are_joined() {
    let pair = join(&words(Value::Null), "a b", "c", 9);
    assert_eq!(pair.ids, [3, 4, 5]);
    assert_eq!(pair.types, [0, 0, 1]);
    let spm = fixture(include_str!("../fixtures/spm.json"));
    let gguf = Tokenizer::from_gguf(&spm_vocab(&spm)).unwrap();
    let error = gguf.encode_part("a").unwrap_err().to_string();
    assert!(error.contains("only a tokenizer.json says how"), "{error}");
}
