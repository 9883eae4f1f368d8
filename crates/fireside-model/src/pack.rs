//! From the tensors of a file to planes: picks a layout, reorders rows, packs one matrix at a time.

use std::ops::Range;

use fireside_formats::{
    DType, F16Fit, Plane, TensorInfo, TensorSource, dequantize, quant_traits, quantize, unpack_row,
};
use fireside_kernels::layout::{Block, Layout, Planes, ROW_PAD, Tile, padded};
#[cfg(not(target_arch = "wasm32"))]
use rayon::prelude::*;

use crate::error::ModelError;

/// A run of rows of one tensor, in the order they are to be stored; `None` is a row of zeros.
#[derive(Debug, Clone)]
pub(crate) struct RowSource {
    pub(crate) tensor: String,
    /// The tensor's columns are the rows.
    pub(crate) transposed: bool,
    pub(crate) order: RowOrder,
    /// What its rows become where they are floats of a whole number of blocks; `None` leaves them.
    pub(crate) quantize: Option<DType>,
}

/// Which rows of a tensor, in which order.
#[derive(Debug, Clone)]
pub(crate) enum RowOrder {
    /// All of them as they are.
    Plain,
    /// A chosen order.
    Chosen(Vec<Option<usize>>),
}

impl RowOrder {
    /// The same order of `rows` rows in a larger tensor, where row `r` of them is row `place(r)`.
    pub(crate) fn map(self, rows: usize, place: impl Fn(usize) -> usize) -> Self {
        Self::Chosen(match self {
            Self::Plain => (0..rows).map(|row| Some(place(row))).collect(),
            Self::Chosen(own) => own.into_iter().map(|row| row.map(&place)).collect(),
        })
    }

    /// Values that belong to rows, in this order.
    pub(crate) fn pick(&self, values: &[f32]) -> Vec<f32> {
        match self {
            Self::Plain => values.to_vec(),
            Self::Chosen(rows) => {
                let value = |row: &Option<usize>| row.and_then(|r| values.get(r).copied());
                rows.iter().map(|row| value(row).unwrap_or(0.0)).collect()
            }
        }
    }
}

impl RowSource {
    /// Rows of the whole tensor; of several matrices in one, those of all.
    pub(crate) fn tensor_rows(&self, info: &TensorInfo) -> usize {
        match info.shape.split_last() {
            Some((columns, _)) if self.transposed => *columns,
            Some((_, rows)) => rows.iter().product(),
            None => 0,
        }
    }

    fn rows(&self, info: &TensorInfo) -> usize {
        match &self.order {
            RowOrder::Plain => self.tensor_rows(info),
            RowOrder::Chosen(rows) => rows.len(),
        }
    }
}

/// The order of the rows of query or key heads: pairs become neighbours, heads are padded.
pub(crate) fn head_rows(heads: usize, dim: usize, rotary: usize, pair: bool) -> RowOrder {
    let stored = dim.next_multiple_of(4);
    if !pair && stored == dim {
        return RowOrder::Plain;
    }
    let mut rows = Vec::with_capacity(heads * stored);
    for head in 0..heads {
        for i in 0..stored {
            let own = if pair && i < rotary {
                i / 2 + i % 2 * (rotary / 2)
            } else {
                i
            };
            rows.push((i < dim).then_some(head * dim + own));
        }
    }
    RowOrder::Chosen(rows)
}

/// The order of the rows of matrices of `rows` rows each, every one padded to 32.
pub(crate) fn padded_rows(matrices: usize, rows: usize) -> RowOrder {
    let stored = padded(rows);
    if stored == rows {
        return RowOrder::Plain;
    }
    let own = |row: usize| (row % stored < rows).then_some(row / stored * rows + row % stored);
    RowOrder::Chosen((0..matrices * stored).map(own).collect())
}

/// Checks that a tensor has that shape.
pub(crate) fn expect(info: &TensorInfo, shape: &[usize]) -> Result<(), ModelError> {
    if info.shape == shape {
        return Ok(());
    }
    Err(ModelError::Shape {
        tensor: info.name.clone(),
        found: info.shape.clone(),
        expected: shape.to_vec(),
    })
}

