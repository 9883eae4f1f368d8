//! The same tokens as the reference implementations, on texts that are easy to get wrong.

use crate::common::{bpe_vocab, fixture, ids, pairs, spm_vocab, strings};
use fireside_tokenizer::{GgufVocab, SpecialText, Tokenizer, TokenizerConfig};
use serde_json::Value;

const SPM: &str = include_str!("../fixtures/spm.json");
const BPE: &str = include_str!("../fixtures/bpe.json");
const JSON: &str = include_str!("../fixtures/tokenizer_json.json");
const BYTE_LEVEL: &[u8] = include_bytes!("../fixtures/byte_level_tokenizer.json");
const SENTENCEPIECE: &[u8] = include_bytes!("../fixtures/sentencepiece_tokenizer.json");

/// Compares the tokens of many texts and names the first that differs.
fn assert_encodes(tokenizer: &Tokenizer, cases: &Value, add_special: bool) {
    for (text, expected) in pairs(cases) {
        let text = text.as_str().unwrap();
        assert_eq!(
            tokenizer.encode(text, add_special).unwrap(),
            ids(expected),
            "{text:?}"
        );
    }
}

fn assert_decodes(tokenizer: &Tokenizer, cases: &Value, skip_special: bool) {
    for (row, expected) in pairs(cases) {
        let row = ids(row);
        let expected = expected.as_str().unwrap();
        assert_eq!(tokenizer.decode(&row, skip_special), expected, "{row:?}");
    }
}

#[test]
fn sentencepiece_gives_the_same_tokens_and_text() {
    let fixture = fixture(SPM);
    let tokenizer = Tokenizer::from_gguf(&spm_vocab(&fixture)).unwrap();
    assert_encodes(&tokenizer, &fixture["encode"], false);
    assert_decodes(&tokenizer, &fixture["decode"], true);
}

#[test]
fn sentencepiece_without_a_space_prefix_gives_the_same_tokens() {
    let fixture = fixture(SPM);
    let tokenizer = Tokenizer::from_gguf(&GgufVocab {
        add_space_prefix: Some(false),
        ..spm_vocab(&fixture["no_prefix"])
    })
    .unwrap();
    assert_encodes(&tokenizer, &fixture["no_prefix"]["encode"], false);
    assert_eq!(
        tokenizer.decode(&tokenizer.encode(" x", false).unwrap(), true),
        " x"
    );
}

#[test]
fn transformers_llama_tokenizer_gives_the_same_tokens() {
    let fixture = fixture(SPM);
    let tokenizer = Tokenizer::from_gguf(&spm_vocab(&fixture)).unwrap();
    assert_encodes(&tokenizer, &fixture["llama"], true);
}

#[test]
fn byte_level_bpe_gives_the_same_tokens_for_each_pre_tokenizer() {
    let fixture = fixture(BPE);
    let texts = strings(&fixture["texts"]);
    let families = fixture["families"].as_object().unwrap();
    assert!(families.len() >= 10);
    for (family, expected) in families {
        let tokenizer = Tokenizer::from_gguf(&bpe_vocab(&fixture, family)).unwrap();
        for (text, expected) in texts.iter().zip(expected.as_array().unwrap()) {
            assert_eq!(
                tokenizer.encode(text, true).unwrap(),
                ids(expected),
                "{family}: {text:?}"
            );
        }
    }
}

#[test]
fn byte_level_bpe_decodes_any_tokens_to_the_same_text() {
    let fixture = fixture(BPE);
    let tokenizer = Tokenizer::from_gguf(&bpe_vocab(&fixture, "gpt-2")).unwrap();
    assert_decodes(&tokenizer, &fixture["decode"], false);
    assert_decodes(&tokenizer, &fixture["decode_skip"], true);
}

