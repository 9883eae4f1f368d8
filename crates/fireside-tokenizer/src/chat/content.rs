//! Message content comes as a string or as a list of parts; a template may know only one of the two.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::{ChatInput, ChatTemplate};
use crate::Error;

/// What a template knows as content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentForm {
    /// Either form, as the messages have it.
    Any,
    /// Strings only.
    Text,
    /// Lists of parts only.
    Parts,
}

/// A text that no template writes by itself.
const MARK: &str = "fireside-7f3a";

/// Finds out by rendering a message in both forms.
///
/// # Errors
///
/// If both fail in a way that no other message would mend.
pub(crate) fn probe(template: &ChatTemplate) -> Result<ContentForm, Error> {
    let render = |content: Value| {
        let messages = [json!({"role": "user", "content": content})];
        template.render_raw(
            &messages,
            &ChatInput::new(&messages).with_generation_prompt(),
        )
    };
    let text = render(MARK.into());
    let parts = render(json!([{"type": "text", "text": MARK}]));
    // A template that knows only strings fails on a list or prints it as Python would.
    let prints = |rendered: &Result<String, Error>| matches!(rendered, Ok(prompt) if prompt.contains(MARK) && !prompt.contains("'type'") && !prompt.contains("\"type\""));
    match (prints(&text), prints(&parts)) {
        (true, false) => Ok(ContentForm::Text),
        (false, true) => Ok(ContentForm::Parts),
        (true, true) => Ok(ContentForm::Any),
        (false, false) => match (text, parts) {
            (Err(error), Err(_)) if hopeless(&error) => Err(match error {
                Error::TemplateRender { line, reason } => Error::TemplateSyntax { line, reason },
                error => error,
            }),
            _ => Ok(ContentForm::Any),
        },
    }
}

/// Whether an error lies in the template itself.
fn hopeless(error: &Error) -> bool {
    match error {
        Error::TemplateFuel { .. } | Error::TemplateOutput { .. } => true,
        Error::TemplateRender { reason, .. } => [
            "unknown filter",
            "unknown test",
            "unknown function",
            "syntax error",
        ]
        .iter()
        .any(|kind| reason.starts_with(kind)),
        _ => false,
    }
}

impl ContentForm {
    /// The messages with content in the form that the template knows.
    pub(crate) fn apply<'a>(self, messages: &'a [Value]) -> Result<Cow<'a, [Value]>, Error> {
        let foreign = |message: &Value| match (self, message.get("content")) {
            (Self::Text, Some(content)) => content.is_array(),
            (Self::Parts, Some(content)) => content.is_string(),
            _ => false,
        };
        if !messages.iter().any(foreign) {
            return Ok(Cow::Borrowed(messages));
        }
        let mut messages = messages.to_vec();
        for (index, message) in messages.iter_mut().enumerate() {
            match (self, message.get_mut("content")) {
                (Self::Text, Some(content)) => {
                    if let Value::Array(parts) = content {
                        *content = join(parts, index)?.into();
                    }
                }
                (Self::Parts, Some(content)) if content.is_string() => {
                    *content = json!([{"type": "text", "text": content.take()}]);
                }
                _ => {}
            }
        }
        Ok(Cow::Owned(messages))
    }
}

/// The texts of a list of parts, joined by line breaks.
fn join(parts: &[Value], index: usize) -> Result<String, Error> {
    let text = |part: &'_ Value| match (part.as_str(), part.get("text").and_then(Value::as_str)) {
        (Some(text), _) | (None, Some(text)) => Ok(text.to_owned()),
        _ => {
            let kind = part
                .get("type")
                .and_then(Value::as_str)
                .unwrap_or("(no type)");
            let kind = crate::error::shorten(kind, 40);
            Err(Error::BadMessage {
                index,
                reason: format!(
                    "content of type \"{kind}\" is not supported by the chat template; it takes text only"
                ),
            })
        }
    };
    Ok(parts
        .iter()
        .map(text)
        .collect::<Result<Vec<_>, _>>()?
        .join("\n"))
}
