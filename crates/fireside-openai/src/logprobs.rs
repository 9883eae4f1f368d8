//! Log-probabilities in the forms that chats and completions have.

use fireside_engine::TokenLogprob;
use fireside_tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

/// What an impossible token has, as JSON knows no infinity; vLLM's number.
const LEAST: f32 = -9999.0;

/// A token of a prompt or an answer with what is known of its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) token: u32,
    /// None for the first token of a prompt.
    pub(crate) logprob: Option<f32>,
    /// The best tokens in its place.
    pub(crate) top: Vec<TokenLogprob>,
    /// Characters of the text before it.
    pub(crate) offset: usize,
}

/// `logprobs` of a chat's choice: tokens with their bytes.
pub(crate) fn chat(entries: &[&Entry], tokenizer: &Tokenizer) -> Value {
    let one = |token: u32, logprob: f32| {
        let bytes = tokenizer.token_bytes(token).unwrap_or_default();
        json!({
            "token": String::from_utf8_lossy(bytes),
            "logprob": logprob.max(LEAST),
            "bytes": bytes,
        })
    };
    let content = entries.iter().map(|entry| {
        let mut value = one(entry.token, entry.logprob.unwrap_or(LEAST));
        let top = entry.top.iter().map(|top| one(top.token, top.logprob));
        value["top_logprobs"] = top.collect();
        value
    });
    json!({ "content": content.collect::<Vec<_>>() })
}

/// `logprobs` of a completion's choice: columns. The best tokens of a place always have the token
/// itself among them, so there may be one more than were asked for.
pub(crate) fn completion(entries: &[&Entry], tokenizer: &Tokenizer) -> Value {
    let name = |token: u32| name(tokenizer.token_bytes(token).unwrap_or_default());
    let column = |of: &dyn Fn(&Entry) -> Value| -> Vec<Value> {
        entries.iter().map(|entry| of(entry)).collect()
    };
    let top = |entry: &Entry| {
        let Some(own) = entry.logprob else {
            return Value::Null;
        };
        let own = TokenLogprob {
            token: entry.token,
            logprob: own,
        };
        let mut map = Map::new();
        // Where two tokens have one text, the more probable one stands for it.
        for one in entry.top.iter().chain([&own]) {
            map.entry(name(one.token))
                .or_insert_with(|| json!(one.logprob.max(LEAST)));
        }
        Value::Object(map)
    };
    json!({
        "tokens": column(&|entry| json!(name(entry.token))),
        "token_logprobs": column(&|entry| json!(entry.logprob.map(|own| own.max(LEAST)))),
        "top_logprobs": column(&top),
        "text_offset": column(&|entry| json!(entry.offset)),
    })
}

/// A token's text; one that is no text by itself is written as its bytes, as OpenAI does.
fn name(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |name, byte| {
            name + &format!("\\x{byte:02x}")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_written_as_bytes() {
        assert_eq!(name(" é".as_bytes()), " é");
        assert_eq!(name(&[0xc3]), "bytes:\\xc3");
        assert_eq!(name(&[0x20, 0xe2, 0x80]), "bytes:\\x20\\xe2\\x80");
    }
}