/// The layout that keeps a format's values exactly.
pub(crate) fn layout_of(dtype: DType, bytes: &[u8]) -> Layout {
    let Some(traits) = quant_traits(dtype) else {
        return match dtype {
            DType::F16 => Layout::F16,
            DType::BF16 => Layout::BF16,
            _ => Layout::F32,
        };
    };
    match (traits.plane, traits.f16) {
        (Plane::Unsigned4, F16Fit::Always) => Layout::Q4,
        (Plane::Unsigned4, F16Fit::UnlessMinOverflows) if scales_fit_half(dtype, bytes) => {
            Layout::Q4
        }
        (Plane::Unsigned4, _) => Layout::Q4Float,
        (Plane::Signed8, _) if traits.min_is_zero && traits.one_scale => Layout::Q8,
        (Plane::Signed8, _) => Layout::Q8Group,
    }
}

/// The smallest layout that keeps the values of both.
fn common(a: Layout, b: Layout) -> Layout {
    let four_bit = |layout| matches!(layout, Layout::Q4 | Layout::Q4Float);
    if a == b {
        a
    } else if a.scale_group() == 0 || b.scale_group() == 0 {
        Layout::F32
    } else if four_bit(a) && four_bit(b) {
        Layout::Q4Float
    } else {
        Layout::Q8Group
    }
}

fn scales_fit_half(dtype: DType, bytes: &[u8]) -> bool {
    let mut fit = true;
    let fits = |v: f32| half_exact(v);
    // A partial block is reported when the tensor is packed.
    let _ = unpack_row(dtype, bytes, |_, block| {
        fit &= fits(block.scale[0]) && fits(block.min[0]);
    });
    fit
}

fn half_exact(value: f32) -> bool {
    value.abs() <= 65504.0
}

/// Packs the rows `first .. first + count` of the concatenation of `sources`.
///
/// `columns` reorders the columns of every row (`None` is a column of zeros), which turns a
/// quantized tensor into a float one.
pub(crate) struct Packer<'a> {
    pub(crate) source: &'a dyn TensorSource,
    pub(crate) sources: &'a [RowSource],
    pub(crate) width: usize,
    pub(crate) columns: Option<&'a [Option<usize>]>,
    /// Planes have their shape and no weights.
    pub(crate) hollow: bool,
}

impl Packer<'_> {
    /// The layout of a source by itself.
    fn own_layout(&self, source: &RowSource) -> Result<Layout, ModelError> {
        let info = self.source.get(&source.tensor)?;
        Ok(if let Some(dtype) = self.encoded(source, info) {
            layout_of(dtype, &[])
        } else if self.columns.is_some() && quant_traits(info.dtype).is_some() {
            Layout::F32
        } else if info.dtype == DType::Q4_0 {
            layout_of(info.dtype, &self.source.bytes(&source.tensor)?)
        } else {
            layout_of(info.dtype, &[])
        })
    }

    /// A layout that keeps the values of every source.
    pub(crate) fn common_layout(&self) -> Result<Layout, ModelError> {
        let mut layout = None;
        for source in self.sources {
            let own = self.own_layout(source)?;
            layout = Some(layout.map_or(own, |layout| common(layout, own)));
        }
        Ok(layout.unwrap_or(Layout::F32))
    }

    /// The layout of the whole matrix, or `None` if its sources differ in theirs.
    pub(crate) fn layout(&self) -> Result<Option<Layout>, ModelError> {
        let mut layout = None;
        for source in self.sources {
            let own = self.own_layout(source)?;
            if layout.is_some_and(|l| l != own) {
                return Ok(None);
            }
            layout = Some(own);
        }
        Ok(layout)
    }

    /// The type that a source's rows are quantized to; `None` where they are left as they are.
    fn encoded(&self, source: &RowSource, info: &TensorInfo) -> Option<DType> {
        let float = quant_traits(info.dtype).is_none() && self.columns.is_none();
        let fits = |dtype: &DType| float && self.width.is_multiple_of(dtype.block_len());
        source.quantize.filter(fits)
    }

    /// Rows of the concatenation.
    pub(crate) fn rows(&self) -> Result<usize, ModelError> {
        let mut rows = 0;
        for source in self.sources {
            rows += source.rows(self.source.get(&source.tensor)?);
        }
        Ok(rows)
    }

    /// Packs a range of rows.
    pub(crate) fn pack(
        &self,
        layout: Layout,
        first: usize,
        count: usize,
    ) -> Result<Planes, ModelError> {
        let stored = self.columns.map_or(self.width, <[_]>::len);
        if self.hollow {
            return Ok(Planes::hollow(layout, count, stored));
        }
        let mut planes = Planes::new(layout, count, stored);
        let mut base = 0;
        for source in self.sources {
            let info = self.source.get(&source.tensor)?;
            let rows = source.rows(info);
            let own = first.max(base)..(first + count).min(base + rows);
            if !own.is_empty() {
                self.pack_source(source, info, own, [base, first], &mut planes)?;
            }
            base += rows;
        }
        Ok(planes)
    }

    /// Packs rows of a source, those of `range` in the concatenation, where the source begins at `base` and the
    /// planes at `first`.
    fn pack_source(
        &self,
        source: &RowSource,
        info: &TensorInfo,
        range: Range<usize>,
        [base, first]: [usize; 2],
        planes: &mut Planes,
    ) -> Result<(), ModelError> {
        if source.transposed && quant_traits(info.dtype).is_some() {
            return Err(ModelError::Contradiction {
                what: format!(
                    "tensor {:?} is transposed and quantized; floats would do",
                    info.name
                ),
            });
        }
        let bytes = self.source.bytes(&source.tensor)?;
        let rows = Rows {
            order: &source.order,
            info,
            bytes: &bytes,
            rows: source.tensor_rows(info).max(1),
            transposed: source.transposed,
            encoded: self.encoded(source, info),
            width: self.width,
            columns: self.columns,
        };
        let tiles = planes.tiles().enumerate().filter_map(|(number, tile)| {
            let own = first + number * ROW_PAD..first + (number + 1) * ROW_PAD;
            let own = own.start.max(range.start)..own.end.min(range.end);
            (!own.is_empty()).then_some((own, first + number * ROW_PAD, tile))
        });
        let pack = |(own, start, mut tile): (Range<usize>, usize, Tile<'_>)| {
            let mut scratch = Scratch::default();
            own.into_iter().try_for_each(|index| {
                rows.pack(index - base, index - start, &mut tile, &mut scratch)
            })
        };
        // Each tile has memory of its own.
        #[cfg(not(target_arch = "wasm32"))]
        {
            let tiles: Vec<_> = tiles.collect();
            tiles.into_par_iter().try_for_each(pack)
        }
        #[cfg(target_arch = "wasm32")]
        {
            tiles.into_iter().try_for_each(pack)
        }
    }
}

