//! `/v1/completions`: the request.

use fireside_engine::{GenerationParams, Request};
use fireside_tokenizer::Tokenizer;
use serde_json::Value;

use crate::ApiError;
use crate::fields::{Fields, whole, wrong};
use crate::sampling::{params, streaming};

/// Tokens of a completion that says nothing, as OpenAI has it.
const DEFAULT_MAX_TOKENS: usize = 16;
/// Most log-probabilities of a token.
const MAX_LOGPROBS: usize = 20;

/// Most prompts of a request.
const MAX_PROMPTS: usize = 1024;

/// A prompt, as text or as tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// Text to be tokenized.
    Text(String),
    /// Tokens.
    Tokens(Vec<u32>),
}

/// A text completion that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    /// The model's name, as the client wrote it.
    pub model: Option<String>,
    /// The prompts; each is continued.
    pub prompts: Vec<Prompt>,
    /// How to generate.
    pub params: GenerationParams,
    /// Answer in chunks.
    pub stream: bool,
    /// End the stream with a chunk that has the usage.
    pub include_usage: bool,
    /// Put the prompt before the completion.
    pub echo: bool,
}

impl CompletionRequest {
    /// Reads a request's body.
    ///
    /// # Errors
    ///
    /// JSON that is not valid, or the first field with a value that means nothing.
    pub fn from_json(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::from_json(body)?;
        let mut params = params(&fields)?;
        params.max_new_tokens.get_or_insert(DEFAULT_MAX_TOKENS);
        params.logprobs = fields.count("logprobs", 0)?;
        if let Some(count) = params.logprobs
            && count > MAX_LOGPROBS
        {
            return Err(ApiError::invalid(
                "logprobs",
                format!("logprobs is {count}; expected at most {MAX_LOGPROBS}"),
            ));
        }
        let (stream, include_usage) = streaming(&fields)?;
        let echo = fields.flag("echo")?.unwrap_or(false);
        if echo && params.logprobs.is_some() {
            return Err(ApiError::invalid(
                "echo",
                "echo with logprobs is not supported: prompts have no log-probabilities; leave one out",
            ));
        }
        if fields.get("suffix").is_some_and(|suffix| suffix != "") {
            return Err(ApiError::invalid(
                "suffix",
                "suffix is not supported: text is continued at its end only; leave it out",
            ));
        }
        let n = params.num_return_sequences.unwrap_or(1);
        if let Some(best_of) = fields.count("best_of", 1)?
            && best_of != n
        {
            return Err(ApiError::invalid(
                "best_of",
                format!("best_of is {best_of}; expected n, which is {n}: all sequences are given"),
            ));
        }
        let prompt = fields.take("prompt").ok_or_else(|| {
            ApiError::invalid(
                "prompt",
                "prompt is missing; expected a string, a list of strings, or token ids",
            )
        })?;
        Ok(Self {
            model: fields.text("model")?,
            prompts: prompts(&prompt)?,
            params,
            stream,
            include_usage,
            echo,
        })
    }

    /// The engine's requests, one for each prompt.
    ///
    /// # Errors
    ///
    /// Text that cannot be tokenized.
    pub fn to_engine(&self, tokenizer: &Tokenizer) -> Result<Vec<Request>, ApiError> {
        self.prompts
            .iter()
            .map(|prompt| {
                let tokens = match prompt {
                    Prompt::Text(text) => tokenizer.encode(text, true)?,
                    Prompt::Tokens(tokens) => tokens.clone(),
                };
                Ok(Request::new(tokens).with_params(self.params.clone()))
            })
            .collect()
    }
}

fn prompts(value: &Value) -> Result<Vec<Prompt>, ApiError> {
    let expected = "a string, a list of strings, or token ids";
    let bad = |value: &Value| wrong("prompt", value, expected);
    let tokens = |ids: &[Value]| -> Option<Prompt> {
        ids.iter()
            .map(|id| whole(id).and_then(|id| u32::try_from(id).ok()))
            .collect::<Option<Vec<u32>>>()
            .map(Prompt::Tokens)
    };
    match value {
        Value::String(text) => Ok(vec![Prompt::Text(text.clone())]),
        Value::Array(all) if all.is_empty() => Err(ApiError::invalid(
            "prompt",
            format!("prompt is an empty list; expected {expected}"),
        )),
        Value::Array(all) if all.iter().all(Value::is_number) => {
            tokens(all).map(|one| vec![one]).ok_or_else(|| bad(value))
        }
        Value::Array(all) if all.len() > MAX_PROMPTS => Err(ApiError::invalid(
            "prompt",
            format!(
                "prompt has {} entries; expected at most {MAX_PROMPTS}",
                all.len()
            ),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<CompletionRequest, ApiError> {
        CompletionRequest::from_json(json.as_bytes())
    }

    #[test]
    fn prompts_come_in_four_forms() {
        let prompts = |json: &str| read(&format!(r#"{{"prompt": {json}}}"#)).unwrap().prompts;
        let text = |t: &str| Prompt::Text(t.to_owned());
        assert_eq!(prompts(r#""a""#), [text("a")]);
        assert_eq!(prompts(r#"["a", "b"]"#), [text("a"), text("b")]);
        assert_eq!(prompts("[1, 2]"), [Prompt::Tokens(vec![1, 2])]);
        assert_eq!(
            prompts("[[1], [2, 3]]"),
            [Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])]
        );
        for bad in ["7", "[]", "[1, -2]", "[true]", "{}"] {
            let error = read(&format!(r#"{{"prompt": {bad}}}"#)).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("prompt"), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (rest, param) in [
            (r#""echo": true, "logprobs": 1"#, "echo"),
            (r#""suffix": "end""#, "suffix"),
            (r#""best_of": 3"#, "best_of"),
            (
                r#""response_format": {"type": "json_object"}"#,
                "response_format",
            ),
            (r#""guided_regex": "(""#, "guided_regex"),
            (r#""stop": ["a", "b", "c", "d", "e"]"#, "stop"),
            (r#""temperature": 2.5"#, "temperature"),
            (r#""n": 1000000000"#, "n"),
        ] {
            let error = read(&format!(r#"{{"prompt": "a", {rest}}}"#)).unwrap_err();
            assert_eq!(error.param.unwrap_or_default(), param, "{rest}");
        }
        read(r#"{"prompt": "a", "response_format": {"type": "text"}, "best_of": 2, "n": 2}"#)
            .unwrap();
        let many = format!(r#"{{"prompt": [{}"a"]}}"#, r#""a","#.repeat(1024));
        assert_eq!(
            read(&many).unwrap_err().message,
            "prompt has 1025 entries; expected at most 1024"
        );
    }

    #[test]
    fn a_completion_has_sixteen_tokens_unless_it_says_otherwise() {
        let request = read(r#"{"prompt": "a"}"#).unwrap();
        assert_eq!(request.params.max_new_tokens, Some(16));
        let error = read(r#"{"prompt": "a", "logprobs": 21}"#).unwrap_err();
        assert_eq!(error.message, "logprobs is 21; expected at most 20");
    }
}
