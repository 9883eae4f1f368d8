//! Reads a tokenizer.json.
//!
//! The `tokenizers` crate does the work, but it trusts the file. So this module reads the file first and refuses what
//! that crate would not survive, and what would need memory without bound.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::decoder::{Decoder, fallback_byte};
use crate::error::{one_line, shorten};
use crate::hf::{HfBackend, guarded};
use crate::table::{TokenKind, TokenTable};
use crate::tokenizer::{Backend, Inner};
use crate::{Error, MAX_TOKENS, SpecialText, SpecialTokens, Tokenizer, TokenizerConfig};

const MODELS: &str = "BPE, Unigram, WordLevel, WordPiece";

/// The longest word, in characters, that WordPiece may be told to look up; published models say 100. Looking one up
/// takes time in the cube of its length.
const MAX_WORD: u64 = 1000;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Option<Value>,
    #[serde(default)]
    pre_tokenizer: Option<Value>,
    #[serde(default)]
    post_processor: Option<Value>,
    #[serde(default)]
    decoder: Option<Value>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u64,
    content: String,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    vocab: VocabStats,
    #[serde(default)]
    merges: MergeStats,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    max_input_chars_per_word: Option<u64>,
}

/// What is worth knowing of a vocabulary.
#[derive(Default)]
struct VocabStats {
    count: usize,
    /// Highest id and its token.
    highest: Option<(u64, String)>,
    /// Length of the longest token in bytes.
    longest: usize,
    /// Number of tokens that merging must have made, or that were added.
    made: usize,
}

impl VocabStats {
    fn add(&mut self, token: &str, id: u64) {
        self.count += 1;
        self.longest = self.longest.max(token.len());
        if token.chars().nth(1).is_some() && fallback_byte(token).is_none() {
            self.made += 1;
        }
        if self
            .highest
            .as_ref()
            .is_none_or(|(highest, _)| id > *highest)
        {
            self.highest = Some((id, shorten(token, 40)));
        }
    }
}

impl<'de> Deserialize<'de> for VocabStats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VocabVisitor;
        impl<'de> Visitor<'de> for VocabVisitor {
            type Value = VocabStats;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tokens to ids or a list of tokens with scores")
            }

            fn visit_unit<E>(self) -> Result<VocabStats, E> {
                Ok(VocabStats::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VocabStats, A::Error> {
                let mut stats = VocabStats::default();
                while let Some((token, id)) = map.next_entry::<Cow<'_, str>, u64>()? {
                    stats.add(&token, id);
                }
                Ok(stats)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<VocabStats, A::Error> {
                let mut stats = VocabStats::default();
                while let Some((token, _)) = seq.next_element::<(String, f64)>()? {
                    if token.is_empty() {
                        return Err(de::Error::custom(format!(
                            "token {} of the vocabulary is empty",
                            stats.count
                        )));
                    }
                    stats.add(&token, stats.count as u64);
                }
                Ok(stats)
            }
        }
        deserializer.deserialize_any(VocabVisitor)
    }
}

/// What is worth knowing of the merges.
#[derive(Default)]
struct MergeStats {
    count: usize,
    /// The merge that makes the longest token: its length in bytes, its position and its text.
    longest: Option<(usize, usize, String)>,
}

