//! Where the bytes of a file come from, and what a model loader sees of a weight file.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::{FormatError, TensorInfo, dequantize};

/// The bytes of one file, readable at any place: a memory mapping, a buffer, a file handle of a
/// browser.
pub trait ByteSource {
    /// Length of the file in bytes.
    fn size(&self) -> u64;

    /// The bytes of `range`, borrowed where the source has them in memory.
    ///
    /// # Errors
    ///
    /// [`FormatError::OutOfSource`] if the range reaches beyond the end, and whatever reading can
    /// fail with.
    fn bytes(&self, range: Range<u64>) -> Result<Cow<'_, [u8]>, FormatError>;

    /// Says that `range` is not needed soon, so that the source may drop what it keeps of it in
    /// memory. Reading the range again stays possible.
    fn release(&self, range: Range<u64>) {
        let _ = range;
    }
}

/// The bytes of `range` in a buffer that is the whole file.
pub(crate) fn slice(whole: &[u8], range: Range<u64>) -> Result<&[u8], FormatError> {
    let start = usize::try_from(range.start).ok();
    let end = usize::try_from(range.end).ok();
    let found = start
        .zip(end)
        .and_then(|(start, end)| whole.get(start..end));
    found.ok_or(FormatError::OutOfSource {
        start: range.start,
        end: range.end,
        size: whole.len() as u64,
    })
}

macro_rules! in_memory {
    ($($ty:ty),*) => {$(
        impl ByteSource for $ty {
            fn size(&self) -> u64 {
                self.len() as u64
            }

            fn bytes(&self, range: Range<u64>) -> Result<Cow<'_, [u8]>, FormatError> {
                slice(self, range).map(Cow::Borrowed)
            }
        }
    )*};
}

in_memory!(Vec<u8>, Arc<[u8]>, &[u8]);

/// Tensors by name, whatever file format holds them. This is what a model loader takes.
pub trait TensorSource {
    /// Every tensor, in the order of the file or files; carried types included.
    fn tensors(&self) -> &[TensorInfo];

    /// The description of a tensor that is to be read as a weight.
    ///
    /// # Errors
    ///
    /// [`FormatError::MissingTensor`] if there is none of that name, [`FormatError::NotAWeight`] if
    /// it holds integers or another carried type.
    fn get(&self, name: &str) -> Result<&TensorInfo, FormatError>;

    /// The bytes of one tensor as they are in the file.
    ///
    /// # Errors
    ///
    /// Those of [`TensorSource::get`] and of the [`ByteSource`] underneath.
    fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>, FormatError>;

    /// The description of a tensor of any type, carried ones included.
    fn find(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors().iter().find(|info| info.name == name)
    }

    /// The bytes of a tensor of any type, carried ones included.
    ///
    /// # Errors
    ///
    /// [`FormatError::MissingTensor`], and those of the [`ByteSource`] underneath.
    fn raw(&self, name: &str) -> Result<Cow<'_, [u8]>, FormatError> {
        self.bytes(name)
    }

    /// Says that a tensor is not needed soon; see [`ByteSource::release`]. Called after each tensor,
    /// it keeps the resident memory near one tensor while a file is streamed through.
    fn release(&self, name: &str);

    /// The names of every tensor, in the order of the file or files.
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.tensors().iter().map(|tensor| tensor.name.as_str()))
    }

    /// Whether there is a tensor of that name.
    fn contains(&self, name: &str) -> bool {
        !matches!(self.get(name), Err(FormatError::MissingTensor { .. }))
    }

    /// One tensor decoded to f32, row-major.
    ///
    /// # Errors
    ///
    /// Those of [`TensorSource::bytes`].
    fn read_f32(&self, name: &str) -> Result<Vec<f32>, FormatError> {
        let info = self.get(name)?;
        let bytes = self.bytes(name)?;
        let mut out = vec![0.0; info.elements()];
        dequantize(info.dtype, &bytes, &mut out)?;
        Ok(out)
    }
}
