//! Examples live beside this crate's manifest: `cargo run -p fireside-examples --example complete`.