#[test]
fn special_tokens_in_a_text_can_be_left_as_text() {
    let fixture = fixture(BPE);
    let family = fixture["plain_family"].as_str().unwrap();
    let tokenizer = Tokenizer::from_gguf(&bpe_vocab(&fixture, family)).unwrap();
    for (text, expected) in pairs(&fixture["plain"]) {
        let text = text.as_str().unwrap();
        let plain = tokenizer
            .encode_with(text, false, SpecialText::Plain)
            .unwrap();
        assert_eq!(plain, ids(expected), "{text:?}");
        assert!(!plain.iter().any(|&id| tokenizer.is_special(id)));
        assert_eq!(tokenizer.decode(&plain, true), text);
    }
    let spm = crate::common::fixture(SPM);
    let tokenizer = Tokenizer::from_gguf(&spm_vocab(&spm)).unwrap();
    let plain = tokenizer
        .encode_with("</s> a <|user|>", false, SpecialText::Plain)
        .unwrap();
    assert!(!plain.contains(&2));
    assert!(plain.contains(&tokenizer.token_to_id("<|user|>").unwrap()));
    assert_eq!(tokenizer.decode(&plain, true), "</s> a <|user|>");
}

#[test]
fn tokenizer_json_gives_the_same_tokens_and_text() {
    let fixture = fixture(JSON);
    for (name, json) in [("byte_level", BYTE_LEVEL), ("sentencepiece", SENTENCEPIECE)] {
        let tokenizer = Tokenizer::from_json(json, None).unwrap();
        let fixture = &fixture[name];
        for (at, text) in strings(&fixture["texts"]).into_iter().enumerate() {
            let with = tokenizer.encode(text, true).unwrap();
            assert_eq!(with, ids(&fixture["with_special"][at]), "{name}: {text:?}");
            let without = tokenizer.encode(text, false).unwrap();
            assert_eq!(
                without,
                ids(&fixture["without_special"][at]),
                "{name}: {text:?}"
            );
        }
        assert_decodes(&tokenizer, &fixture["decode"], false);
        assert_decodes(&tokenizer, &fixture["decode_skip"], true);
    }
}

