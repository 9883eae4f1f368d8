//! Reads a request's body, within its limits and within those of all bodies together.

use std::ops::Deref;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use fireside_openai::{ApiError, ErrorKind};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time;

use crate::app::App;
use crate::http::error::BODIES_FULL;

/// A body in memory, which has its share of the room for bodies until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    share: Option<OwnedSemaphorePermit>,
}

impl Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Held {
    /// Takes bytes that came in; false where there is no room for them.
    fn take(&mut self, data: &[u8], room: &Arc<Semaphore>) -> bool {
        let Ok(count) = u32::try_from(data.len()) else {
            return false;
        };
        let Ok(more) = Arc::clone(room).try_acquire_many_owned(count) else {
            return false;
        };
        match &mut self.share {
            Some(share) => share.merge(more),
            share => *share = Some(more),
        }
        self.bytes.extend_from_slice(data);
        true
    }
}

/// A body that says it is JSON, or does not say what it is.
///
/// # Errors
///
/// Another content type, too many bytes here or in all, a client that is too slow or gone.
pub(crate) async fn read(app: &App, headers: &HeaderMap, body: Body) -> Result<Held, ApiError> {
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
    let options = &app.options;
    let limit = options.payload_limit;
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    match time::timeout(options.read_timeout, collect(app, body)).await {
        Ok(body) => body,
        Err(_) => Err(ApiError::new(
            ErrorKind::Timeout,
            format!(
                "the body did not come within {} s",
                options.read_timeout.as_secs_f32()
            ),
        )),
    }
}

/// Takes room for bytes as they come, so that one who only announces many takes none from others.
async fn collect(app: &App, body: Body) -> Result<Held, ApiError> {
    let limit = app.options.payload_limit;
    let mut body = Limited::new(body, limit);
    let mut held = Held {
        bytes: Vec::new(),
        share: None,
    };
    while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) if error.is::<LengthLimitError>() => return Err(too_large(limit)),
            Err(_) => {
                return Err(ApiError::new(
                    ErrorKind::InvalidRequest,
                    "the body broke off before its end",
                ));
            }
        };
        if !held.take(&data, &app.bodies) {
            return Err(app.bodies_full());
        }
    }
    Ok(held)
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(
        ErrorKind::TooLarge,
        format!("the body has more than {limit} bytes, the server's limit"),
    )
}

impl App {
    fn bodies_full(&self) -> ApiError {
        self.shared.metrics.rejected("payload");
        let most = self.options.payload_total_limit();
        ApiError::new(
            ErrorKind::Overloaded,
            format!(
                "the bodies that are being read have {most} bytes, the server's limit for all; \
                 try again later"
            ),
        )
        .with_code(BODIES_FULL)
    }
}
