//! Everything that can be wrong with a weight file, as one error with one-line messages.

use crate::DType;
use crate::table::shown;

/// Why a weight file or a tensor could not be read or written.
///
/// Each message is one line that says what is wrong, where, and what would be right. An error that
/// comes from opening a file is wrapped in [`FormatError::InFile`], which adds the file's name.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "each variant is documented and its message says what its fields mean"
)]
pub enum FormatError {
    /// Adds the name of the file to another error.
    #[error("{file}: {error}")]
    InFile {
        file: String,
        error: Box<FormatError>,
    },

    /// The prefix handed to a header parser ends inside the header. Call again with at least
    /// `needed` bytes; doubling the prefix keeps the number of calls small.
    #[error("the header needs at least the first {needed} bytes of the file, got {got}")]
    NeedMoreBytes { needed: u64, got: u64 },

    /// The file has no bytes.
    #[error("file is empty")]
    Empty,
    /// The operating system refused to open, read or map the file.
    #[error("cannot read file: {reason}")]
    Io { reason: String },
    /// A range beyond the end of a [`crate::ByteSource`] was asked for.
    #[error("cannot read bytes {start}..{end}: the source has {size}")]
    OutOfSource { start: u64, end: u64, size: u64 },
    /// The file ends before something that its header says is there.
    #[error("file is truncated: {place} needs {needed} bytes, the file has {size}")]
    Truncated {
        place: String,
        needed: u64,
        size: u64,
    },
    /// A GGUF header is larger than [`crate::gguf::MAX_HEADER_BYTES`].
    #[error("header is larger than {limit} bytes, the most that is accepted")]
    HeaderTooLarge { limit: u64 },
    /// A key, name or string value is not text.
    #[error("{place} is not valid UTF-8")]
    NotUtf8 { place: String },

