//! Weight layouts: how a matrix is stored on a device, and how rows are packed into it.
//!
//! A matrix of `rows` x `columns` becomes planes in tiles of 64 rows, block-major within a tile:
//! `quants[tile][chunk][row of the tile]`, sixteen bytes each, and scales apart from them. So
//! neighbouring lanes read neighbouring bytes, and a workgroup that walks along K reads one run of
//! memory. Rows are padded to 64 and columns to 32 with zeros. Every layout keeps the value `scale * quant + minimum` of its source exactly.

use half::{bf16, f16};

/// Rows of a plane are a multiple of this.
pub const ROW_PAD: usize = 64;
/// Columns of a plane, and the widths of activations, are a multiple of this.
pub const COLUMN_PAD: usize = 32;
/// Bytes of one chunk: one `vec4<u32>`.
const CHUNK_BYTES: usize = 16;

/// Rounds a width up to [`COLUMN_PAD`]: the stride of an activation of that width, in floats.
pub const fn padded(width: usize) -> usize {
    width.next_multiple_of(COLUMN_PAD)
}

/// Where a plane of `chunks` chunks (or scale groups) per row holds the one of a row.
pub(crate) const fn cell(chunk: usize, row: usize, chunks: usize) -> usize {
    (row / ROW_PAD * chunks + chunk) * ROW_PAD + row % ROW_PAD
}

/// How the weights of a matrix are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// 4 bits, scale and minimum per 32 as a pair of halves: 5 bits a weight.
    Q4,
    /// 4 bits, scale and minimum per 32 as a pair of floats: 6 bits a weight.
    Q4Float,
    /// 8 bits, one float scale per 32: 9 bits a weight.
    Q8,
    /// 8 bits, scale and minimum per 16 as a pair of floats: 12 bits a weight.
    Q8Group,
    /// Half precision.
    F16,
    /// bfloat16.
    BF16,
    /// Single precision.
    F32,
}

impl Layout {
    /// Every layout.
    pub const ALL: [Self; 7] = [
        Self::Q4,
        Self::Q4Float,
        Self::Q8,
        Self::Q8Group,
        Self::F16,
        Self::BF16,
        Self::F32,
    ];

    /// Weights in one chunk of sixteen bytes.
    pub const fn chunk(self) -> usize {
        match self {
            Self::Q4 | Self::Q4Float => 32,
            Self::Q8 | Self::Q8Group => 16,
            Self::F16 | Self::BF16 => 8,
            Self::F32 => 4,
        }
    }

    /// Weights that share a scale; zero for the float layouts.
    pub const fn scale_group(self) -> usize {
        match self {
            Self::Q4 | Self::Q4Float | Self::Q8 => 32,
            Self::Q8Group => 16,
            Self::F16 | Self::BF16 | Self::F32 => 0,
        }
    }

    /// Words of 32 bits per scale group; zero for the float layouts.
    pub const fn scale_words(self) -> usize {
        match self {
            Self::Q4 | Self::Q8 => 1,
            Self::Q4Float | Self::Q8Group => 2,
            Self::F16 | Self::BF16 | Self::F32 => 0,
        }
    }

    /// Whether a chunk has a minimum besides its scale.
    pub const fn has_minimum(self) -> bool {
        matches!(self, Self::Q4 | Self::Q4Float | Self::Q8Group)
    }
}

/// One run of 32 weights of a row, as quants with an affine map per half:
/// `value[i] = scale[i / 16] * quant[i] + minimum[i / 16]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Block {
    /// Quants: 0 to 15 for the 4-bit layouts, any `i8` for the others.
    pub quants: [i8; 32],
    /// Scale of each half.
    pub scale: [f32; 2],
    /// Minimum of each half.
    pub minimum: [f32; 2],
}

/// A matrix, or a shard of one, packed for a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planes {
    /// The layout of both planes.
    pub layout: Layout,
    /// Rows of the matrix, without padding.
    pub rows: usize,
    /// Columns of the matrix, without padding.
    pub columns: usize,
    /// Tiles of 64 rows x [`Planes::chunks`] x 64 x 4 words.
    pub quants: Vec<u32>,
    /// Scales, tiles x groups x 64 x [`Layout::scale_words`] words; empty for float layouts.
    pub scales: Vec<u32>,
}

impl Planes {
    /// Planes of zeros.
    pub fn new(layout: Layout, rows: usize, columns: usize) -> Self {
        let padded_rows = rows.next_multiple_of(ROW_PAD);
        let width = padded(columns);
        let groups = match layout.scale_group() {
            0 => 0,
            group => width / group,
        };
        Self {
            layout,
            rows,
            columns,
            quants: vec![0; width / layout.chunk() * padded_rows * (CHUNK_BYTES / 4)],
            scales: vec![0; groups * padded_rows * layout.scale_words()],
        }
    }

