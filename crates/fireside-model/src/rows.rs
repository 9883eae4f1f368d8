//! How the rows of a layer's matrices are put together from the tensors of a file, and in which order.

use crate::config::DecoderConfig;
use crate::family::{Fused, Naming, Part};
use crate::pack::{RowOrder, head_rows, padded_rows};

/// Rows of one tensor that go into a matrix, after those of the piece before it.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// The part whose tensor it is.
    pub(crate) part: Part,
    /// Rows of that tensor.
    pub(crate) rows: usize,
    /// Which of them, in which order.
    pub(crate) order: RowOrder,
}

/// The pieces of the matrix of queries, keys and values.
pub(crate) fn query_key_value(config: &DecoderConfig, naming: Naming) -> [Piece; 3] {
    let dim = config.head_dim;
    let (queries, keys) = (config.heads, config.kv_heads);
    let pair = pairs(config, naming);
    let order = |heads, pair| head_rows(heads, dim, config.rope.rotary, pair);
    let fused = match (config.family.fused, naming) {
        // Converters put the parts one after the other.
        (Fused::HeadByHead, Naming::Gguf) => Fused::PartByPart,
        (fused, _) => fused,
    };
    let parts = [
        (Part::Query, queries * dim, order(queries, pair)),
        (Part::Key, keys * dim, order(keys, pair)),
        (Part::Value, keys * dim, order(keys, false)),
    ];
    pieces(Part::QueryKeyValue, fused, dim, parts)
}

/// Whether the rows of a head are to be paired: the kernels rotate neighbours, and most files pair the
/// halves of a head.
pub(crate) fn pairs(config: &DecoderConfig, naming: Naming) -> bool {
    !(naming == Naming::Gguf && config.family.gguf_pairs_neighbours)
}

/// The pieces of what goes into a feed-forward layer: gate and up rows, each padded to 32, or the up rows
/// alone as they are.
pub(crate) fn gate_up(config: &DecoderConfig) -> Vec<Piece> {
    let width = config.intermediate;
    if !config.family.gated {
        return vec![Piece {
            part: Part::Up,
            rows: width,
            order: RowOrder::Plain,
        }];
    }
    let fused = match config.family.fused_gate {
        true => Fused::PartByPart,
        false => Fused::No,
    };
    let order = || padded_rows(1, width);
    let parts = [(Part::Gate, width, order()), (Part::Up, width, order())];
    Vec::from(pieces(Part::GateUp, fused, config.head_dim, parts))
}

/// The columns of the output projection, which padded heads widen; `None` where they are as in the file.
pub(crate) fn attention_columns(config: &DecoderConfig) -> Option<Vec<Option<usize>>> {
    let (dim, stored) = (config.head_dim, config.stored_head_dim());
    let column = |c: usize| (c % stored < dim).then_some(c / stored * dim + c % stored);
    (stored != dim).then(|| (0..config.heads * stored).map(column).collect())
}

/// Parts of so many rows each, in their orders: pieces of tensors of their own, or where the file keeps them
/// together, of the tensor of `together`.
fn pieces<const N: usize>(
    together: Part,
    fused: Fused,
    dim: usize,
    parts: [(Part, usize, RowOrder); N],
) -> [Piece; N] {
    let all = parts.iter().map(|(_, rows, _)| rows).sum();
    let mut first = 0;
    let mut index = 0;
    parts.map(|(part, rows, order)| {
        let piece = match fused {
            Fused::No => Piece { part, rows, order },
            Fused::PartByPart | Fused::HeadByHead => Piece {
                part: together,
                rows: all,
                order: order.map(rows, |row| match fused {
                    Fused::HeadByHead => (row / dim * N + index) * dim + row % dim,
                    _ => first + row,
                }),
            },
        };
        first += rows;
        index += 1;
        piece
    })
}
