//! Reads a request's body, within its limits.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use fireside_openai::{ApiError, ErrorKind};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time;

use crate::Options;

/// A body that says it is JSON, or does not say what it is.
///
/// # Errors
///
/// Another content type, too many bytes, a client that is too slow or gone.
pub(crate) async fn read(
    options: &Options,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, ApiError> {
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        let kind = kind.to_str().unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        let is_json = essence.eq_ignore_ascii_case("application/json")
            || (essence.starts_with("application/") && essence.ends_with("+json"));
        if !is_json {
            let shown: String = essence.chars().take(60).collect();
            return Err(ApiError::new(
                ErrorKind::MediaType,
                format!("content-type is {shown:?}; expected application/json"),
            ));
        }
    }
    let limit = options.payload_limit;
    let too_large = || {
        ApiError::new(
            ErrorKind::TooLarge,
            format!("the body has more than {limit} bytes, the server's limit"),
        )
    };
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    match time::timeout(options.read_timeout, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::new(
            ErrorKind::InvalidRequest,
            "the body broke off before its end",
        )),
        Err(_) => Err(ApiError::new(
            ErrorKind::Timeout,
            format!(
                "the body did not come within {} s",
                options.read_timeout.as_secs_f32()
            ),
        )),
    }
}
