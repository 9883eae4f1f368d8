//! What float weights become while they are loaded or written: which parts, and which types.

use fireside_formats::DType;

use crate::family::Part;

/// Makes float weights (F32, F16, BF16) smaller while a model is loaded, a row at a time.
///
/// Projections are quantized; norms, biases and learned positions stay floats, and so do rows that are
/// no whole number of 32 weights. What is quantized in the file is left as it is. The embedding and the
/// head, often one table, get 8 bits whatever the projections get: they are read by every token's last
/// product, where 4 bits cost the most quality and save the least time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quantize {
    /// 4 bits a weight with a scale and a minimum per 32 (Q4_1), 5 bits in all.
    Q4,
    /// 8 bits a weight with a scale per 32 (Q8_0); 9 bits in all on a device, 8.5 in a file.
    Q8,
}

impl Quantize {
    /// Its name for users.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q4 => "q4",
            Self::Q8 => "q8",
        }
    }

    /// The type that a part's weight is quantized to; `None` where it stays as it is.
    pub(crate) fn of(self, part: Part) -> Option<DType> {
        quantized(
            part,
            match self {
                Self::Q4 => DType::Q4_1,
                Self::Q8 => DType::Q8_0,
            },
        )
    }
}

/// The weights of layers that products are made with.
pub(crate) const PROJECTIONS: [Part; 12] = [
    Part::Query,
    Part::Key,
    Part::Value,
    Part::QueryKeyValue,
    Part::AttentionOut,
    Part::Gate,
    Part::Up,
    Part::GateUp,
    Part::Down,
    Part::ExpertGate,
    Part::ExpertUp,
    Part::ExpertDown,
];

/// The tables with a row per token.
pub(crate) const TABLES: [Part; 2] = [Part::Embedding, Part::Head];

/// The type of a part's weight where projections are to have the type `projections`; `None` for what is
/// never quantized.
pub(crate) fn quantized(part: Part, projections: DType) -> Option<DType> {
    if PROJECTIONS.contains(&part) {
        return Some(projections);
    }
    let tables = if projections.is_quantized() {
        DType::Q8_0
    } else {
        projections
    };
    TABLES.contains(&part).then_some(tables)
}