    /// The file is neither GGUF nor safetensors.
    #[error("not a weights file: starts with {found}, expected GGUF or safetensors")]
    UnknownFormat { found: String },
    /// The file does not start with the four bytes `GGUF`.
    #[error("not a GGUF file: starts with {found}, expected 'GGUF'")]
    WrongMagic { found: String },
    /// The GGUF file was written for a big-endian machine.
    #[error("GGUF file is big-endian, only little-endian files can be read")]
    BigEndian,
    /// The GGUF version is neither 2 nor 3.
    #[error("GGUF version {version} cannot be read, expected 2 or 3")]
    UnsupportedVersion { version: u32 },
    /// The file is one of several parts of a model.
    #[error(
        "this is one part of a GGUF model in {parts} files: give all of them, named as in NAME-00001-of-{parts:05}.gguf"
    )]
    SplitGguf { parts: u64 },
    /// A list of the parts of a model is empty.
    #[error("no part of a GGUF model is given")]
    NoParts,
    /// A file among the parts of a model is not one.
    #[error("metadata key 'split.count' is missing: this is no part of a split GGUF model")]
    NotAPart,
    /// A part belongs to another model than the first one.
    #[error("{key} is {found}, expected {expected} as in {first}: the parts are of two models")]
    ForeignPart {
        key: &'static str,
        found: String,
        expected: String,
        first: String,
    },
    /// The number of a part is not below their count.
    #[error("split.no is {number}, expected 0 to split.count - 1, with a split.count of {count}")]
    PartNumber { number: u64, count: u64 },
    /// A part is there twice.
    #[error("this is part {part} of {count}, as {first} is too")]
    DuplicatePart {
        part: u64,
        count: u64,
        first: String,
    },
    /// A part is not there.
    #[error("part {part} of {count} of the GGUF model is missing")]
    MissingPart { part: u64, count: u64 },
    /// The parts have another number of tensors than they say.
    #[error("the parts have {found} tensors together, split.tensors.count says {expected}")]
    PartTensors { found: u64, expected: u64 },
    /// A count in the header is larger than the file or a fixed limit allows.
    #[error("header claims {count} {what}, at most {limit} fit here")]
    CountTooLarge {
        what: &'static str,
        count: u64,
        limit: u64,
    },
    /// A metadata array is longer than the file.
    #[error("{place} claims an array of {count} elements, more than the file can hold")]
    ArrayTooLarge { place: String, count: u64 },
    /// Metadata arrays are nested too deep.
    #[error("{place} nests arrays deeper than {limit} levels")]
    NestedTooDeep { place: String, limit: u32 },
    /// A metadata value has a type id that GGUF does not define.
    #[error("{place} has unknown value type {id}, expected 0 to 12")]
    UnknownValueType { place: String, id: u32 },
    /// A metadata boolean is neither 0 nor 1.
    #[error("{place} has a boolean of value {byte}, expected 0 or 1")]
    BadBool { place: String, byte: u8 },
    /// Two metadata entries have the same key.
    #[error("duplicate metadata key '{key}'")]
    DuplicateKey { key: String },
    /// The alignment of tensor data is zero or no power of two.
    #[error("general.alignment is {alignment}, expected a power of two")]
    BadAlignment { alignment: u64 },

    /// A metadata key that was asked for is not there.
    #[error("metadata key '{key}' is missing")]
    MissingKey { key: String },
    /// A metadata value is not of the type that was asked for, or does not fit it.
    #[error("metadata key '{key}' is {found}, expected {expected}")]
    WrongType {
        key: String,
        found: String,
        expected: &'static str,
    },

    /// Two tensors have the same name.
    #[error("duplicate tensor '{tensor}'")]
    DuplicateTensor { tensor: String },
    /// A tensor has more dimensions than the format or this reader accepts.
    #[error("tensor '{tensor}' has {dims} dimensions, at most {limit} are accepted")]
    TooManyDims {
        tensor: String,
        dims: u64,
        limit: u64,
    },
    /// The size of a tensor does not fit the address space.
    #[error("tensor '{tensor}' has dimensions {dims:?}, whose size overflows")]
    SizeOverflow { tensor: String, dims: Vec<u64> },
    /// The rows of a quantized tensor are no whole number of blocks.
    #[error(
        "tensor '{tensor}' has rows of {row} elements, not a multiple of the {block} of a {dtype} block"
    )]
    RowNotBlocks {
        tensor: String,
        row: u64,
        block: usize,
        dtype: DType,
    },
    /// A tensor has a type that has no name here.
    #[error(
        "tensor '{tensor}' has unknown type {id}, expected one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, IQ4_NL, IQ4_XS, MXFP4"
    )]
    UnknownType { tensor: String, id: String },
    /// A tensor has a type that is known by name and cannot be decoded.
    #[error(
        "tensor '{tensor}' has type {name}, which is not supported, expected one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, IQ4_NL, IQ4_XS, MXFP4"
    )]
    UnsupportedType { tensor: String, name: &'static str },
    /// A tensor of integers (or another carried type) was asked for as a weight.
    #[error(
        "tensor '{tensor}' has type {dtype}, which is not a weight, expected F32, F16, BF16 or a quantized type"
    )]
    NotAWeight { tensor: String, dtype: DType },
    /// A tensor does not start at a multiple of the alignment.
    #[error(
        "tensor '{tensor}' starts at offset {offset}, not a multiple of the alignment {alignment}"
    )]
    Unaligned {
        tensor: String,
        offset: u64,
        alignment: u64,
    },
    /// A tensor reaches beyond the end of the file.
    #[error(
        "tensor '{tensor}' lies outside the file: needs bytes up to {end}, the file has {size}"
    )]
    TensorOutOfFile { tensor: String, end: u64, size: u64 },
    /// Two tensors share bytes.
    #[error("tensors '{first}' and '{second}' overlap")]
    Overlap { first: String, second: String },
    /// No tensor has the name that was asked for.
    #[error("tensor '{tensor}' is missing")]
    MissingTensor { tensor: String },

    /// The tensors that make up one weight contradict each other.
    #[error("packed tensor '{tensor}' cannot be read: {reason}")]
    BadPacked { tensor: String, reason: String },
    /// A `quantization_config` that is not known here.
    #[error("quantization_config.{field} is {found}, expected {expected}")]
    BadQuantization {
        field: &'static str,
        found: String,
        expected: &'static str,
    },

    /// The header length of a safetensors file is larger than the file.
    #[error("safetensors header claims {claimed} bytes, the file has {size}")]
    HeaderOutOfFile { claimed: u64, size: u64 },
    /// A safetensors header is larger than [`crate::safetensors::MAX_HEADER_BYTES`].
    #[error("safetensors header of {claimed} bytes is larger than the {limit} that are accepted")]
    SafetensorsHeaderTooLarge { claimed: u64, limit: u64 },
    /// A safetensors header is not the JSON it should be.
    #[error("safetensors header is not valid: {reason}")]
    BadHeader { reason: String },
    /// A tensor ends before it starts.
    #[error("tensor '{tensor}' has data offsets {start} to {end}, which run backwards")]
    BackwardOffsets {
        tensor: String,
        start: u64,
        end: u64,
    },
    /// A tensor's shape and type need another number of bytes than its offsets span.
    #[error(
        "tensor '{tensor}' of shape {shape:?} and type {dtype} takes {expected} bytes, its data offsets span {found}"
    )]
    SizeMismatch {
        tensor: String,
        shape: Vec<u64>,
        dtype: DType,
        expected: u64,
        found: u64,
    },

    /// The index of a sharded model is not the JSON it should be.
    #[error("not a safetensors index: {reason}")]
    BadIndex { reason: String },
    /// A folder holds no weights.
    #[error("no *.safetensors file in this folder")]
    NoWeights,
    /// A shard that the index names is not there.
    #[error("shard '{shard}' is missing, model.safetensors.index.json names it")]
    MissingShard { shard: String },
    /// A shard lacks a tensor that the index places in it.
    #[error("shard '{shard}' has no tensor '{tensor}', model.safetensors.index.json says it has")]
    NotInShard { shard: String, tensor: String },
    /// The index names a shard by a path that would leave the folder.
    #[error("shard name '{shard}' is not a plain file name")]
    BadShardName { shard: String },
    /// A side file, such as the index, is larger than the limit.
    #[error("file of {size} bytes is larger than the {limit} that are accepted")]
    FileTooLarge { size: u64, limit: u64 },

    /// Data of a type that is not a weight was handed to the decoder.
    #[error("{dtype} cannot be decoded to f32, expected F32, F16, BF16 or a quantized type")]
    NotDecodable { dtype: DType },
    /// Data of a type without blocks was handed to the unpacker.
    #[error("{dtype} has no blocks to unpack, expected a quantized type")]
    NotQuantized { dtype: DType },
    /// Data is not a whole number of blocks.
    #[error("{bytes} bytes are not a whole number of {dtype} blocks of {block} bytes")]
    PartialBlock {
        dtype: DType,
        bytes: usize,
        block: usize,
    },
    /// Data and output have different numbers of elements.
    #[error("{dtype} data of {elements} elements does not fill an output of {out}")]
    OutputLength {
        dtype: DType,
        elements: usize,
        out: usize,
    },

    /// A type that values cannot be turned into was asked for.
    #[error("{dtype} cannot be made of f32, expected F32, F16, Q8_0, Q4_0 or Q4_1")]
    NotEncodable { dtype: DType },
    /// Values are not a whole number of blocks.
    #[error("{elements} values are not a whole number of {dtype} blocks of {block}")]
    PartialValues {
        dtype: DType,
        elements: usize,
        block: usize,
    },
    /// A value is not finite, or is too large for the 16-bit floats of a type.
    #[error("value {value} cannot be stored as {dtype}, expected finite values within its range")]
    ValueOutOfRange { dtype: DType, value: f32 },
    /// A tensor could not be quantized.
    #[error("tensor '{tensor}' cannot be quantized: {error}")]
    NotQuantizable {
        tensor: String,
        error: Box<FormatError>,
    },

    /// The output could not be written.
    #[error("cannot write file: {reason}")]
    Write { reason: String },
    /// A value or tensor breaks a rule of the GGUF format.
    #[error("{what} cannot be written to GGUF: {reason}")]
    NotWritable { what: String, reason: String },
}

impl FormatError {
    /// Wraps the error with the name of the file it came from.
    pub(crate) fn in_file(self, file: &str) -> Self {
        Self::InFile {
            file: file.to_owned(),
            error: Box::new(self),
        }
    }

    /// Says which tensor the error of [`crate::quantize`] is about.
    #[must_use]
    pub fn of_tensor(self, tensor: &str) -> Self {
        Self::NotQuantizable {
            tensor: shown(tensor),
            error: Box::new(self),
        }
    }

    /// The error itself, without the name of the file.
    pub fn without_file(&self) -> &Self {
        match self {
            Self::InFile { error, .. } => error.without_file(),
            other => other,
        }
    }
}
