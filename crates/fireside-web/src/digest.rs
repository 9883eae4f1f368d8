//! Digests for JavaScript.

use wasm_bindgen::prelude::*;

/// SHA-256 of bytes that come piece by piece: the digest that browsers offer wants them all at once.
#[wasm_bindgen]
pub struct Sha256(sha2::Sha256);

#[wasm_bindgen]
impl Sha256 {
    /// An empty digest.
    #[wasm_bindgen(constructor)]
    #[expect(clippy::new_without_default, reason = "JavaScript has no Default")]
    pub fn new() -> Self {
        Self(sha2::Digest::new())
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.0, bytes);
    }

    /// The digest in hexadecimal; the object is used up.
    pub fn hex(self) -> String {
        use std::fmt::Write;
        let digest = sha2::Digest::finalize(self.0);
        digest.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}
