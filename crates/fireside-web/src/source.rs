//! Bytes of a model file that the page's side holds: in OPFS, or in a Blob.

use std::borrow::Cow;
use std::ops::Range;

use fireside_formats::{ByteSource, FormatError};
use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// An object with `size` and a synchronous `read(start, end)`: workers have both a synchronous
    /// handle to OPFS and a synchronous reader of Blobs.
    #[wasm_bindgen(typescript_type = "ByteReader")]
    pub type ByteReader;

    #[wasm_bindgen(method, getter)]
    fn size(this: &ByteReader) -> f64;

    #[wasm_bindgen(method, catch)]
    fn read(this: &ByteReader, start: f64, end: f64) -> Result<Uint8Array, JsValue>;
}

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &'static str = r#"
/** Random access to the bytes of a file. `read` is synchronous. */
export interface ByteReader {
  /** Length in bytes. */
  readonly size: number;
  /** The bytes from `start` up to `end`. */
  read(start: number, end: number): Uint8Array;
}
"#;

/// What an exception says.
fn reason_of(thrown: &JsValue) -> String {
    let error = thrown.dyn_ref::<js_sys::Error>();
    error.map_or_else(
        || format!("{thrown:?}"),
        |error| String::from(error.message()),
    )
}

/// A file that is read range by range; nothing of it stays in WASM memory.
pub(crate) struct PageSource(pub(crate) ByteReader);

impl ByteSource for PageSource {
    fn size(&self) -> u64 {
        // Sizes of files are whole numbers far below 2^53.
        self.0.size() as u64
    }

    fn bytes(&self, range: Range<u64>) -> Result<Cow<'_, [u8]>, FormatError> {
        let outside = || FormatError::OutOfSource {
            start: range.start,
            end: range.end,
            size: self.size(),
        };
        if range.start > range.end || range.end > self.size() {
            return Err(outside());
        }
        let bytes = self
            .0
            .read(range.start as f64, range.end as f64)
            .map_err(|thrown| FormatError::Io {
                reason: reason_of(&thrown),
            })?;
        if u64::from(bytes.length()) != range.end - range.start {
            return Err(outside());
        }
        Ok(Cow::Owned(bytes.to_vec()))
    }
}
