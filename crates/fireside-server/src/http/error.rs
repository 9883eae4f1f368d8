//! One error, two dialects: OpenAI's object for `/v1`, TGI's for its own routes.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fireside_openai::{ApiError, ErrorKind};
use serde_json::{Value, json};

/// Seconds after which a client may try again where nothing says more.
const RETRY_AFTER: u64 = 1;

/// The code of an error whose request's body was not read to its end, for want of room.
pub(crate) const BODIES_FULL: &str = "bodies_full";

/// Whose error object a route gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `{"error": {"message", "type", "param", "code"}}`
    OpenAi,
    /// `{"error", "error_type"}`
    Tgi,
}

/// What a route calls the fields that limits apply to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    pub(crate) prompt: &'static str,
    pub(crate) most: &'static str,
    pub(crate) least: &'static str,
    pub(crate) sequences: &'static str,
}

impl Names {
    /// Those of chats.
    pub(crate) const CHAT: Self = Self {
        prompt: "messages",
        ..Self::COMPLETION
    };
    /// Those of completions.
    pub(crate) const COMPLETION: Self = Self {
        prompt: "prompt",
        most: "max_tokens",
        least: "min_tokens",
        sequences: "n",
    };
    /// TGI's.
    pub(crate) const TGI: Self = Self {
        prompt: "inputs",
        most: "max_new_tokens",
        least: "min_new_tokens",
        sequences: "best_of",
    };
}

impl Dialect {
    /// The dialect of a path.
    pub(crate) fn of(path: &str) -> Self {
        const TGI: [&str; 11] = [
            "/",
            "/generate",
            "/generate_stream",
            "/embed",
            "/rerank",
            "/tokenize",
            "/detokenize",
            "/chat_tokenize",
            "/info",
            "/health",
            "/health/ready",
        ];
        if TGI.contains(&path) {
            Self::Tgi
        } else {
            Self::OpenAi
        }
    }

    /// The HTTP status of an error.
    pub(crate) fn status(self, error: &ApiError) -> StatusCode {
        let status = match (self, error.kind) {
            (Self::Tgi, ErrorKind::InvalidRequest) => 422,
            (Self::Tgi, ErrorKind::Server) => 424,
            (_, kind) => kind.status(),
        };
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The body of an error.
    pub(crate) fn body(self, error: &ApiError) -> Value {
        match self {
            Self::OpenAi => error.body(),
            Self::Tgi => json!({ "error": error.message, "error_type": tgi_type(error) }),
        }
    }

    /// The whole answer.
    pub(crate) fn response(self, error: &ApiError) -> Response {
        let mut response = json_response(&self.body(error));
        *response.status_mut() = self.status(error);
        let headers = response.headers_mut();
        match error.kind {
            ErrorKind::Overloaded | ErrorKind::Unavailable => {
                let seconds = error.retry_after.unwrap_or(RETRY_AFTER);
                headers.insert(header::RETRY_AFTER, seconds.into());
            }
            ErrorKind::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        let unread = matches!(
            error.kind,
            ErrorKind::TooLarge | ErrorKind::MediaType | ErrorKind::Forbidden
        );
        if unread || error.code == Some(BODIES_FULL) {
            // What is left of the body is not read.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// TGI's name of an error.
fn tgi_type(error: &ApiError) -> &'static str {
    match error.kind {
        ErrorKind::InvalidRequest if error.code == Some("template_error") => "template_error",
        ErrorKind::Overloaded => "overloaded",
        ErrorKind::Server => "generation",
        ErrorKind::Timeout => "timeout",
        ErrorKind::Unauthorized => "authentication",
        ErrorKind::Forbidden => "forbidden",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::NotFound | ErrorKind::MethodNotAllowed => "not_found",
        _ => "validation",
    }
}

/// A value as the answer.
pub(crate) fn json_response(value: &Value) -> Response {
    json_text(value.to_string())
}

/// JSON that is written already, as the answer.
pub(crate) fn json_text(text: String) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_status_and_form_of_its_route() {
        let invalid = ApiError::invalid("n", "n is 0; expected 1");
        let overloaded = ApiError::new(ErrorKind::Overloaded, "Model is overloaded");
        let failed = ApiError::new(ErrorKind::Server, "the model failed");
        let statuses = |dialect: Dialect| {
            [&invalid, &overloaded, &failed].map(|error| dialect.status(error).as_u16())
        };
        assert_eq!(statuses(Dialect::of("/v1/completions")), [400, 429, 500]);
        assert_eq!(statuses(Dialect::of("/generate")), [422, 429, 424]);
        assert_eq!(
            Dialect::Tgi.body(&invalid),
            json!({"error": "n is 0; expected 1", "error_type": "validation"})
        );
        assert_eq!(Dialect::OpenAi.body(&invalid)["error"]["param"], "n");
        let response = Dialect::Tgi.response(&overloaded);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let later = ApiError {
            retry_after: Some(17),
            ..overloaded
        };
        let response = Dialect::OpenAi.response(&later);
        assert_eq!(response.headers()[header::RETRY_AFTER], "17");
    }
}
