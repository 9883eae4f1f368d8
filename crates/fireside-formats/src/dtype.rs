//! The number formats a tensor can be stored in, and how many bytes each takes.

use std::fmt;

/// The number format of a tensor's elements.
///
/// The floating-point and quantized formats are weights: [`crate::dequantize`] turns them into f32.
/// The others ([`DType::is_weight`] is false) are carried so that a file which holds, say, an
/// integer buffer beside its weights can be opened and listed; asking for one as a weight is an
/// error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(
    non_camel_case_types,
    reason = "the names are those of the file formats"
)]
#[non_exhaustive]
pub enum DType {
    /// 32-bit float.
    F32,
    /// IEEE 16-bit float.
    F16,
    /// The upper half of a 32-bit float.
    BF16,
    /// 32 weights, 4 bits each, one f16 scale.
    Q4_0,
    /// 32 weights, 4 bits each, f16 scale and f16 minimum.
    Q4_1,
    /// 32 weights, 5 bits each, one f16 scale.
    Q5_0,
    /// 32 weights, 5 bits each, f16 scale and f16 minimum.
    Q5_1,
    /// 32 weights, 8 bits each, one f16 scale.
    Q8_0,
    /// 256 weights, 2 bits each; 4-bit scale and minimum per 16, times an f16 pair.
    Q2_K,
    /// 256 weights, 3 bits each; 6-bit scale per 16, times one f16.
    Q3_K,
    /// 256 weights, 4 bits each; 6-bit scale and minimum per 32, times an f16 pair.
    Q4_K,
    /// 256 weights, 5 bits each; 6-bit scale and minimum per 32, times an f16 pair.
    Q5_K,
    /// 256 weights, 6 bits each; 8-bit scale per 16, times one f16.
    Q6_K,
    /// 32 weights, 4 bits each that choose from 16 unevenly spaced values, one f16 scale.
    IQ4_NL,
    /// 256 weights as those of IQ4_NL; 6-bit scale per 32, times one f16.
    IQ4_XS,
    /// 32 weights, 4-bit floats, one scale that is a power of two.
    MXFP4,
    /// 32 weights, 4 bits each, f32 scale and f32 minimum: of no file, but what [`crate::Packed`]
    /// makes of a weight with zero points.
    Q4_F32,
    /// 8-bit signed integer; carried, not a weight.
    I8,
    /// 16-bit signed integer; carried, not a weight.
    I16,
    /// 32-bit signed integer; carried, not a weight.
    I32,
    /// 64-bit signed integer; carried, not a weight.
    I64,
    /// 8-bit unsigned integer; carried, not a weight.
    U8,
    /// 16-bit unsigned integer; carried, not a weight.
    U16,
    /// 32-bit unsigned integer; carried, not a weight.
    U32,
    /// 64-bit unsigned integer; carried, not a weight.
    U64,
    /// 64-bit float; carried, not a weight.
    F64,
    /// One byte, 0 or 1; carried, not a weight.
    Bool,
    /// 8-bit float with 4 exponent bits; carried, not a weight.
    F8_E4M3,
    /// 8-bit float with 5 exponent bits; carried, not a weight.
    F8_E5M2,
}

/// GGUF type ids that are readable here.
const GGUF_IDS: [(u32, DType); 21] = [
    (0, DType::F32),
    (1, DType::F16),
    (2, DType::Q4_0),
    (3, DType::Q4_1),
    (6, DType::Q5_0),
    (7, DType::Q5_1),
    (8, DType::Q8_0),
    (10, DType::Q2_K),
    (11, DType::Q3_K),
    (12, DType::Q4_K),
    (13, DType::Q5_K),
    (14, DType::Q6_K),
    (20, DType::IQ4_NL),
    (23, DType::IQ4_XS),
    (24, DType::I8),
    (25, DType::I16),
    (26, DType::I32),
    (27, DType::I64),
    (28, DType::F64),
    (30, DType::BF16),
    (39, DType::MXFP4),
];

/// GGUF type ids that have a name in ggml but no decoder here.
const GGUF_UNSUPPORTED: [(u32, &str); 21] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

const SAFETENSORS_NAMES: [(&str, DType); 15] = [
    ("F32", DType::F32),
    ("F16", DType::F16),
    ("BF16", DType::BF16),
    ("I8", DType::I8),
    ("I16", DType::I16),
    ("I32", DType::I32),
    ("I64", DType::I64),
    ("U8", DType::U8),
    ("U16", DType::U16),
    ("U32", DType::U32),
    ("U64", DType::U64),
    ("F64", DType::F64),
    ("BOOL", DType::Bool),
    ("F8_E4M3", DType::F8_E4M3),
    ("F8_E5M2", DType::F8_E5M2),
];

