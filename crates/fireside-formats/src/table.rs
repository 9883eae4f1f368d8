//! The description of one tensor, and the checks that hold for a table of them in any format.

use std::ops::Range;

use crate::{DType, FormatError};

/// One tensor of a weight file: its name, shape, format and place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name in the file.
    pub name: String,
    /// Row-major dimensions, outermost first, as PyTorch prints them. (GGUF stores them innermost
    /// first; they are reversed on reading.) A linear layer's weight is `[out, in]`.
    pub shape: Vec<usize>,
    /// The format of the elements.
    pub dtype: DType,
    /// Which file of a sharded model holds the tensor, counted from 0.
    pub shard: usize,
    /// Where the tensor's bytes lie in that file.
    pub range: Range<u64>,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        // The product was checked against overflow when the table was read.
        self.shape.iter().product()
    }

    /// Number of bytes in the file.
    pub fn byte_len(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }
}

/// The shape in the address space's integers; `None` if the number of elements does not fit an
/// `isize`, or a zero hides a product that would not.
pub(crate) fn row_major<'a>(dims: impl Iterator<Item = &'a u64>) -> Option<Vec<usize>> {
    let shape: Vec<usize> = dims
        .map(|dim| usize::try_from(*dim).ok())
        .collect::<Option<_>>()?;
    let product = shape
        .iter()
        .try_fold(1_usize, |n, dim| n.checked_mul((*dim).max(1)))?;
    isize::try_from(product).ok()?;
    Some(shape)
}

/// Refuses duplicate names.
pub(crate) fn check_names(tensors: &[TensorInfo]) -> Result<(), FormatError> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        if let [a, b] = pair
            && a == b
        {
            return Err(FormatError::DuplicateTensor { tensor: shown(a) });
        }
    }
    Ok(())
}

/// Refuses duplicate names and tensors of one file that share bytes.
pub(crate) fn check_table(tensors: &[TensorInfo]) -> Result<(), FormatError> {
    check_names(tensors)?;
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.retain(|tensor| tensor.byte_len() > 0);
    order.sort_unstable_by_key(|tensor| tensor.range.start);
    for pair in order.windows(2) {
        if let [a, b] = pair
            && b.range.start < a.range.end
        {
            let (first, second) = (shown(&a.name), shown(&b.name));
            return Err(FormatError::Overlap { first, second });
        }
    }
    Ok(())
}

/// The first bytes of a file for a message: as text where they are text, else in hexadecimal.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let bytes = bytes.get(..8).unwrap_or(bytes);
    if !bytes.is_empty() && bytes.iter().all(|b| b.is_ascii_graphic()) {
        return format!("'{}'", String::from_utf8_lossy(bytes));
    }
    let hex: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("bytes {}", hex.join(" "))
}

/// A name from a file for a message: on one line, and cut when it is long.
pub(crate) fn shown(name: &str) -> String {
    const LONGEST: usize = 100;
    let mut out: String = name
        .chars()
        .take(LONGEST)
        .flat_map(char::escape_debug)
        .collect();
    if name.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}
