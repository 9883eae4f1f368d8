//! HTTP: bodies, errors in two dialects, streams, and what wraps every request.

pub(crate) mod body;
pub(crate) mod envelope;
pub(crate) mod error;
pub(crate) mod listen;
pub(crate) mod sse;
pub(crate) mod visitors;
