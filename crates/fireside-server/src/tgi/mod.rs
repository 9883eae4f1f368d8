//! TGI's interface over the engine: its requests, and its answers whole and as streams.

pub(crate) mod reply;
pub(crate) mod request;
