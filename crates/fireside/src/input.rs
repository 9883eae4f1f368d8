//! What a pipeline takes: a prompt, several prompts, or chat messages.

use serde_json::{Map, Value};

/// A chat message: an object with `role` and `content`, and whatever else the template knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Message(Map<String, Value>);

impl Message {
    /// A message of a role, such as `user`, `assistant` or `system`.
    pub fn new(role: &str, content: &str) -> Self {
        let mut fields = Map::new();
        fields.insert("role".into(), role.into());
        fields.insert("content".into(), content.into());
        Self(fields)
    }

    /// A message from its JSON object; `None` for any other JSON.
    pub fn from_json(value: Value) -> Option<Self> {
        match value {
            Value::Object(fields) => Some(Self(fields)),
            _ => None,
        }
    }

    pub(crate) fn into_json(self) -> Value {
        Value::Object(self.0)
    }
}

/// One or more prompts, or a conversation.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Text to continue.
    Prompts(Vec<String>),
    /// Conversations to answer, each wrapped in the model's chat template.
    Chats(Vec<Vec<Message>>),
}

impl From<&str> for Input {
    fn from(prompt: &str) -> Self {
        Self::Prompts(vec![prompt.to_string()])
    }
}

impl From<String> for Input {
    fn from(prompt: String) -> Self {
        Self::Prompts(vec![prompt])
    }
}

impl From<Vec<String>> for Input {
    fn from(prompts: Vec<String>) -> Self {
        Self::Prompts(prompts)
    }
}

impl From<&[&str]> for Input {
    fn from(prompts: &[&str]) -> Self {
        Self::Prompts(prompts.iter().map(ToString::to_string).collect())
    }
}

impl<const N: usize> From<[&str; N]> for Input {
    fn from(prompts: [&str; N]) -> Self {
        Self::from(&prompts[..])
    }
}

impl From<Vec<Message>> for Input {
    fn from(messages: Vec<Message>) -> Self {
        Self::Chats(vec![messages])
    }
}

impl From<Vec<Vec<Message>>> for Input {
    fn from(chats: Vec<Vec<Message>>) -> Self {
        Self::Chats(chats)
    }
}