#[test]
fn special_tokens_of_a_tokenizer_json_come_from_its_config() {
    let config =
        TokenizerConfig::from_json(br#"{"bos_token": "<s>", "eos_token": {"content": "</s>"}}"#)
            .unwrap();
    let tokenizer = Tokenizer::from_json(SENTENCEPIECE, Some(&config)).unwrap();
    let special = tokenizer.special_tokens();
    assert_eq!((special.bos, special.eos), (Some(1), Some(2)));
    assert!(special.is_stop(2) && !special.is_stop(1));
    let tokenizer = tokenizer.with_stop_tokens([7, 5, 7]).unwrap();
    assert_eq!(tokenizer.special_tokens().stop, [2, 5, 7]);
    assert!(tokenizer.with_stop_tokens([1 << 20]).is_err());
}

#[test]
fn tokens_can_be_looked_up_both_ways() {
    let (spm, bpe) = (fixture(SPM), fixture(BPE));
    for tokenizer in [
        Tokenizer::from_gguf(&spm_vocab(&spm)).unwrap(),
        Tokenizer::from_gguf(&bpe_vocab(&bpe, "gpt-2")).unwrap(),
        Tokenizer::from_json(BYTE_LEVEL, None).unwrap(),
        Tokenizer::from_json(SENTENCEPIECE, None).unwrap(),
    ] {
        let size = tokenizer.vocab_size() as u32;
        for id in 0..size {
            let token = tokenizer.id_to_token(id).unwrap();
            assert_eq!(tokenizer.token_to_id(&token), Some(id));
            assert!(tokenizer.token_bytes(id).is_some());
        }
        assert_eq!(tokenizer.id_to_token(size), None);
        assert_eq!(tokenizer.token_bytes(size), None);
        assert_eq!(tokenizer.decode(&[size, u32::MAX], false), "");
        assert_eq!(tokenizer.token_to_id("no such token"), None);
    }
}

#[test]
fn token_bytes_are_raw_bytes() {
    let (spm, bpe) = (fixture(SPM), fixture(BPE));
    let tokenizer = Tokenizer::from_gguf(&spm_vocab(&spm)).unwrap();
    let byte = tokenizer.token_to_id("<0xE4>").unwrap();
    assert_eq!(tokenizer.token_bytes(byte), Some(&b"\xE4"[..]));
    let word = tokenizer.token_to_id("▁the").unwrap();
    assert_eq!(tokenizer.token_bytes(word), Some(&b" the"[..]));
    let tokenizer = Tokenizer::from_gguf(&bpe_vocab(&bpe, "gpt-2")).unwrap();
    let byte = tokenizer.token_to_id("ä").unwrap();
    assert_eq!(tokenizer.token_bytes(byte), Some(&b"\xE4"[..]));
    assert_eq!(tokenizer.token_bytes(0), Some(&b"<|endoftext|>"[..]));
}

#[test]
fn begin_and_end_are_added_as_the_file_says() {
    let fixture = fixture(BPE);
    let encode = |add_bos, add_eos, pre| {
        let vocab = GgufVocab {
            add_bos,
            add_eos,
            ..bpe_vocab(&fixture, pre)
        };
        let tokenizer = Tokenizer::from_gguf(&vocab).unwrap();
        let ids = tokenizer.encode("a", true).unwrap();
        assert_eq!(tokenizer.encode("a", false).unwrap().len(), 1);
        (ids.first() == Some(&1), ids.last() == Some(&2))
    };
    assert_eq!(encode(None, None, "gpt-2"), (false, false));
    assert_eq!(encode(None, None, "llama-bpe"), (true, false));
    assert_eq!(encode(Some(false), Some(true), "llama-bpe"), (false, true));
    assert_eq!(encode(Some(true), Some(true), "gpt-2"), (true, true));
}

#[test]
fn turn_ends_are_found_by_their_text() {
    let fixture = fixture(BPE);
    let tokenizer = Tokenizer::from_gguf(&GgufVocab {
        eos: Some(0),
        eot: Some(5),
        eom: Some(u32::MAX),
        ..bpe_vocab(&fixture, "gpt-2")
    })
    .unwrap();
    // 0 is declared, 2 is `<|im_end|>`, 5 ends a turn.
    assert_eq!(tokenizer.special_tokens().stop, [0, 2, 5]);
}

#[test]
fn extra_spaces_are_joined_if_the_file_says_so() {
    let fixture = fixture(SPM);
    let plain = Tokenizer::from_gguf(&spm_vocab(&fixture)).unwrap();
    let joining = Tokenizer::from_gguf(&GgufVocab {
        remove_extra_whitespaces: Some(true),
        ..spm_vocab(&fixture)
    })
    .unwrap();
    assert_eq!(
        joining.encode("  the   fire ", false).unwrap(),
        plain.encode("the fire", false).unwrap()
    );
    assert!(joining.encode("   ", false).unwrap().is_empty());
}

#[test]
fn an_unknown_character_without_byte_tokens_is_one_unknown_token() {
    let tokenizer = Tokenizer::from_gguf(&GgufVocab {
        model: "llama",
        tokens: vec!["<unk>", "<s>", "</s>", "▁", "a"],
        scores: vec![0.0, 0.0, 0.0, -1.0, -2.0],
        token_types: vec![2, 3, 3, 1, 1],
        add_bos: Some(false),
        ..GgufVocab::default()
    })
    .unwrap();
    assert_eq!(tokenizer.encode("a日本a", false).unwrap(), [3, 4, 0, 4]);
}

#[test]
fn a_very_long_run_takes_time_in_proportion() {
    let (spm, bpe) = (fixture(SPM), fixture(BPE));
    for tokenizer in [
        Tokenizer::from_gguf(&spm_vocab(&spm)).unwrap(),
        Tokenizer::from_gguf(&bpe_vocab(&bpe, "llama-bpe")).unwrap(),
        Tokenizer::from_json(BYTE_LEVEL, None).unwrap(),
        Tokenizer::from_json(SENTENCEPIECE, None).unwrap(),
    ] {
        // Quadratic time would be minutes for these.
        for unit in ["a", " ", "\n", "日", "ab ", "1", "!"] {
            let text = unit.repeat(100_000 / unit.len());
            let ids = tokenizer.encode(&text, false).unwrap();
            let decoded = tokenizer.decode(&ids, true);
            // A SentencePiece vocabulary with a token of several spaces loses one at the start, as it always does.
            assert_eq!(
                decoded.trim_start_matches(' '),
                text.trim_start_matches(' '),
                "{unit:?}"
            );
            assert!(text.len() - decoded.len() <= 1);
        }
    }
}

#[test]
fn a_text_beyond_the_limit_is_an_error() {
    let bpe = fixture(BPE);
    let tokenizer = Tokenizer::from_gguf(&bpe_vocab(&bpe, "gpt-2")).unwrap();
    let error = tokenizer
        .encode(&"a".repeat(fireside_tokenizer::MAX_TEXT_BYTES + 1), false)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the text has 16777217 bytes; one call takes at most 16777216"
    );
}
