//! The server as clients meet it, byte by byte over real sockets.

mod client;
mod embeddings;
mod faults;
mod harness;
mod lifecycle;
mod loras;
mod metrics;
mod openai;
mod rerank;
mod site;
mod tgi;
mod tls;
mod visitors;
