//! Feeds bytes to the safetensors reader as a whole file and as a prefix, then reads all tensors.

#![no_main]

use fireside_formats::{FormatError, Safetensors, TensorSource, WeightFile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let size = data.len() as u64;
    let (half, _) = data.split_at(data.len() / 2);
    if let Err(FormatError::NeedMoreBytes { needed, got }) = Safetensors::parse(half, size) {
        assert!(needed > got && needed <= size);
    }
    let files = [("fuzz".to_owned(), data)];
    let Ok(weights) = WeightFile::from_safetensors(files) else {
        return;
    };
    for tensor in weights.tensors() {
        let read = weights.read_f32(&tensor.name);
        assert_eq!(read.is_ok(), tensor.dtype.is_weight());
    }
});