impl<'de> Deserialize<'de> for MergeStats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A merge: `"a b"` or `["a", "b"]`.
        struct Merge(String, usize);
        impl<'de> Deserialize<'de> for Merge {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(MergeVisitor)
            }
        }
        struct MergeVisitor;
        impl<'de> Visitor<'de> for MergeVisitor {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("two tokens")
            }

            fn visit_str<E>(self, text: &str) -> Result<Merge, E> {
                Ok(Merge(text.to_owned(), text.len().saturating_sub(1)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merge, A::Error> {
                let mut token = || seq.next_element::<String>();
                match (token()?, token()?) {
                    (Some(left), Some(right)) if seq.next_element::<IgnoredAny>()?.is_none() => {
                        let length = left.len() + right.len();
                        Ok(Merge(format!("{left} {right}"), length))
                    }
                    _ => Err(de::Error::custom("a merge is not two tokens")),
                }
            }
        }
        struct MergesVisitor;
        impl<'de> Visitor<'de> for MergesVisitor {
            type Value = MergeStats;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of merges")
            }

            fn visit_unit<E>(self) -> Result<MergeStats, E> {
                Ok(MergeStats::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<MergeStats, A::Error> {
                let mut stats = MergeStats::default();
                while let Some(Merge(text, length)) = seq.next_element()? {
                    if stats
                        .longest
                        .as_ref()
                        .is_none_or(|(longest, ..)| length > *longest)
                    {
                        stats.longest = Some((length, stats.count, shorten(&text, 60)));
                    }
                    stats.count += 1;
                }
                Ok(stats)
            }
        }
        deserializer.deserialize_any(MergesVisitor)
    }
}

fn invalid(reason: impl AsRef<str>) -> Error {
    Error::Json {
        file: "tokenizer.json",
        reason: one_line(reason.as_ref()),
    }
}

/// Builds a tokenizer from the bytes of a tokenizer.json.
pub(crate) fn build(json: &[u8], config: Option<&TokenizerConfig>) -> Result<Tokenizer, Error> {
    let file: File = serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
    let size = check(&file)?;
    let decoder = Decoder::from_json(file.decoder.as_ref())?;

    let tokenizer = guarded(|| tokenizers::Tokenizer::from_bytes(json)).map_err(invalid)?;
    let backend = HfBackend::new(tokenizer);
    if file.model.max_input_chars_per_word.is_some()
        && let Some(unk) = &file.model.unk_token
        && backend.token_to_id(unk).is_none()
    {
        let unk = shorten(unk, 60);
        return Err(invalid(format!(
            "model.unk_token \"{unk}\" is not in the vocabulary"
        )));
    }
    let last = (0..size as u32)
        .rev()
        .find(|&id| backend.id_to_token(id).is_some());
    let mut table = TokenTable::with_capacity(size);
    for id in 0..=last.unwrap_or(0) {
        match backend.id_to_token(id) {
            Some(token) => {
                let kind = match backend.is_special(&token) {
                    true => TokenKind::Special,
                    false => TokenKind::Text,
                };
                table.push(kind, |bytes| decoder.append_bytes(&token, bytes))?;
            }
            None => table.push(TokenKind::Hole, |_| {})?,
        }
    }
    // A post-processor may add any number it likes; better known now than in the embedding kernel.
    let mut ids = Vec::new();
    backend.encode("", true, SpecialText::Parse, &mut ids)?;
    if let Some(&id) = ids.iter().find(|&&id| table.get(id).is_none()) {
        return Err(Error::TokenOutOfRange {
            field: "a token id in the post_processor of tokenizer.json",
            id,
            vocab_size: table.len(),
        });
    }
    let special = special_tokens(&backend, config)?;
    let inner = Inner {
        backend: Backend::Hf(Box::new(backend)),
        table,
        rules: decoder.rules,
        prefix: None,
        suffix: None,
    };
    Tokenizer::new(inner, special)
}

/// Fails for what the `tokenizers` crate would not survive; gives the number of ids.
fn check(file: &File) -> Result<usize, Error> {
    let model = &file.model;
    let kind = model.kind.as_deref().unwrap_or("BPE");
    if !MODELS.split(", ").any(|known| known == kind) {
        let kind = shorten(kind, 60);
        return Err(invalid(format!(
            "model type \"{kind}\" is not supported; known types: {MODELS}"
        )));
    }
    if model.vocab.count == 0 {
        return Err(Error::EmptyVocabulary {
            field: "model.vocab of tokenizer.json",
        });
    }
    let added = file
        .added_tokens
        .iter()
        .map(|token| (token.id, token.content.as_str()));
    let highest = model
        .vocab
        .highest
        .as_ref()
        .map(|(id, token)| (*id, token.as_str()));
    let (highest, _) = added.chain(highest).max().unwrap_or_default();
    if highest >= MAX_TOKENS as u64 {
        return Err(Error::VocabularyTooLarge {
            what: "a token id in tokenizer.json",
            actual: highest,
            limit: MAX_TOKENS as u64 - 1,
        });
    }
    if kind == "BPE" {
        check_bpe(model, file.added_tokens.len())?;
    }
    // Whatever the kind: the library finds the kind of a model without a type by its fields.
    check_word_piece(model)?;
    if let Some(processor) = &file.post_processor {
        check_processor(processor)?;
    }
    for component in [&file.normalizer, &file.pre_tokenizer]
        .into_iter()
        .flatten()
    {
        check_component(component)?;
    }
    // Added tokens with ids of their own, and those without, which follow the vocabulary.
    Ok((highest as usize + 1).max(model.vocab.count) + file.added_tokens.len())
}

fn check_bpe(model: &Model, added: usize) -> Result<(), Error> {
    const FIELD: &str = "model.merges of tokenizer.json";
    if model.merges.count == 0 && model.vocab.made > added {
        return Err(Error::NoMerges { field: FIELD });
    }
    if model
        .continuing_subword_prefix
        .as_ref()
        .is_some_and(|prefix| !prefix.is_empty())
    {
        return Err(invalid("model.continuing_subword_prefix is not supported"));
    }
    match &model.merges.longest {
        Some((length, index, merge)) if *length > model.vocab.longest => Err(Error::BadMerge {
            field: FIELD,
            index: *index,
            merge: merge.clone(),
            reason: "makes a token that is not in the vocabulary",
        }),
        _ => Ok(()),
    }
}

fn check_word_piece(model: &Model) -> Result<(), Error> {
    match model.max_input_chars_per_word {
        Some(length) if length > MAX_WORD => Err(invalid(format!(
            "model.max_input_chars_per_word is {length}; at most {MAX_WORD} is supported"
        ))),
        _ => Ok(()),
    }
}

/// A template must name its special tokens.
fn check_processor(processor: &Value) -> Result<(), Error> {
    for part in processor
        .get("processors")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        check_processor(part)?;
    }
    let defined: HashSet<&str> = match processor.get("special_tokens") {
        Some(Value::Object(map)) => map.keys().map(String::as_str).collect(),
        Some(Value::Array(list)) => {
            let id = |token: &'_ Value| token.get("id").and_then(Value::as_str).map(str::to_owned);
            let ids: Vec<String> = list.iter().filter_map(id).collect();
            return check_pieces(processor, &ids.iter().map(String::as_str).collect());
        }
        _ => HashSet::new(),
    };
    check_pieces(processor, &defined)
}

