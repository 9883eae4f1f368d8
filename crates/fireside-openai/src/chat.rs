//! `/v1/chat/completions`: the request.

use fireside_engine::{GenerationParams, Request};
use fireside_tokenizer::{ChatInput, ChatTemplate, Tokenizer};
use serde_json::{Map, Value};

use crate::ApiError;
use crate::fields::{Fields, wrong};
use crate::sampling::{params, streaming};

/// A chat completion that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The model's name, as the client wrote it.
    pub model: Option<String>,
    /// The conversation; contents in parts are joined to text.
    pub messages: Vec<Value>,
    /// How to generate. Without a limit the answer may fill the context.
    pub params: GenerationParams,
    /// Answer in chunks.
    pub stream: bool,
    /// End the stream with a chunk that has the usage.
    pub include_usage: bool,
    /// Go on with the last message instead of answering it.
    pub continue_final_message: bool,
    /// Begin the answer as the template does; true unless a message is to be continued.
    pub add_generation_prompt: bool,
    /// Variables for the chat template.
    pub template_variables: Map<String, Value>,
}

impl ChatRequest {
    /// Reads a request's body.
    ///
    /// # Errors
    ///
    /// JSON that is not valid, or the first field with a value that means nothing.
    pub fn from_json(body: &[u8]) -> Result<Self, ApiError> {
        Self::read(Fields::from_json(body)?)
    }

    fn read(mut fields: Fields) -> Result<Self, ApiError> {
        let mut params = params(&fields, 1)?;
        if params.max_new_tokens.is_none() {
            params.max_new_tokens = Some(usize::MAX);
        }
        let wants = fields.flag("logprobs")?.unwrap_or(false);
        let top = fields.count("top_logprobs", 0)?;
        params.logprobs = match (wants, top) {
            (true, top) => Some(top.unwrap_or(0)),
            (false, None | Some(0)) => None,
            (false, Some(_)) => {
                return Err(ApiError::invalid(
                    "top_logprobs",
                    "top_logprobs is given without logprobs; expected logprobs to be true",
                ));
            }
        };
        let (stream, include_usage) = streaming(&fields)?;
        let continue_final_message = fields.flag("continue_final_message")?.unwrap_or(false);
        let add_generation_prompt = fields.flag("add_generation_prompt")?;
        if continue_final_message && add_generation_prompt == Some(true) {
            return Err(ApiError::invalid(
                "continue_final_message",
                "continue_final_message and add_generation_prompt exclude each other",
            ));
        }
        let template_variables = match fields.take("chat_template_kwargs") {
            None => Map::new(),
            Some(Value::Object(map)) => map,
            Some(other) => return Err(wrong("chat_template_kwargs", &other, "an object")),
        };
        let messages = match fields.take("messages") {
            Some(Value::Array(messages)) => messages
                .into_iter()
                .enumerate()
                .map(|(index, message)| message_of(index, message))
                .collect::<Result<Vec<_>, _>>()?,
            Some(other) => return Err(wrong("messages", &other, "a list of messages")),
            None => {
                return Err(ApiError::invalid(
                    "messages",
                    "messages is missing; expected a list of messages",
                ));
            }
        };
        if messages.is_empty() {
            return Err(ApiError::invalid(
                "messages",
                "messages is empty; expected at least one message",
            ));
        }
        Ok(Self {
            model: fields.text("model")?,
            messages,
            params,
            stream,
            include_usage,
            continue_final_message,
            add_generation_prompt: add_generation_prompt.unwrap_or(!continue_final_message),
            template_variables,
        })
    }

    /// The engine's request: the conversation in the model's template, as tokens.
    ///
    /// # Errors
    ///
    /// Those of [`prompt`](Self::prompt).
    pub fn to_engine(
        &self,
        tokenizer: &Tokenizer,
        template: Option<&ChatTemplate>,
    ) -> Result<Request, ApiError> {
        let (_, tokens) = self.prompt(tokenizer, template)?;
        Ok(Request::new(tokens).with_params(self.params.clone()))
    }

    /// The conversation in the model's template, and its tokens.
    ///
    /// # Errors
    ///
    /// A model without a template, or a conversation that its template refuses.
    pub fn prompt(
        &self,
        tokenizer: &Tokenizer,
        template: Option<&ChatTemplate>,
    ) -> Result<(String, Vec<u32>), ApiError> {
        let template = template.ok_or(fireside_tokenizer::Error::NoChatTemplate)?;
        let text = if self.continue_final_message {
            self.continued(template)?
        } else {
            template.render(&self.input(&self.messages))?
        };
        // The template writes the special tokens itself.
        let tokens = tokenizer.encode(&text, false)?;
        Ok((text, tokens))
    }

