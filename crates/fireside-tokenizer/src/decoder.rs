//! What a tokenizer.json's decoder does, split into what it does to each token and what it does to the whole text.

use serde_json::Value;

use crate::utf8::Replacement;
use crate::{Error, byte_level};

/// What happens to the text as a whole; each rule can run on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodeRules {
    /// How broken UTF-8 is shown.
    pub(crate) replacement: Replacement,
    /// This character is stripped from the start of the text, at most so many times.
    pub(crate) strip: Option<(char, usize)>,
    /// Tokens are joined by a space (a tokenizer without a decoder).
    pub(crate) separator: bool,
    /// How the first token differs from the others.
    pub(crate) first: FirstToken,
}

/// What the first token of a text is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstToken {
    /// The same as anywhere else.
    Same,
    /// Itself without this word marker.
    Unmarked(char),
    /// Itself, with neither the space nor the loss of a prefix that others have (WordPiece).
    Whole {
        /// Whether spaces that English does not write are removed from it.
        cleanup: bool,
    },
}

impl DecodeRules {
    /// The rules of byte-level BPE: bytes, joined.
    pub(crate) fn byte_level() -> Self {
        Self {
            replacement: Replacement::PerSequence,
            strip: None,
            separator: false,
            first: FirstToken::Same,
        }
    }

    /// The rules of SentencePiece: one leading space is stripped if one was added before encoding.
    pub(crate) fn sentencepiece(space_prefix: bool) -> Self {
        Self {
            replacement: Replacement::PerByte,
            strip: space_prefix.then_some((' ', 1)),
            separator: false,
            first: FirstToken::Same,
        }
    }
}

/// One thing that a decoder does to each token alone.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    ByteLevel,
    ByteFallback,
    Replace {
        from: String,
        to: String,
    },
    Strip {
        content: char,
        start: usize,
        stop: usize,
    },
    /// A token with the prefix goes on from the one before it, others begin with a space.
    WordPiece {
        prefix: String,
        cleanup: bool,
    },
}

/// A compiled decoder: the steps for each token and the rules for the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decoder {
    steps: Vec<Step>,
    pub(crate) rules: DecodeRules,
    fused: bool,
}

const KNOWN: &str =
    "ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Sequence, Strip, WordPiece, none";

fn unsupported(decoder: impl Into<String>) -> Error {
    Error::UnsupportedDecoder {
        decoder: crate::error::shorten(&decoder.into(), 60),
        known: KNOWN,
    }
}

impl Decoder {
    /// Compiles the `decoder` object of a tokenizer.json.
    pub(crate) fn from_json(decoder: Option<&Value>) -> Result<Self, Error> {
        let mut compiled = Self {
            steps: Vec::new(),
            rules: DecodeRules::byte_level(),
            fused: false,
        };
        match decoder {
            None | Some(Value::Null) => compiled.rules.separator = true,
            Some(decoder) => compiled.add(decoder)?,
        }
        Ok(compiled)
    }

    /// Whether the decoder reads tokens in the byte-level alphabet.
    pub(crate) fn is_byte_level(&self) -> bool {
        self.steps.contains(&Step::ByteLevel)
    }

    fn add(&mut self, decoder: &Value) -> Result<(), Error> {
        let kind = decoder
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or("(no type)");
        if self.is_byte_level() {
            return Err(unsupported(format!("{kind} after ByteLevel")));
        }
        let text = |key: &str| decoder.get(key).and_then(Value::as_str);
        let count = |key: &str| decoder.get(key).and_then(Value::as_u64).unwrap_or(0) as usize;
        match kind {
            "Sequence" => {
                let parts = decoder.get("decoders").and_then(Value::as_array);
                for part in parts.ok_or_else(|| unsupported("Sequence without decoders"))? {
                    self.add(part)?;
                }
            }
            "ByteLevel" => self.steps.push(Step::ByteLevel),
            "ByteFallback" => {
                self.rules.replacement = Replacement::PerByte;
                self.steps.push(Step::ByteFallback);
            }
            "Fuse" => self.fused = true,
            "Metaspace" => {
                let marker = text("replacement")
                    .unwrap_or("▁")
                    .chars()
                    .next()
                    .unwrap_or('▁');
                if !self.steps.is_empty() || self.fused {
                    return Err(unsupported("Metaspace after another decoder"));
                }
                let prefixed = match (text("prepend_scheme"), decoder.get("add_prefix_space")) {
                    (Some(scheme), _) => scheme != "never",
                    (None, flag) => flag.and_then(Value::as_bool).unwrap_or(true),
                };
                if prefixed {
                    self.rules.first = FirstToken::Unmarked(marker);
                }
                self.steps.push(Step::Replace {
                    from: marker.to_string(),
                    to: " ".into(),
                });
            }
            "Replace" => {
                let from = decoder.pointer("/pattern/String").and_then(Value::as_str);
                let from = from.ok_or_else(|| unsupported("Replace with a regular expression"))?;
                if from.is_empty() || self.fused {
                    return Err(unsupported("Replace of an empty pattern or after Fuse"));
                }
                self.steps.push(Step::Replace {
                    from: from.into(),
                    to: text("content").unwrap_or_default().into(),
                });
            }
            "Strip" => {
                let content = text("content").and_then(|text| text.chars().next());
                let content = content.ok_or_else(|| unsupported("Strip without content"))?;
                let (start, stop) = (count("start"), count("stop"));
                if !self.fused {
                    self.steps.push(Step::Strip {
                        content,
                        start,
                        stop,
                    });
                } else if stop > 0 || self.rules.strip.is_some() {
                    return Err(unsupported("Strip at the end of the text"));
                } else {
                    self.rules.strip = Some((content, start));
                }
            }
            "WordPiece" => {
                if !self.steps.is_empty() || self.fused {
                    return Err(unsupported("WordPiece after another decoder"));
                }
                let cleanup = decoder.get("cleanup").and_then(Value::as_bool);
                let cleanup = cleanup.unwrap_or(true);
                self.rules.first = FirstToken::Whole { cleanup };
                self.steps.push(Step::WordPiece {
                    prefix: text("prefix").unwrap_or("##").into(),
                    cleanup,
                });
            }
            other => return Err(unsupported(other)),
        }
        Ok(())
    }