impl DType {
    /// Every format of files that [`crate::dequantize`] decodes.
    pub const WEIGHTS: [Self; 16] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2_K,
        Self::Q3_K,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
        Self::IQ4_NL,
        Self::IQ4_XS,
        Self::MXFP4,
    ];

    /// Elements per block: 1, 32 or 256. A row is a whole number of blocks.
    pub const fn block_len(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::IQ4_NL | Self::MXFP4 | Self::Q4_F32 => 32,
            Self::Q2_K | Self::Q3_K | Self::Q4_K | Self::Q5_K | Self::Q6_K | Self::IQ4_XS => 256,
            _ => 1,
        }
    }

    /// Bytes per block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool | Self::F8_E4M3 | Self::F8_E5M2 => 1,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2_K => 84,
            Self::Q3_K => 110,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
            Self::IQ4_NL => 18,
            Self::IQ4_XS => 136,
            Self::MXFP4 => 17,
            Self::Q4_F32 => 24,
        }
    }

    /// Bytes that `elements` elements take; `None` when they are no whole number of blocks or the
    /// number overflows.
    pub const fn bytes_for(self, elements: u64) -> Option<u64> {
        let block = self.block_len() as u64;
        if !elements.is_multiple_of(block) {
            return None;
        }
        (elements / block).checked_mul(self.block_bytes() as u64)
    }

    /// Whether this is one of the block-quantized formats (`Q…`).
    pub const fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// Whether a tensor of this format can be read as a weight.
    pub const fn is_weight(self) -> bool {
        self.is_quantized() || matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// The type id that GGUF uses for this format; `None` if GGUF has no such type.
    pub fn gguf_id(self) -> Option<u32> {
        let found = GGUF_IDS.iter().find(|(_, dtype)| *dtype == self);
        found.map(|(id, _)| *id)
    }

    /// The format with GGUF type id `id`; `None` if it is not readable here.
    pub fn from_gguf_id(id: u32) -> Option<Self> {
        let found = GGUF_IDS.iter().find(|(known, _)| *known == id);
        found.map(|(_, dtype)| *dtype)
    }

    /// The name ggml gives to a type id that is known but not readable here.
    pub(crate) fn unsupported_gguf_name(id: u32) -> Option<&'static str> {
        let found = GGUF_UNSUPPORTED.iter().find(|(known, _)| *known == id);
        found.map(|(_, name)| *name)
    }

    /// The format that a safetensors header calls `name`; `None` if it is not known here.
    pub fn from_safetensors_name(name: &str) -> Option<Self> {
        let found = SAFETENSORS_NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, dtype)| *dtype)
    }

    /// The name in the spelling of the file formats, such as `Q4_K` or `BF16`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2_K => "Q2_K",
            Self::Q3_K => "Q3_K",
            Self::Q4_K => "Q4_K",
            Self::Q5_K => "Q5_K",
            Self::Q6_K => "Q6_K",
            Self::IQ4_NL => "IQ4_NL",
            Self::IQ4_XS => "IQ4_XS",
            Self::MXFP4 => "MXFP4",
            Self::Q4_F32 => "Q4_F32",
            Self::I8 => "I8",
            Self::I16 => "I16",
            Self::I32 => "I32",
            Self::I64 => "I64",
            Self::U8 => "U8",
            Self::U16 => "U16",
            Self::U32 => "U32",
            Self::U64 => "U64",
            Self::F64 => "F64",
            Self::Bool => "BOOL",
            Self::F8_E4M3 => "F8_E4M3",
            Self::F8_E5M2 => "F8_E5M2",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gguf_ids_round_trip() {
        for (id, dtype) in GGUF_IDS {
            assert_eq!(DType::from_gguf_id(id), Some(dtype));
            assert_eq!(dtype.gguf_id(), Some(id));
            assert_eq!(DType::unsupported_gguf_name(id), None);
        }
        assert_eq!(DType::from_gguf_id(4), None);
    }

    #[test]
    fn every_weight_type_is_one() {
        assert!(DType::WEIGHTS.iter().all(|dtype| dtype.is_weight()));
        assert!(!DType::I64.is_weight());
    }

    #[test]
    fn byte_counts_follow_blocks() {
        assert_eq!(DType::Q4_0.bytes_for(64), Some(36));
        assert_eq!(DType::Q6_K.bytes_for(256), Some(210));
        assert_eq!(DType::Q4_0.bytes_for(33), None);
        assert_eq!(DType::F64.bytes_for(u64::MAX), None);
    }
}
