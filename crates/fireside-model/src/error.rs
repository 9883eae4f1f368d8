//! What can be wrong with a model, or go wrong while it runs.

use fireside_formats::{DType, FormatError};
use fireside_kernels::device::DeviceError;

/// An error of loading or running a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The weights cannot be read.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The tokenizer or the chat template is broken.
    #[error(transparent)]
    Tokenizer(#[from] fireside_tokenizer::Error),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A file of the model folder cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// A JSON file of the model folder is broken.
    #[error("{file} is not valid: {reason}")]
    Json {
        /// The file's name.
        file: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// The config lacks a field.
    #[error("config.json has no {field:?}, it is needed")]
    ConfigMissing {
        /// The field.
        field: &'static str,
    },
    /// A field of the config has a wrong value.
    #[error("{field} is {found}, it must be {wanted}")]
    ConfigField {
        /// The field.
        field: String,
        /// Its value.
        found: String,
        /// What would do.
        wanted: &'static str,
    },
    /// Sizes of the config contradict each other.
    #[error("the model's sizes are wrong: {what}")]
    Contradiction {
        /// Which, and what would be right.
        what: String,
    },
    /// No family of that name.
    #[error("unknown architecture {found:?}: the known ones are {known}")]
    UnknownArchitecture {
        /// The name in the file.
        found: String,
        /// The known names.
        known: String,
    },
    /// A tensor has another shape than the config says.
    #[error("tensor {tensor:?} has shape {found:?}, the config makes it {expected:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape that fits.
        expected: Vec<usize>,
    },
    /// A model of whose weights none can be quantized was to be.
    #[error(
        "nothing to quantize to {to}: the weights are {found}; expected F32, F16 or BF16 in rows of whole blocks"
    )]
    NothingToQuantize {
        /// The type asked for.
        to: DType,
        /// The types of its projections, embedding and head.
        found: String,
    },
    /// A layer of experts has nothing to choose them.
    #[error("layer {layer} has experts and no router: there is no tensor {tensor:?}")]
    NoRouter {
        /// The layer.
        layer: usize,
        /// What the router would be called.
        tensor: String,
    },
    /// The file norms query or key heads, which models of its family do not do here.
    #[error(
        "tensor {tensor:?} norms heads, which is not supported in {family} models: choose a model without it"
    )]
    HeadNorms {
        /// The family's name.
        family: &'static str,
        /// The tensor.
        tensor: String,
    },
    /// The tokenizer and the weights disagree.
    #[error(
        "the tokenizer has {tokenizer} tokens, the model's vocabulary only {model}: they do not belong together"
    )]
    Vocabulary {
        /// Tokens of the tokenizer.
        tokenizer: usize,
        /// Rows of the embedding table.
        model: usize,
    },
    /// The adapter cannot hold the model.
    #[error(
        "the adapter is too small for this model: {what} needs {needs} bytes in one binding, it allows {allows}; choose a smaller context, or another device"
    )]
    AdapterTooSmall {
        /// What does not fit.
        what: String,
        /// Bytes it takes.
        needs: u64,
        /// Bytes a binding may have.
        allows: u64,
    },
    /// The host has too little memory for a KV cache.
    #[error(
        "a kv cache of {positions} positions needs {needs} bytes and the host has at most {available} left; choose at most {fits} positions, or free memory"
    )]
    OutOfMemory {
        /// Positions asked for.
        positions: usize,
        /// Bytes they take.
        needs: u64,
        /// Bytes there are, or fewer.
        available: u64,
        /// Positions that fit.
        fits: u64,
    },
    /// A tensor of a LoRA adapter has another shape than the model makes it.
    #[error(
        "tensor {tensor:?} of the LoRA adapter has shape {found:?}, for this model it would be {expected:?}: {base}"
    )]
    LoraShape {
        /// The tensor.
        tensor: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape that fits.
        expected: Vec<usize>,
        /// The model that it is for.
        base: String,
    },
    /// A LoRA adapter adapts what this model does not have, or what cannot be adapted.
    #[error(
        "tensor {tensor:?} of the LoRA adapter fits nothing in this model: adapted are attention and dense feed-forward projections of its {layers} layers; {base}"
    )]
    LoraTensor {
        /// The tensor.
        tensor: String,
        /// Layers of the model.
        layers: usize,
        /// The model that it is for.
        base: String,
    },
    /// A LoRA adapter has values that are not numbers.
    #[error("tensor {tensor:?} of the LoRA adapter has the value {value}: the adapter is broken")]
    LoraBroken {
        /// The tensor.
        tensor: String,
        /// The value.
        value: f32,
    },
    /// A LoRA adapter without tensors.
    #[error("the LoRA adapter has no tensors; {base}")]
    LoraEmpty {
        /// The model that it is for.
        base: String,
    },
    /// A step that no engine should build.
    #[error("invalid step: {what}")]
    Step {
        /// What is wrong.
        what: String,
    },
}