    fn input<'a>(&self, messages: &'a [Value]) -> ChatInput<'a> {
        let mut input = ChatInput::new(messages);
        input.extra = self.template_variables.clone();
        input.add_generation_prompt = self.add_generation_prompt;
        input
    }

    /// The conversation until the last message's content ends, without what the template writes after
    /// it, which would end the message. Where the content ends is seen by a mark after it: the content
    /// itself may also be found in what follows.
    fn continued(&self, template: &ChatTemplate) -> Result<String, ApiError> {
        let refused = |reason: &str| {
            ApiError::invalid(
                "continue_final_message",
                format!("continue_final_message needs a last message with content{reason}"),
            )
        };
        let mut messages = self.messages.clone();
        let last = messages.last_mut().and_then(|m| m.get_mut("content"));
        let Some(Value::String(content)) = last else {
            return Err(refused(""));
        };
        content.push_str(MARK);
        let mut text = template.render(&self.input(&messages))?;
        let bare = MARK.trim_end();
        let at = text.rfind(bare);
        let at = at.ok_or_else(|| refused(" that the chat template writes as it is"))?;
        // A template that trims contents has trimmed the mark's blank, and would the content's.
        let trims = text.get(at..).is_none_or(|rest| !rest.starts_with(MARK));
        text.truncate(at);
        if trims {
            text.truncate(text.trim_end().len());
        }
        Ok(text)
    }
}

/// What stands after the last message's content while it is rendered: a text that no template
/// writes by itself, and a blank that some take away.
const MARK: &str = "fireside-7f3a-end ";