/// The rows of a source, and what becomes of them.
struct Rows<'a> {
    order: &'a RowOrder,
    info: &'a TensorInfo,
    bytes: &'a [u8],
    /// Those of the tensor.
    rows: usize,
    transposed: bool,
    encoded: Option<DType>,
    width: usize,
    columns: Option<&'a [Option<usize>]>,
}

/// Memory for one row at a time.
#[derive(Default)]
struct Scratch {
    gathered: Vec<u8>,
    blocks: Vec<u8>,
    values: Vec<f32>,
    moved: Vec<f32>,
}

impl Rows<'_> {
    /// Packs row `index` of the source as row `to` of a tile.
    fn pack(
        &self,
        index: usize,
        to: usize,
        tile: &mut Tile<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), ModelError> {
        let Scratch {
            gathered,
            blocks,
            values,
            moved,
        } = scratch;
        let from = match self.order {
            RowOrder::Plain => Some(index),
            RowOrder::Chosen(rows) => rows[index],
        };
        let Some(from) = from else { return Ok(()) };
        let row_bytes = self.bytes.len() / self.rows;
        let row = if self.transposed {
            // A row's elements come from all over the tensor.
            let size = row_bytes / self.width.max(1);
            gathered.clear();
            for column in 0..self.width {
                let at = (column * self.rows + from) * size;
                gathered.extend_from_slice(&self.bytes[at..at + size]);
            }
            gathered
        } else {
            &self.bytes[from * row_bytes..][..row_bytes]
        };
        if tile.layout().scale_group() > 0 {
            let (dtype, row) = if let Some(dtype) = self.encoded {
                values.resize(self.width, 0.0);
                dequantize(self.info.dtype, row, values)?;
                blocks.clear();
                quantize(dtype, values, blocks).map_err(|e| e.of_tensor(&self.info.name))?;
                (dtype, blocks.as_slice())
            } else {
                (self.info.dtype, row)
            };
            unpack_row(dtype, row, |at, block| {
                let block = Block {
                    quants: block.q,
                    scale: block.scale,
                    // Formats without a minimum say -0.0.
                    minimum: block.min.map(|m| m + 0.0),
                };
                tile.set_block(to, at, &block);
            })?;
            return Ok(());
        }
        values.resize(self.width, 0.0);
        dequantize(self.info.dtype, row, values)?;
        match self.columns {
            None => tile.set_row(to, values),
            Some(columns) => {
                moved.clear();
                moved.extend(columns.iter().map(|from| from.map_or(0.0, |c| values[c])));
                tile.set_row(to, moved);
            }
        }
        Ok(())
    }
}