    /// Planes of a shape with next to no memory, for launches that are never run.
    pub fn hollow(layout: Layout, rows: usize, columns: usize) -> Self {
        Self {
            layout,
            rows,
            columns,
            quants: vec![0; CHUNK_BYTES / 4],
            scales: vec![0; layout.scale_words()],
        }
    }

    /// Bytes that planes of this shape take, and the larger of the two bindings.
    pub fn bytes(layout: Layout, rows: usize, columns: usize) -> (u64, u64) {
        let cells = rows.next_multiple_of(ROW_PAD) as u64 * padded(columns) as u64;
        let quants = cells / layout.chunk() as u64 * CHUNK_BYTES as u64;
        let scales = match layout.scale_group() {
            0 => 0,
            group => cells / group as u64 * layout.scale_words() as u64 * 4,
        };
        (quants + scales, quants.max(scales))
    }

    /// The most rows whose planes keep each binding within `limit` bytes; a multiple of 64,
    /// or `None` when not even 64 rows fit.
    pub fn rows_within(layout: Layout, columns: usize, limit: u64) -> Option<usize> {
        let (_, largest) = Self::bytes(layout, ROW_PAD, columns);
        let sets = usize::try_from(limit / largest.max(1)).unwrap_or(usize::MAX / ROW_PAD);
        (sets > 0).then(|| sets.min(usize::MAX / ROW_PAD) * ROW_PAD)
    }

    /// Chunks along the columns.
    pub fn chunks(&self) -> usize {
        padded(self.columns) / self.layout.chunk()
    }

    /// The planes tile by tile, each to be packed by itself.
    pub fn tiles(&mut self) -> impl Iterator<Item = Tile<'_>> {
        let (layout, chunks) = (self.layout, self.chunks());
        let quants = chunks * ROW_PAD * (CHUNK_BYTES / 4);
        let scales = match layout.scale_group() {
            0 => 0,
            group => padded(self.columns) / group * ROW_PAD * layout.scale_words(),
        };
        let mut rest = self.scales.as_mut_slice();
        self.quants.chunks_mut(quants.max(1)).map(move |quants| {
            let (own, left) = std::mem::take(&mut rest).split_at_mut(scales);
            rest = left;
            Tile {
                layout,
                chunks,
                quants,
                scales: own,
            }
        })
    }

    /// The tile of a row, and the row in it.
    fn tile(&mut self, row: usize) -> Option<(Tile<'_>, usize)> {
        Some((self.tiles().nth(row / ROW_PAD)?, row % ROW_PAD))
    }

    /// See [`Tile::set_block`].
    ///
    /// # Panics
    ///
    /// As there, or when the row lies outside the planes.
    pub fn set_block(&mut self, row: usize, index: usize, block: &Block) {
        match self.tile(row) {
            Some((mut tile, row)) => tile.set_block(row, index, block),
            None => panic!("row {row} of {}", self.rows),
        }
    }

    /// See [`Tile::set_row`].
    ///
    /// # Panics
    ///
    /// As there, or when the row lies outside the planes.
    pub fn set_row(&mut self, row: usize, values: &[f32]) {
        match self.tile(row) {
            Some((mut tile, row)) => tile.set_row(row, values),
            None => panic!("row {row} of {}", self.rows),
        }
    }
}

/// [`ROW_PAD`] rows of planes, whose memory is theirs alone.
#[derive(Debug)]
pub struct Tile<'a> {
    layout: Layout,
    chunks: usize,
    quants: &'a mut [u32],
    scales: &'a mut [u32],
}

