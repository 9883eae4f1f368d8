//! Texts as clients write them: a string, a list of strings, or token ids.

use serde_json::Value;

use crate::ApiError;
use crate::fields::{whole, wrong};

/// A prompt, as text or as tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// Text to be tokenized.
    Text(String),
    /// Tokens.
    Tokens(Vec<u32>),
}

/// The prompts of a field.
///
/// # Errors
///
/// Another kind of value, an empty list, more than `most` entries.
pub(crate) fn prompts(field: &str, value: &Value, most: usize) -> Result<Vec<Prompt>, ApiError> {
    let expected = "a string, a list of strings, or token ids";
    let bad = |value: &Value| wrong(field, value, expected);
    let tokens = |ids: &[Value]| -> Option<Prompt> {
        ids.iter()
            .map(|id| whole(id).and_then(|id| u32::try_from(id).ok()))
            .collect::<Option<Vec<u32>>>()
            .map(Prompt::Tokens)
    };
    match value {
        Value::String(text) => Ok(vec![Prompt::Text(text.clone())]),
        Value::Array(all) if all.is_empty() => Err(ApiError::invalid(
            field,
            format!("{field} is an empty list; expected {expected}"),
        )),
        Value::Array(all) if all.iter().all(Value::is_number) => {
            tokens(all).map(|one| vec![one]).ok_or_else(|| bad(value))
        }
        Value::Array(all) if all.len() > most => Err(ApiError::invalid(
            field,
            format!("{field} has {} entries; expected at most {most}", all.len()),
        )),
        Value::Array(all) => all
            .iter()
            .map(|one| match one {
                Value::String(text) => Ok(Prompt::Text(text.clone())),
                Value::Array(ids) => tokens(ids).ok_or_else(|| bad(one)),
                other => Err(bad(other)),
            })
            .collect(),
        other => Err(bad(other)),
    }
}
