//! Errors as OpenAI's clients expect them.

use fireside_engine::Error as EngineError;
use serde_json::{Value, json};

/// What kind of error it is; decides the HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request means nothing.
    InvalidRequest,
    /// No key, or a wrong one.
    Unauthorized,
    /// It comes from where nothing may come from.
    Forbidden,
    /// There is no such model, or no such path.
    NotFound,
    /// The path exists, but not for this method.
    MethodNotAllowed,
    /// It took longer than it may.
    Timeout,
    /// The body is larger than it may be.
    TooLarge,
    /// The body is not JSON.
    MediaType,
    /// Too much is under way.
    Overloaded,
    /// The generation failed.
    Server,
    /// Nothing can be generated now: the model loads, or the server ends.
    Unavailable,
}

impl ErrorKind {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::TooLarge => 413,
            Self::MediaType => 415,
            Self::Overloaded => 429,
            Self::Server => 500,
            Self::Unavailable => 503,
        }
    }

    /// Its name in the field `type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest | Self::MethodNotAllowed | Self::TooLarge | Self::MediaType => {
                "invalid_request_error"
            }
            Self::Unauthorized => "authentication_error",
            Self::Forbidden => "permission_error",
            Self::NotFound => "not_found_error",
            Self::Timeout => "timeout_error",
            Self::Overloaded => "overloaded_error",
            Self::Server => "server_error",
            Self::Unavailable => "unavailable_error",
        }
    }
}

/// An error with what OpenAI's clients read: message, type, parameter, code.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind it is.
    pub kind: ErrorKind,
    /// What happened and what would be right, in one line.
    pub message: String,
    /// The field of the request that it is about.
    pub param: Option<String>,
    /// A name that programs can tell it by.
    pub code: Option<&'static str>,
    /// Seconds after which the same request may be taken, where that is known.
    pub retry_after: Option<u64>,
}

impl ApiError {
    /// A request that means nothing, and the field that says so.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::InvalidRequest,
            message: message.into(),
            param: Some(param.into()),
            code: None,
            retry_after: None,
        }
    }

    /// An error that is about no field.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            param: None,
            code: None,
            retry_after: None,
        }
    }

    /// With a name that programs can tell it by.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The body: `{"error": {"message", "type", "param", "code"}}`.
    pub fn body(&self) -> Value {
        json!({ "error": {
            "message": self.message,
            "type": self.kind.name(),
            "param": self.param,
            "code": self.code,
        }})
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let (kind, param, code) = match &error {
            EngineError::InvalidParameter { field, .. } => {
                (ErrorKind::InvalidRequest, Some(openai_name(field)), None)
            }
            EngineError::UnknownLora { .. } => {
                (ErrorKind::NotFound, Some("model"), Some("model_not_found"))
            }
            EngineError::LoraInUse { .. } => (
                ErrorKind::InvalidRequest,
                Some("lora_name"),
                Some("lora_in_use"),
            ),
            EngineError::EmptyPrompt | EngineError::PromptToken { .. } => {
                (ErrorKind::InvalidRequest, Some("prompt"), None)
            }
            EngineError::PromptTooLong { .. } | EngineError::CacheTooSmall { .. } => (
                ErrorKind::InvalidRequest,
                None,
                Some("context_length_exceeded"),
            ),
            EngineError::QueueFull { .. } | EngineError::TokenQueueFull { .. } => {
                (ErrorKind::Overloaded, None, Some("queue_full"))
            }
            EngineError::Tokenizer(_) => (ErrorKind::InvalidRequest, None, None),
            _ => (ErrorKind::Server, None, None),
        };
        let mut message = error.to_string();
        if let (EngineError::InvalidParameter { field, .. }, Some(name)) = (&error, param)
            && let Some(rest) = message.strip_prefix(field)
        {
            message = format!("{name}{rest}");
        }
        Self {
            kind,
            message,
            param: param.map(str::to_owned),
            code,
            retry_after: None,
        }
    }
}

impl From<fireside_tokenizer::Error> for ApiError {
    fn from(error: fireside_tokenizer::Error) -> Self {
        use fireside_tokenizer::Error as E;
        let code = match &error {
            E::TextTooLong { .. } => None,
            _ => Some("template_error"),
        };
        let message = match error {
            E::NoChatTemplate => {
                "the model has no chat template; use completions, with the prompt as plain text"
                    .into()
            }
            error => error.to_string(),
        };
        Self {
            code,
            ..Self::invalid("messages", message)
        }
    }
}

/// The name here of a field that the engine names otherwise.
fn openai_name(field: &'static str) -> &'static str {
    match field {
        "max_new_tokens" => "max_tokens",
        "min_new_tokens" => "min_tokens",
        "num_return_sequences" => "n",
        "logprobs" => "top_logprobs",
        "prompt_logprobs" => "logprobs",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_fields_have_the_names_that_clients_wrote() {
        for (field, name) in [
            ("logprobs", "top_logprobs"),
            ("max_new_tokens", "max_tokens"),
            ("temperature", "temperature"),
        ] {
            let error = ApiError::from(EngineError::InvalidParameter {
                field,
                value: "99".into(),
                expected: "less".into(),
            });
            assert_eq!(error.param.as_deref(), Some(name));
            assert_eq!(error.message, format!("{name} is 99; expected less"));
        }
    }
}
