//! Writes a GGUF model again with smaller weights, a tensor at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use fireside_formats::write::{GgufWriter, MetaValue};
use fireside_formats::{
    ByteSource, DType, TensorInfo, TensorSource, WeightFile, dequantize, quantize,
};

use crate::config::DecoderConfig;
use crate::error::ModelError;
use crate::family::Naming;
use crate::quantize::{PROJECTIONS, TABLES, quantized};

/// The version of ggml's block formats, which have not changed since.
const QUANTIZATION_VERSION: u32 = 2;

/// What [`export`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exported {
    /// Tensors whose type is another one now.
    pub changed: usize,
    /// Tensors that were copied.
    pub copied: usize,
    /// Bytes of all tensors before.
    pub bytes_before: u64,
    /// Bytes of all tensors now.
    pub bytes: u64,
}

/// Writes a GGUF model to `out` with its float weights as `to`, one of F16, Q8_0, Q4_0 and Q4_1; the
/// embedding and the head become Q8_0 where `to` is a 4-bit type.
///
/// Norms, biases, tensors that are quantized, and rows that are no whole number of blocks are copied, as is
/// all metadata but the type of the file and what says that it is one part of several. Of the weights, one
/// tensor is held at a time.
///
/// # Errors
///
/// A file that is not GGUF or of no known architecture, one without float weights to change
/// ([`ModelError::NothingToQuantize`]), values that `to` cannot hold, and an output that fails.
pub fn export<S: ByteSource>(
    file: &WeightFile<S>,
    to: DType,
    out: impl Write,
) -> Result<Exported, ModelError> {
    let gguf = file.gguf().ok_or_else(|| ModelError::Contradiction {
        what: "the file is not a gguf file".into(),
    })?;
    let targets = targets(&DecoderConfig::from_gguf(gguf)?, to);
    let target = |info: &TensorInfo| {
        let wanted = targets.get(&info.name).copied().unwrap_or(info.dtype);
        let row = info.shape.last().copied().unwrap_or(1);
        let float = info.dtype.is_weight() && !info.dtype.is_quantized();
        if float && row.is_multiple_of(wanted.block_len()) && wanted != info.dtype {
            wanted
        } else {
            info.dtype
        }
    };
    let mut writer = GgufWriter::new();
    let own = [
        ("general.file_type", file_type(to)),
        ("general.quantization_version", QUANTIZATION_VERSION),
    ];
    for (key, value) in gguf.metadata() {
        let replaced = own.iter().any(|(own, _)| *own == key);
        if !replaced && !key.starts_with("split.") {
            writer.metadata(key, MetaValue::from(value))?;
        }
    }
    for (key, value) in own {
        writer.metadata(key, value)?;
    }
    let mut exported = Exported::default();
    for info in file.tensors() {
        let dtype = target(info);
        writer.tensor(&info.name, &info.shape, dtype)?;
        *if dtype == info.dtype {
            &mut exported.copied
        } else {
            &mut exported.changed
        } += 1;
        exported.bytes_before += info.byte_len();
        exported.bytes += dtype.bytes_for(info.elements() as u64).unwrap_or_default();
    }
    if exported.changed == 0 {
        let own = file.tensors().iter();
        let own = own.filter(|info| targets.contains_key(&info.name));
        let types: BTreeSet<&str> = own.map(|info| info.dtype.name()).collect();
        return Err(ModelError::NothingToQuantize {
            to,
            found: Vec::from_iter(types).join(", "),
        });
    }
    let mut data = writer.start(out)?;
    for info in file.tensors() {
        let bytes = file.raw(&info.name)?;
        let dtype = target(info);
        if dtype == info.dtype {
            data.tensor(&bytes)?;
        } else {
            data.tensor(&converted(info, &bytes, dtype)?)?;
        }
        file.release(&info.name);
    }
    data.finish()?;
    Ok(exported)
}

/// The types that weights are to have, by name, whether they are there or not.
fn targets(config: &DecoderConfig, to: DType) -> BTreeMap<String, DType> {
    let layers = PROJECTIONS
        .into_iter()
        .flat_map(|part| (0..config.layers).map(move |layer| (part, layer)));
    let tables = TABLES.into_iter().map(|part| (part, 0));
    let mut targets = BTreeMap::new();
    for (part, layer) in layers.chain(tables) {
        if let Some(dtype) = quantized(part, to) {
            let names = Naming::Gguf.tensors(config.family, part, layer, "weight");
            targets.extend(names.into_iter().map(|name| (name, dtype)));
        }
    }
    targets
}

/// The file type of llama.cpp for a model of mostly this type.
fn file_type(to: DType) -> u32 {
    match to {
        DType::F16 => 1,
        DType::Q4_0 => 2,
        DType::Q4_1 => 3,
        DType::Q8_0 => 7,
        // All floats of 32 bits.
        _ => 0,
    }
}

/// The rows of a tensor in another type.
fn converted(info: &TensorInfo, bytes: &[u8], to: DType) -> Result<Vec<u8>, ModelError> {
    let width = info.shape.last().copied().unwrap_or(1);
    let row_bytes = info.dtype.bytes_for(width as u64).unwrap_or_default();
    let row_bytes = usize::try_from(row_bytes).unwrap_or_default().max(1);
    let mut values = vec![0.0; width];
    let size = to.bytes_for(info.elements() as u64).unwrap_or_default();
    let mut out = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    for row in bytes.chunks_exact(row_bytes) {
        dequantize(info.dtype, row, &mut values)?;
        quantize(to, &values, &mut out).map_err(|error| error.of_tensor(&info.name))?;
    }
    Ok(out)
}
