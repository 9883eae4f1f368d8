//! Tests of the public interface, in one binary.

mod bad_input;
mod chat;
mod common;
mod corpus;
mod gguf;
mod pairs;
mod parity;
mod properties;
mod smollm2;