/// A message with a role and, where its content comes in parts, their text.
fn message_of(index: usize, message: Value) -> Result<Value, ApiError> {
    let name = format!("messages[{index}]");
    let Value::Object(mut message) = message else {
        return Err(wrong(&name, &message, "an object with role and content"));
    };
    match message.get("role") {
        Some(Value::String(_)) => {}
        Some(other) => return Err(wrong(&format!("{name}.role"), other, "a string")),
        None => {
            let field = format!("{name}.role");
            return Err(ApiError::invalid(
                &field,
                format!("{field} is missing; expected system, user, assistant or tool"),
            ));
        }
    }
    let field = format!("{name}.content");
    match message.get("content") {
        None | Some(Value::Null | Value::String(_)) => {}
        Some(Value::Array(parts)) => {
            let mut text = String::new();
            for part in parts {
                match (part["type"].as_str(), part["text"].as_str()) {
                    (Some("text") | None, Some(own)) => text.push_str(own),
                    (Some(other), _) => {
                        return Err(ApiError::invalid(
                            &field,
                            format!("{field} has a part of type {other:?}; expected text"),
                        ));
                    }
                    (None, None) => return Err(wrong(&field, part, "parts of type text")),
                }
            }
            message.insert("content".into(), Value::String(text));
        }
        Some(other) => return Err(wrong(&field, other, "a string or a list of parts")),
    }
    Ok(Value::Object(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<ChatRequest, ApiError> {
        ChatRequest::from_json(json.as_bytes())
    }

    fn hi(rest: &str) -> String {
        format!(r#"{{"messages": [{{"role": "user", "content": "hi"}}]{rest}}}"#)
    }

    #[test]
    fn unknown_fields_and_nulls_are_passed_over() {
        let request = read(&hi(
            r#", "temperature": null, "user": "me", "n": null, "stop": null, "seed": -1, "max_tokens": 3.0"#,
        ))
        .unwrap();
        assert_eq!(request.params.temperature, None);
        assert_eq!(request.params.do_sample, Some(true));
        assert_eq!(request.params.seed, Some(u64::MAX));
        assert_eq!(request.params.max_new_tokens, Some(3));
        assert!(!request.stream);
    }

    #[test]
    fn a_temperature_of_zero_is_greedy_and_both_token_limits_are_read() {
        let request = read(&hi(
            r#", "temperature": 0, "max_tokens": 3, "max_completion_tokens": 5"#,
        ))
        .unwrap();
        assert_eq!(request.params.do_sample, Some(false));
        assert_eq!(request.params.max_new_tokens, Some(5));
    }

    #[test]
    fn a_value_that_means_nothing_names_its_field() {
        for (rest, param, message) in [
            (
                r#", "temperature": "hot""#,
                "temperature",
                "temperature is \"hot\"; expected a number",
            ),
            (
                r#", "n": 0"#,
                "n",
                "n is 0; expected a whole number from 1 up",
            ),
            (
                r#", "max_tokens": 1.5"#,
                "max_tokens",
                "max_tokens is 1.5; expected a whole number from 1 up",
            ),
            (
                r#", "stop": 3"#,
                "stop",
                "stop is 3; expected a string or a list of strings",
            ),
            (
                r#", "logit_bias": {"the": 1}"#,
                "logit_bias",
                "logit_bias has the key \"the\"; expected a token id",
            ),
            (
                r#", "top_logprobs": 2"#,
                "top_logprobs",
                "top_logprobs is given without logprobs; expected logprobs to be true",
            ),
            (
                r#", "stream_options": {}"#,
                "stream_options",
                "stream_options is given without a stream; expected stream to be true",
            ),
        ] {
            let error = read(&hi(rest)).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param));
            assert_eq!(error.message, message);
            assert_eq!(error.kind.status(), 400);
        }
        for (json, message) in [
            ("[1]", "the body is a list, expected an object"),
            ("{}", "messages is missing; expected a list of messages"),
            (
                r#"{"messages": []}"#,
                "messages is empty; expected at least one message",
            ),
            (
                r#"{"messages": [{"content": "x"}]}"#,
                "messages[0].role is missing; expected system, user, assistant or tool",
            ),
            (
                r#"{"messages": [{"role": "user", "content": 7}]}"#,
                "messages[0].content is 7; expected a string or a list of parts",
            ),
            (
                r#"{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}"#,
                "messages[0].content has a part of type \"image_url\"; expected text",
            ),
        ] {
            assert_eq!(read(json).unwrap_err().message, message);
        }
        let error = read("{").unwrap_err();
        assert!(error.message.starts_with("the body is not valid json"));
        assert_eq!(error.body()["error"]["type"], "invalid_request_error");
    }

    const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    /// The prompt of a conversation with this last message, in a template.
    fn continued(template: &str, content: &str) -> Result<String, ApiError> {
        let nothing: [(&str, &str); 0] = [];
        let template = ChatTemplate::new(template, nothing).unwrap();
        let mut request = read(&hi(r#", "continue_final_message": true"#)).unwrap();
        let last = serde_json::json!({"role": "assistant", "content": content});
        request.messages.push(last);
        request.continued(&template)
    }

    #[test]
    fn a_message_is_continued_where_its_content_ends_whatever_it_says() {
        let front = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n";
        for content in [
            "The",
            "end",
            "im",
            "<|im_end|>",
            "|",
            ">",
            "\n",
            "n",
            "assistant",
            "hi",
            "",
            "fireside-7f3a-end",
            "好 ",
            "a\n\n",
        ] {
            let text = continued(CHATML, content).unwrap();
            assert_eq!(text, format!("{front}{content}"));
        }
        let trimming = CHATML.replace("m.content", "m.content | trim");
        for (content, kept) in [("The ", "The"), ("im\n", "im"), ("a b", "a b")] {
            let text = continued(&trimming, content).unwrap();
            assert_eq!(text, format!("{front}{kept}"));
        }
    }

    #[test]
    fn a_message_that_cannot_be_continued_is_refused() {
        let roles = "{% for m in messages %}{{ m.role }}{% endfor %}";
        let error = continued(roles, "The").unwrap_err();
        assert_eq!(error.param.as_deref(), Some("continue_final_message"));
        assert_eq!(
            error.message,
            "continue_final_message needs a last message with content that the chat template writes as it is"
        );
        let error = read(&hi(
            r#", "continue_final_message": true, "add_generation_prompt": true"#,
        ));
        assert_eq!(
            error.unwrap_err().message,
            "continue_final_message and add_generation_prompt exclude each other"
        );
    }

    #[test]
    fn contents_in_parts_become_text() {
        let request = read(
            r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]}"#,
        )
        .unwrap();
        assert_eq!(request.messages[0]["content"], "ab");
    }

    #[test]
    fn logprobs_are_a_switch_and_a_count() {
        let count = |rest| read(&hi(rest)).unwrap().params.logprobs;
        assert_eq!(count(r#", "logprobs": true"#), Some(0));
        assert_eq!(count(r#", "logprobs": true, "top_logprobs": 5"#), Some(5));
        assert_eq!(count(r#", "logprobs": false"#), None);
    }
}
