//! Builders for files that no writer would write.

/// Bytes put one after another, little-endian.
#[derive(Default, Clone)]
pub(crate) struct Raw(pub(crate) Vec<u8>);

impl Raw {
    pub(crate) fn gguf(version: u32, tensors: u64, entries: u64) -> Self {
        Self(b"GGUF".to_vec())
            .u32(version)
            .u64(tensors)
            .u64(entries)
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn string(self, text: &str) -> Self {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    /// One entry of the tensor table, dimensions innermost first.
    pub(crate) fn tensor(self, name: &str, dims: &[u64], ty: u32, offset: u64) -> Self {
        let start = self.string(name).u32(dims.len() as u32);
        dims.iter()
            .fold(start, |raw, dim| raw.u64(*dim))
            .u32(ty)
            .u64(offset)
    }

    /// Fills up to a multiple of 32 and adds `len` bytes of tensor data.
    pub(crate) fn data(mut self, len: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + len, 0);
        self
    }
}

/// A safetensors file with this header and `len` bytes of data.
pub(crate) fn safetensors(json: &str, len: usize) -> Vec<u8> {
    let mut file = Raw::default()
        .u64(json.len() as u64)
        .bytes(json.as_bytes())
        .0;
    file.resize(file.len() + len, 0);
    file
}