impl Tile<'_> {
    /// The layout of its planes.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Stores sixteen bytes of a row.
    fn set_chunk(&mut self, chunk: usize, row: usize, bytes: &[u8; CHUNK_BYTES]) {
        let at = (chunk * ROW_PAD + row) * (CHUNK_BYTES / 4);
        let words = &mut self.quants[at..at + CHUNK_BYTES / 4];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
    }

    /// Stores block `index` (columns `32 * index ..`) of a row in a quantized layout.
    ///
    /// # Panics
    ///
    /// When the layout is a float one, or the position lies outside the tile.
    pub fn set_block(&mut self, row: usize, index: usize, block: &Block) {
        // Written so that a compiler makes vectors of it.
        let q = block.quants.map(i8::cast_unsigned);
        let (low, high) = (q.first_chunk::<16>(), q.last_chunk::<16>());
        let (Some(low), Some(high)) = (low, high) else {
            return;
        };
        let scale = index * ROW_PAD + row;
        match self.layout {
            Layout::Q4 | Layout::Q4Float => {
                let mut pairs = [0; CHUNK_BYTES];
                for ((pair, low), high) in pairs.iter_mut().zip(low).zip(high) {
                    *pair = (low & 15) | (high << 4);
                }
                self.set_chunk(index, row, &pairs);
                if self.layout == Layout::Q4 {
                    let low = f16::from_f32(block.scale[0]).to_bits();
                    let high = f16::from_f32(block.minimum[0]).to_bits();
                    self.scales[scale] = u32::from(low) | u32::from(high) << 16;
                } else {
                    self.scales[scale * 2] = block.scale[0].to_bits();
                    self.scales[scale * 2 + 1] = block.minimum[0].to_bits();
                }
            }
            Layout::Q8 | Layout::Q8Group => {
                for (half, bytes) in [low, high].into_iter().enumerate() {
                    let chunk = index * 2 + half;
                    self.set_chunk(chunk, row, bytes);
                    if self.layout == Layout::Q8Group {
                        let scale = (chunk * ROW_PAD + row) * 2;
                        self.scales[scale] = block.scale[half].to_bits();
                        self.scales[scale + 1] = block.minimum[half].to_bits();
                    }
                }
                if self.layout == Layout::Q8 {
                    self.scales[scale] = block.scale[0].to_bits();
                }
            }
            Layout::F16 | Layout::BF16 | Layout::F32 => {
                panic!(
                    "a block needs a quantized layout, this one is {:?}",
                    self.layout
                )
            }
        }
    }

    /// Stores a row of floats in a float layout, rounding to the nearest where it is narrower. What lies past
    /// them in the last chunk becomes zero.
    ///
    /// # Panics
    ///
    /// When the layout is a quantized one, or the row lies outside the tile.
    pub fn set_row(&mut self, row: usize, values: &[f32]) {
        assert!(values.len() <= self.chunks * self.layout.chunk());
        for (index, run) in values.chunks(self.layout.chunk()).enumerate() {
            let mut bytes = [0; CHUNK_BYTES];
            match self.layout {
                Layout::F32 => {
                    for (to, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(run) {
                        *to = value.to_le_bytes();
                    }
                }
                Layout::F16 => {
                    for (to, value) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(run) {
                        *to = f16::from_f32(*value).to_le_bytes();
                    }
                }
                Layout::BF16 => {
                    for (to, value) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(run) {
                        *to = bf16::from_f32(*value).to_le_bytes();
                    }
                }
                other => panic!("a row of floats needs a float layout, this one is {other:?}"),
            }
            self.set_chunk(index, row, &bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twin;

    fn block(seed: usize, layout: Layout) -> Block {
        let four_bit = matches!(layout, Layout::Q4 | Layout::Q4Float);
        let mut quants = [0i8; 32];
        for (i, q) in quants.iter_mut().enumerate() {
            let v = (i * 37 + seed * 101) % 256;
            *q = if four_bit {
                (v % 16) as i8
            } else {
                v as u8 as i8
            };
        }
        let scale = 0.25 + seed as f32;
        let minimum = if layout.has_minimum() {
            -1.5 * seed as f32
        } else {
            0.0
        };
        let split = layout == Layout::Q8Group;
        Block {
            quants,
            scale: [scale, if split { scale * 2.0 } else { scale }],
            minimum: [minimum, if split { minimum * 0.5 } else { minimum }],
        }
    }

    #[test]
    fn a_quantized_row_reads_back_exactly() {
        for layout in Layout::ALL {
            if layout.scale_group() == 0 {
                continue;
            }
            let mut planes = Planes::new(layout, 3, 70);
            let blocks: Vec<Block> = (0..9).map(|i| block(i, layout)).collect();
            for row in 0..3 {
                for index in 0..3 {
                    planes.set_block(row, index, &blocks[row * 3 + index]);
                }
            }
            for row in 0..3 {
                let mut values = vec![0.0; 96];
                twin::unpack_row(&planes.view(), row, &mut values);
                for (i, value) in values.iter().enumerate() {
                    let b = &blocks[row * 3 + i / 32];
                    let half = i % 32 / 16;
                    let expected = b.scale[half] * f32::from(b.quants[i % 32]) + b.minimum[half];
                    assert_eq!(*value, expected, "{layout:?} row {row} column {i}");
                }
            }
        }
    }

    #[test]
    fn a_float_row_reads_back_to_its_precision() {
        for layout in [Layout::F16, Layout::BF16, Layout::F32] {
            let mut planes = Planes::new(layout, 2, 37);
            let row: Vec<f32> = (0..37).map(|i| (i as f32 - 18.0) * 0.5).collect();
            planes.set_row(1, &[9.0; 37]);
            planes.set_row(1, &row);
            let mut values = vec![0.0; 64];
            twin::unpack_row(&planes.view(), 1, &mut values);
            assert_eq!(&values[..37], &row[..], "{layout:?}");
            assert_eq!(&values[37..], &[0.0; 27]);
        }
    }

    #[test]
    fn shard_rows_stay_within_a_binding() {
        for layout in Layout::ALL {
            let rows = Planes::rows_within(layout, 576, 1 << 20).unwrap();
            assert!(Planes::bytes(layout, rows, 576).1 <= 1 << 20);
            assert!(Planes::bytes(layout, rows + 64, 576).1 > 1 << 20);
            assert_eq!(Planes::rows_within(layout, 576, 100), None);
        }
    }
}