    /// Appends the bytes that a token stands for.
    pub(crate) fn append_bytes(&self, token: &str, out: &mut Vec<u8>) {
        let mut text = std::borrow::Cow::Borrowed(token);
        for step in &self.steps {
            match step {
                Step::ByteLevel => return byte_level::append_bytes(&text, out),
                Step::ByteFallback => {
                    if let Some(byte) = fallback_byte(&text) {
                        return out.push(byte);
                    }
                }
                Step::Replace { from, to } => {
                    if text.contains(from.as_str()) {
                        text = text.replace(from.as_str(), to).into();
                    }
                }
                Step::Strip {
                    content,
                    start,
                    stop,
                } => {
                    text = strip(&text, *content, *start, *stop).to_owned().into();
                }
                Step::WordPiece { prefix, cleanup } => {
                    text = match text.strip_prefix(prefix.as_str()) {
                        Some(rest) => rest.to_owned().into(),
                        None => format!(" {text}").into(),
                    };
                    if *cleanup {
                        text = without_odd_spaces(&text).into();
                    }
                }
            }
        }
        out.extend_from_slice(text.as_bytes());
    }
}

/// A token without the spaces that English does not write before punctuation and contractions.
pub(crate) fn without_odd_spaces(token: &str) -> String {
    const ENGLISH: [(&str, &str); 11] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" do not", " don't"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    ENGLISH
        .iter()
        .fold(token.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The byte of a token such as `<0x0A>`.
pub(crate) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

fn strip(mut text: &str, content: char, start: usize, stop: usize) -> &str {
    for _ in 0..start {
        match text.strip_prefix(content) {
            Some(rest) => text = rest,
            None => break,
        }
    }
    for _ in 0..stop {
        match text.strip_suffix(content) {
            Some(rest) => text = rest,
            None => break,
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bytes(decoder: &Decoder, token: &str) -> Vec<u8> {
        let mut out = Vec::new();
        decoder.append_bytes(token, &mut out);
        out
    }

    #[test]
    fn the_llama_sequence_becomes_steps_and_a_strip() {
        let decoder = Decoder::from_json(Some(&json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]})))
        .unwrap();
        assert_eq!(decoder.rules, DecodeRules::sentencepiece(true));
        assert_eq!(bytes(&decoder, "▁▁a"), b"  a");
        assert_eq!(bytes(&decoder, "<0xE4>"), [0xE4]);
        assert_eq!(bytes(&decoder, "<0xGG>"), b"<0xGG>");
        assert_eq!(bytes(&decoder, "<0x+1>"), b"<0x+1>");
    }

    #[test]
    fn decoders_that_cannot_stream_are_refused_by_name() {
        for decoder in [
            json!({"type": "CTC"}),
            json!({"type": "BPEDecoder", "suffix": "</w>"}),
            json!({"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""}),
            json!({}),
            json!({"type": "Sequence"}),
            json!({"type": "Sequence", "decoders": [{"type": "ByteLevel"}, {"type": "ByteFallback"}]}),
            json!({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "WordPiece"}]}),
        ] {
            let error = Decoder::from_json(Some(&decoder)).unwrap_err();
            assert!(
                error.to_string().contains("known decoders: ByteLevel"),
                "{error}"
            );
        }
    }
}
