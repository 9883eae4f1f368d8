//! `/v1/completions`: the request.

use fireside_engine::{GenerationParams, Request};
use fireside_tokenizer::Tokenizer;

use crate::ApiError;
use crate::fields::Fields;
use crate::prompt::{Prompt, prompts};
use crate::reply::{Reply, ReplyKind};
use crate::sampling::{MAX_SEQUENCES, params, streaming};

/// Tokens of a completion that says nothing, as OpenAI has it.
const DEFAULT_MAX_TOKENS: usize = 16;
/// Most log-probabilities of a token.
const MAX_LOGPROBS: usize = 20;

/// Most choices that repeat the log-probabilities of their prompt.
const MAX_ECHOES: usize = 8;

/// Most prompts of a request.
const MAX_PROMPTS: usize = 1024;

/// A text completion that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    /// The model's name, as the client wrote it.
    pub model: Option<String>,
    /// The prompts; each is continued.
    pub prompts: Vec<Prompt>,
    /// How to generate. More sequences than `n` may be asked for: `best_of`.
    pub params: GenerationParams,
    /// Choices to give for each prompt: of its sequences, those with the highest log-probability per
    /// token.
    pub n: usize,
    /// Give the log-probabilities of the tokens; with `echo` those of the prompt's too.
    pub logprobs: bool,
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
        let echo = fields.flag("echo")?.unwrap_or(false);
        // With an echo there is something to give without any token.
        let mut params = params(&fields, usize::from(!echo))?;
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
        if fields.get("suffix").is_some_and(|suffix| suffix != "") {
            return Err(ApiError::invalid(
                "suffix",
                "suffix is not supported: text is continued at its end only; leave it out",
            ));
        }
        let n = params.num_return_sequences.unwrap_or(1);
        let logprobs = params.logprobs.is_some();
        if echo && logprobs {
            params.prompt_logprobs = params.logprobs;
            if n > MAX_ECHOES {
                return Err(ApiError::invalid(
                    "n",
                    format!(
                        "n is {n}; expected at most {MAX_ECHOES} with echo and logprobs: each choice \
                         repeats its prompt"
                    ),
                ));
            }
        }
        if let Some(best_of) = best_of(&fields, n, &params, stream)? {
            params.num_return_sequences = Some(best_of);
            // They are what the best ones are known by.
            params.logprobs.get_or_insert(0);
        }
        let prompt = fields.take("prompt").ok_or_else(|| {
            ApiError::invalid(
                "prompt",
                "prompt is missing; expected a string, a list of strings, or token ids",
            )
        })?;
        Ok(Self {
            model: fields.text("model")?,
            prompts: prompts("prompt", &prompt, MAX_PROMPTS)?,
            params,
            n,
            logprobs,
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

    /// The reply that the events of [`to_engine`](Self::to_engine)'s requests make. `created` is in
    /// seconds since 1970.
    pub fn reply(
        &self,
        id: impl Into<String>,
        created: u64,
        model: impl Into<String>,
        tokenizer: &Tokenizer,
    ) -> Reply {
        let each = self.params.num_return_sequences.unwrap_or(1);
        let choices = each * self.prompts.len();
        let mut reply = Reply::new(ReplyKind::Completion, id, created, model, choices)
            .with_best(self.n, each)
            .with_usage(self.include_usage)
            .with_logprobs(self.logprobs);
        if self.echo {
            for (number, prompt) in self.prompts.iter().enumerate() {
                let text = match prompt {
                    Prompt::Text(text) => text.clone(),
                    Prompt::Tokens(tokens) => tokenizer.decode(tokens, true),
                };
                reply.echo(number, text);
            }
        }
        reply
    }
}

/// `best_of`, where more sequences are wanted than are given.
fn best_of(
    fields: &Fields,
    n: usize,
    params: &GenerationParams,
    stream: bool,
) -> Result<Option<usize>, ApiError> {
    let Some(best_of) = fields.count("best_of", 1)?.filter(|best_of| *best_of != n) else {
        return Ok(None);
    };
    let expected = if best_of < n {
        format!("at least n, which is {n}")
    } else if best_of > MAX_SEQUENCES {
        format!("at most {MAX_SEQUENCES}")
    } else if stream {
        format!("n, which is {n}, in a stream: the best ones are known at the end")
    } else if params.do_sample != Some(true) {
        "a temperature above 0 with it: without sampling all sequences are one".to_owned()
    } else {
        return Ok(Some(best_of));
    };
    Err(ApiError::invalid(
        "best_of",
        format!("best_of is {best_of}; expected {expected}"),
    ))
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
            (r#""suffix": "end""#, "suffix"),
            (r#""best_of": 1000000000"#, "best_of"),
            (r#""best_of": 2, "n": 3"#, "best_of"),
            (r#""best_of": 2, "stream": true"#, "best_of"),
            (r#""best_of": 2, "temperature": 0"#, "best_of"),
            (r#""n": 9, "echo": true, "logprobs": 1"#, "n"),
            (r#""max_tokens": 0"#, "max_tokens"),
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
    fn best_of_asks_for_more_sequences_than_are_given() {
        let best = read(r#"{"prompt": "a", "best_of": 5, "n": 2}"#).unwrap();
        assert_eq!((best.n, best.params.num_return_sequences), (2, Some(5)));
        assert_eq!((best.logprobs, best.params.logprobs), (false, Some(0)));
        let all = read(r#"{"prompt": "a", "best_of": 2, "n": 2, "stream": true}"#).unwrap();
        assert_eq!((all.n, all.params.num_return_sequences), (2, Some(2)));
        assert_eq!(all.params.logprobs, None);
    }

    #[test]
    fn an_echo_with_logprobs_scores_the_prompt_and_needs_no_new_token() {
        let request =
            read(r#"{"prompt": "a", "echo": true, "logprobs": 1, "max_tokens": 0}"#).unwrap();
        assert_eq!(request.params.max_new_tokens, Some(0));
        assert_eq!(request.params.prompt_logprobs, Some(1));
        let request = read(r#"{"prompt": "a", "logprobs": 1}"#).unwrap();
        assert_eq!(request.params.prompt_logprobs, None);
        let request = read(r#"{"prompt": "a", "echo": true}"#).unwrap();
        assert_eq!(request.params.prompt_logprobs, None);
    }

    #[test]
    fn a_completion_has_sixteen_tokens_unless_it_says_otherwise() {
        let request = read(r#"{"prompt": "a"}"#).unwrap();
        assert_eq!(request.params.max_new_tokens, Some(16));
        let error = read(r#"{"prompt": "a", "logprobs": 21}"#).unwrap_err();
        assert_eq!(error.message, "logprobs is 21; expected at most 20");
    }
}