fn check_pieces(processor: &Value, defined: &HashSet<&str>) -> Result<(), Error> {
    for list in ["single", "pair"] {
        for piece in processor
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let id = piece.pointer("/SpecialToken/id").and_then(Value::as_str);
            if let Some(id) = id.filter(|id| !defined.contains(id)) {
                let id = shorten(id, 60);
                return Err(invalid(format!(
                    "post_processor uses \"{id}\", which its special_tokens do not define"
                )));
            }
            let sequence = piece.pointer("/Sequence/id").and_then(Value::as_str);
            if list == "single" && sequence.is_some_and(|id| id != "A") {
                return Err(invalid(
                    "post_processor uses a second sequence for a single text",
                ));
            }
        }
    }
    Ok(())
}

/// Refuses parts that hold data which the library reads without checks.
fn check_component(component: &Value) -> Result<(), Error> {
    let kind = component.get("type").and_then(Value::as_str);
    if component
        .get("precompiled_charsmap")
        .is_some_and(|map| !map.is_null())
        || kind == Some("Precompiled")
    {
        return Err(invalid(
            "normalizer Precompiled (a SentencePiece character map) is not supported",
        ));
    }
    if component.pointer("/pattern/String").and_then(Value::as_str) == Some("") {
        return Err(invalid("a pattern to replace or split at is empty"));
    }
    if component.get("length").and_then(Value::as_u64) == Some(0) {
        return Err(invalid("pre_tokenizer FixedLength has length 0"));
    }
    for list in ["normalizers", "pretokenizers"] {
        for part in component
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            check_component(part)?;
        }
    }
    Ok(())
}

fn special_tokens(
    backend: &HfBackend,
    config: Option<&TokenizerConfig>,
) -> Result<SpecialTokens, Error> {
    let Some(config) = config else {
        return Ok(SpecialTokens::default());
    };
    let id = |text: &Option<String>| text.as_deref().and_then(|text| backend.token_to_id(text));
    let mut special = SpecialTokens {
        bos: id(&config.bos_token),
        eos: id(&config.eos_token),
        unk: id(&config.unk_token),
        pad: id(&config.pad_token),
        stop: Vec::new(),
    };
    special.add_stop(special.eos);
    Ok(special)
}
