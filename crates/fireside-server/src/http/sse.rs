//! An answer as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use fireside_engine::Event;
use fireside_openai::ApiError;
use futures_util::stream;

use crate::app::{Answer, App};

/// Turns events into the data of frames, in one dialect.
pub(crate) trait Frames: Send + 'static {
    /// The frames of a step's events.
    ///
    /// # Errors
    ///
    /// A sequence failed.
    fn take(&mut self, events: Vec<(usize, Event)>) -> Result<Vec<String>, ApiError>;

    /// Whether every sequence has ended.
    fn is_done(&self) -> bool;

    /// What ends a stream that came to its end.
    fn last(&self) -> Option<&'static str>;

    /// What ends a stream that failed.
    fn failed(&self, error: &ApiError) -> String;
}

struct Open<F> {
    answer: Answer,
    frames: F,
    ready: VecDeque<String>,
    ended: bool,
}

/// The stream as a response. When the client leaves, it is dropped, and the answer with it.
pub(crate) fn response<F: Frames>(app: &App, answer: Answer, frames: F) -> Response {
    let open = Open {
        answer,
        frames,
        ready: VecDeque::new(),
        ended: false,
    };
    let stream = stream::unfold(open, |mut open| async move {
        loop {
            if let Some(data) = open.ready.pop_front() {
                return Some((Ok::<_, Infallible>(Frame::default().data(data)), open));
            }
            if open.ended {
                return None;
            }
            let events = open.answer.next().await;
            match events.and_then(|events| open.frames.take(events)) {
                Ok(frames) => {
                    open.ready.extend(frames);
                    if open.frames.is_done() {
                        open.ended = true;
                        open.ready.extend(open.frames.last().map(str::to_owned));
                    }
                }
                Err(error) => {
                    open.ended = true;
                    open.ready.push_back(open.frames.failed(&error));
                }
            }
        }
    });
    let alive = KeepAlive::new().interval(app.options.keep_alive);
    let mut response = Sse::new(stream).keep_alive(alive).into_response();
    response.headers_mut().insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    response
}
