//! The parts of `tokenizer_config.json` that name special tokens and hold the chat template.

use serde::Deserialize;
use serde_json::Value;

use crate::Error;
use crate::error::one_line;

/// What a model's `tokenizer_config.json` says beyond its `tokenizer.json`.
///
/// `special_tokens_map.json` has the same shape and can be read in its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenizerConfig {
    /// Text of the token that begins a sequence.
    pub bos_token: Option<String>,
    /// Text of the token that ends a sequence.
    pub eos_token: Option<String>,
    /// Text of the token for what the vocabulary cannot write.
    pub unk_token: Option<String>,
    /// Text of the token that fills a batch.
    pub pad_token: Option<String>,
    /// The chat templates by name. A file with a single template has it under `default`.
    pub chat_templates: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Raw {
    bos_token: Value,
    eos_token: Value,
    unk_token: Value,
    pad_token: Value,
    chat_template: Value,
}

impl TokenizerConfig {
    /// Reads the bytes of a `tokenizer_config.json`.
    ///
    /// # Errors
    ///
    /// If it is not a JSON object, or a field has the wrong shape.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let raw: Raw = serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
        Ok(Self {
            bos_token: token("bos_token", &raw.bos_token)?,
            eos_token: token("eos_token", &raw.eos_token)?,
            unk_token: token("unk_token", &raw.unk_token)?,
            pad_token: token("pad_token", &raw.pad_token)?,
            chat_templates: templates(&raw.chat_template)?,
        })
    }

    /// The chat template to use: the one called `default`, or `tool_use` if there are tools and there is one.
    pub fn chat_template(&self, tools: bool) -> Option<&str> {
        let named = |name: &str| self.chat_templates.iter().find(|(known, _)| known == name);
        let found = named("tool_use")
            .filter(|_| tools)
            .or_else(|| named("default"));
        found.map(|(_, template)| template.as_str())
    }

    /// The special tokens as variables of a chat template: `bos_token` and so on, those that exist.
    pub fn template_variables(&self) -> Vec<(String, String)> {
        let tokens = [
            ("bos_token", &self.bos_token),
            ("eos_token", &self.eos_token),
            ("unk_token", &self.unk_token),
            ("pad_token", &self.pad_token),
        ];
        tokens
            .into_iter()
            .filter_map(|(name, text)| Some((name.to_owned(), text.clone()?)))
            .collect()
    }
}

fn invalid(reason: impl AsRef<str>) -> Error {
    Error::Json {
        file: "tokenizer_config.json",
        reason: one_line(reason.as_ref()),
    }
}

/// A token is a string or an object with its `content`.
fn token(field: &str, value: &Value) -> Result<Option<String>, Error> {
    match value.get("content").unwrap_or(value) {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        _ => Err(invalid(format!(
            "{field} is neither a string nor an object with content"
        ))),
    }
}

/// The template is a string or a list of objects with `name` and `template`.
fn templates(value: &Value) -> Result<Vec<(String, String)>, Error> {
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(template) => Ok(vec![("default".into(), template.clone())]),
        Value::Array(entries) => entries
            .iter()
            .map(|entry| {
                text(entry, "name")
                    .zip(text(entry, "template"))
                    .ok_or_else(|| invalid("an entry of chat_template has no name or no template"))
            })
            .collect(),
        _ => Err(invalid("chat_template is neither a string nor a list")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_templates_come_in_both_shapes() {
        let config = TokenizerConfig::from_json(
            br#"{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null,
                "chat_template": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]}"#,
        )
        .unwrap();
        assert_eq!(config.bos_token.as_deref(), Some("<s>"));
        assert_eq!(config.chat_template(false), Some("a"));
        assert_eq!(config.chat_template(true), Some("b"));
        assert_eq!(config.template_variables().len(), 2);
        let single = TokenizerConfig::from_json(br#"{"chat_template": "c"}"#).unwrap();
        assert_eq!(single.chat_template(true), Some("c"));
    }

    #[test]
    fn a_wrong_shape_is_one_clear_line() {
        for json in [
            "",
            "[]x",
            "{\"bos_token\": 3}",
            "{\"chat_template\": [1]}",
            "{\"chat_template\": true}",
        ] {
            let message = TokenizerConfig::from_json(json.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(
                message.starts_with("tokenizer_config.json: ") && !message.contains('\n'),
                "{message}"
            );
        }
    }
}
