//! Reads weight files, GGUF and safetensors alike, and decodes their number formats exactly.
//!
//! A file is opened as a [`WeightFile`]: a table of tensors (name, shape, [`DType`], place in the
//! file) over a [`ByteSource`] that yields the bytes. Natively the source is a memory mapping
//! (`WeightFile::open`); in memory and in WebAssembly it is any `Vec<u8>` or `Arc<[u8]>`. A model
//! loader takes `&dyn` [`TensorSource`] and does not learn which of the formats it reads.
//!
//! Every count, length, dimension and offset of a file is checked before anything is allocated for
//! it. A broken file is a [`FormatError`] with a one-line message, never a panic.
//!
//! ```
//! use fireside_formats::{DType, TensorSource, WeightFile, write::GgufWriter};
//!
//! let mut writer = GgufWriter::new();
//! writer.metadata("general.architecture", "llama")?;
//! writer.tensor("norm.weight", &[2], DType::F32)?;
//! let file = writer.to_bytes(&[&[0, 0, 128, 63, 0, 0, 0, 64]])?;
//!
//! let weights = WeightFile::from_gguf("tiny.gguf", file)?;
//! assert_eq!(weights.get("norm.weight")?.shape, [2]);
//! assert_eq!(weights.read_f32("norm.weight")?, [1.0, 2.0]);
//! # Ok::<(), fireside_formats::FormatError>(())
//! ```

mod dtype;
mod error;
pub mod gguf;
mod packed;
mod quant;
pub mod safetensors;
mod source;
mod table;
mod weights;
pub mod write;

#[cfg(not(target_arch = "wasm32"))]
mod folder;
#[cfg(not(target_arch = "wasm32"))]
mod mapping;

pub use dtype::DType;
pub use error::FormatError;
pub use gguf::{Gguf, SplitName};
#[cfg(not(target_arch = "wasm32"))]
pub use mapping::Mapping;
pub use packed::{Packed, Scheme};
pub use quant::{
    Block32, F16Fit, Plane, QuantTraits, dequantize, quant_traits, quantize, unpack_row,
};
pub use safetensors::Safetensors;
pub use source::{ByteSource, TensorSource};
pub use table::TensorInfo;
pub use weights::WeightFile;
