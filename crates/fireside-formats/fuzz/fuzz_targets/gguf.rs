//! Feeds bytes to the GGUF reader as a whole file and as a prefix, then reads all that it found.

#![no_main]

use fireside_formats::gguf::Value;
use fireside_formats::{FormatError, Gguf, TensorSource, WeightFile};
use libfuzzer_sys::fuzz_target;

fn walk(value: Value<'_>) {
    if let Value::Array(array) = value {
        assert_eq!(array.iter().map(walk).count(), array.len());
    }
}

fuzz_target!(|data: &[u8]| {
    let size = data.len() as u64;
    let (half, _) = data.split_at(data.len() / 2);
    if let Err(FormatError::NeedMoreBytes { needed, got }) = Gguf::parse(half, size) {
        assert!(needed > got && needed <= size);
    }
    let Ok(weights) = WeightFile::from_gguf("fuzz", data) else {
        return;
    };
    for tensor in weights.tensors() {
        let read = weights.read_f32(&tensor.name);
        assert_eq!(read.is_ok(), tensor.dtype.is_weight());
    }
    for (key, value) in weights.gguf().into_iter().flat_map(Gguf::metadata) {
        assert!(weights.gguf().is_some_and(|gguf| gguf.get(key).is_some()));
        walk(value);
    }
});
