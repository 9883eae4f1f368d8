//! A file mapped into memory, so that only the parts being read take up memory.

use std::borrow::Cow;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use crate::source::slice;
use crate::{ByteSource, FormatError};

/// A read-only memory mapping of a whole file; clones share it. Native only.
///
/// The file must not be changed while it is mapped. Replacing it by a rename, as downloaders and
/// editors do, is fine: the mapping keeps the old file. Writing into it in place makes later reads
/// return other bytes; the table of tensors was checked when the file was opened and stays as it
/// was, so the damage is wrong weights. Cutting it short makes reads of the lost part end the
/// process with a bus error.
#[derive(Debug, Clone)]
pub struct Mapping {
    map: Arc<Mmap>,
}

impl Mapping {
    /// Maps the file at `path`.
    ///
    /// # Errors
    ///
    /// [`FormatError::Empty`] for a file without bytes, [`FormatError::Io`] if it is not a regular
    /// file or the operating system refuses.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let io = |error: std::io::Error| FormatError::Io {
            reason: error.to_string(),
        };
        let metadata = std::fs::metadata(path).map_err(io)?;
        if !metadata.is_file() {
            return Err(FormatError::Io {
                reason: "not a regular file".to_owned(),
            });
        }
        if metadata.len() == 0 {
            return Err(FormatError::Empty);
        }
        let file = File::open(path).map_err(io)?;
        // SAFETY: The mapping is read-only and private to this type, which hands out shared slices
        // of bytes only, for which every bit pattern is valid. What remains is that another process
        // changes the file, which no program can rule out: reads then see the new bytes. All
        // decisions that guard memory are made on values that were copied out of the mapping
        // (headers are parsed into owned tables, ranges are checked against the length of the
        // mapping, which is fixed), so changed bytes are wrong data and never a wrong access. If
        // the file is cut short, touching the missing pages raises SIGBUS, which ends the process.
        // The type's documentation puts the duty not to do so on the user.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self { map: Arc::new(map) })
    }
}

impl ByteSource for Mapping {
    fn size(&self) -> u64 {
        self.map.len() as u64
    }

    fn bytes(&self, range: Range<u64>) -> Result<Cow<'_, [u8]>, FormatError> {
        slice(&self.map, range).map(Cow::Borrowed)
    }

    /// Drops the pages that hold `range` from the process. They are clean, so the next read fetches
    /// them from the file again. Where the operating system has no such call, nothing happens.
    fn release(&self, range: Range<u64>) {
        #[cfg(unix)]
        if let Ok(bytes) = slice(&self.map, range.clone())
            && !bytes.is_empty()
            && let Ok(start) = usize::try_from(range.start)
        {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: The range lies inside the mapping. The mapping is shared and read-only and
            // its pages are backed by the file, so that dropping them loses nothing: slices stay
            // valid, and reading them again returns the same bytes of the file.
            let advised = unsafe { self.map.unchecked_advise_range(advice, start, bytes.len()) };
            // It is a hint: if it fails, the pages stay.
            drop(advised);
        }
        #[cfg(not(unix))]
        drop(range);
    }
}
