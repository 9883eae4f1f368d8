//! Weights that a quantizer has spread over several tensors, given out as one each: checkpoints in
//! GPTQ's, AWQ's and 8-bit floats' form.
//!
//! Integers and their scales keep their values: they become blocks of 32 whose scale and minimum are
//! exact. Only 8-bit floats times their scale are rounded, to 16-bit floats.

mod fp8;
mod int4;
mod scheme;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

pub use scheme::Scheme;

use crate::table::shown;
use crate::{DType, FormatError, TensorInfo, TensorSource};

/// A weight in a tensor's place, and how its bytes are made.
#[derive(Debug)]
enum Whole {
    /// `BASE.qweight` with `BASE.qzeros` and `BASE.scales`.
    Integers(int4::Shape),
    /// A tensor of 8-bit floats and the name of its scales.
    Floats { tensor: String, scale: String },
}

/// A checkpoint whose packed weights look like those of any other: `BASE.weight`, as `[out, in]`.
pub struct Packed<'a> {
    source: &'a dyn TensorSource,
    tensors: Vec<TensorInfo>,
    /// Packed weights by name: where `tensors` has them, and how they are made.
    whole: BTreeMap<String, (usize, Whole)>,
}

impl<'a> Packed<'a> {
    /// Looks for packed weights in a source.
    ///
    /// # Errors
    ///
    /// [`FormatError::BadPacked`] where the tensors of a weight contradict each other or the scheme,
    /// [`FormatError::MissingTensor`] where one is not there.
    pub fn new(source: &'a dyn TensorSource, scheme: &Scheme) -> Result<Self, FormatError> {
        let mut tensors = Vec::new();
        let mut whole = BTreeMap::new();
        for info in source.tensors() {
            let found = match scheme {
                Scheme::Gptq { .. } | Scheme::Awq { .. } => int4::Shape::of(source, info, scheme)?
                    .map(|shape| (shape.described(info), Whole::Integers(shape))),
                Scheme::Fp8 => fp8::described(source, info)?.map(|(described, scale)| {
                    let tensor = info.name.clone();
                    (described, Whole::Floats { tensor, scale })
                }),
            };
            let Some((described, made)) = found else {
                tensors.push(info.clone());
                continue;
            };
            if source.contains(&described.name) && described.name != info.name {
                return Err(FormatError::DuplicateTensor {
                    tensor: shown(&described.name),
                });
            }
            whole.insert(described.name.clone(), (tensors.len(), made));
            tensors.push(described);
        }
        Ok(Self {
            source,
            tensors,
            whole,
        })
    }
}

impl fmt::Debug for Packed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed")
            .field("tensors", &self.tensors)
            .finish_non_exhaustive()
    }
}

impl TensorSource for Packed<'_> {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn get(&self, name: &str) -> Result<&TensorInfo, FormatError> {
        let own = self.whole.get(name);
        match own.and_then(|(index, _)| self.tensors.get(*index)) {
            Some(info) => Ok(info),
            None => self.source.get(name),
        }
    }

    fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>, FormatError> {
        let Some((_, whole)) = self.whole.get(name) else {
            return self.source.bytes(name);
        };
        let bytes = match whole {
            Whole::Integers(shape) => shape.blocks(self.source)?,
            Whole::Floats { tensor, scale } => fp8::halves(self.source, tensor, scale)?,
        };
        Ok(Cow::Owned(bytes))
    }

    fn release(&self, name: &str) {
        match self.whole.get(name) {
            None => self.source.release(name),
            Some((_, Whole::Integers(shape))) => shape.release(self.source),
            Some((_, Whole::Floats { tensor, .. })) => self.source.release(tensor),
        }
    }
}

/// The description of a tensor of any type.
fn find<'s>(source: &'s dyn TensorSource, name: &str) -> Result<&'s TensorInfo, FormatError> {
    source.find(name).ok_or_else(|| FormatError::MissingTensor {
        tensor: shown(name),
    })
}

fn bad(tensor: &str, reason: impl Into<String>) -> FormatError {
    FormatError::BadPacked {
        tensor: shown(tensor),
        reason: reason.into(),
    }
}

/// A tensor's values, where it is a small one of floats: scales.
fn floats(source: &dyn TensorSource, name: &str) -> Result<Vec<f32>, FormatError> {
    let info = find(source, name)?;
    if !matches!(info.dtype, DType::F16 | DType::BF16 | DType::F32) {
        let dtype = info.dtype;
        return Err(bad(
            name,
            format!("it has type {dtype}; expected F16, BF16 or F32"),
        ));
    }
    source.read_f32(name)
}
