//! What a kernel launch needs besides its tensors: sizes, positions in the step buffer, choices.
//!
//! Strides are in floats and multiples of [`COLUMN_PAD`](crate::layout::COLUMN_PAD); `*_at` are
//! word offsets into the step buffer, the one small buffer that a step uploads.

use crate::layout::Layout;

/// Positions in one block of the KV cache.
pub const BLOCK: usize = 32;

/// Which kernel shapes suit an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Profile {
    /// Lanes, rows per lane and barriers are chosen for a CPU that plays a GPU.
    pub software: bool,
    /// A software adapter has subgroups of at least eight lanes, and shaders use them.
    pub subgroups: bool,
}

impl Profile {
    /// Tokens that one attention workgroup serves where a sequence has several: as many as keep its queries
    /// (tokens times the `group` of heads that share a kv head) in reach.
    pub fn attention_tokens(self, group: usize, head_dim: usize) -> usize {
        /// Most queries: attention.wgsl keeps the scores of a block for each.
        const QUERIES: usize = 12;
        /// Most vec4 that a lane of attention_lane.wgsl accumulates, in what the adapter has for registers; a
        /// query has one for 32 elements of a head.
        const ACCUMULATED: usize = 48;
        let mut queries = QUERIES;
        if self.subgroups {
            queries = queries.min(ACCUMULATED / head_dim.div_ceil(32));
        }
        (queries / group).max(1)
    }

    /// Every profile, for tests that run each.
    pub const ALL: [Self; 3] = [
        Self {
            software: true,
            subgroups: true,
        },
        Self {
            software: true,
            subgroups: false,
        },
        Self {
            software: false,
            subgroups: false,
        },
    ];
}

/// The function of an activation, gated or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu = 0,
    /// GELU in its tanh form.
    GeluTanh = 1,
    /// GELU in its erf form.
    Gelu = 2,
    /// `max(x, 0)`.
    Relu = 3,
}

/// How the KV cache stores an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KvDtype {
    /// Half precision.
    F16,
    /// Single precision.
    F32,
    /// Signed bytes in units of a scale, which each position has for each head: about half the memory of
    /// halves, for an error of at most 1/254 of the head's largest magnitude.
    Q8,
}

impl KvDtype {
    /// Words of 32 bits that one kv head's keys take in a block, and its values as many; scales included.
    pub const fn head_words(self, head_dim: usize) -> usize {
        let quads = head_dim / 4 * BLOCK;
        match self {
            Self::F16 => 2 * quads,
            Self::F32 => 4 * quads,
            Self::Q8 => quads + BLOCK,
        }
    }

    /// What options and reports call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::Q8 => "q8",
        }
    }
}

/// A matrix as its planes are shaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatrixShape {
    /// The layout of its planes.
    pub layout: Layout,
    /// Rows, without padding.
    pub rows: usize,
    /// Columns, without padding.
    pub columns: usize,
}

/// Embedding gather, [`crate::ops::embed`].
#[derive(Debug, Clone)]
pub struct EmbedParams {
    /// The table, or a shard of it.
    pub table: MatrixShape,
    /// Tokens to gather.
    pub tokens: usize,
    /// Where their ids are.
    pub tokens_at: usize,
    /// The token id of the shard's first row.
    pub first: usize,
    /// Factor on every value.
    pub scale: f32,
    /// Rows are added to those of `out`, which is given.
    pub add: bool,
    /// Kernel shapes.
    pub profile: Profile,
}

/// RMS norm or layer norm, [`crate::ops::norm`].
#[derive(Debug, Clone)]
pub struct NormParams {
    /// Columns without padding.
    pub width: usize,
    /// Added to the mean square.
    pub eps: f32,
    /// Rows to make.
    pub rows: usize,
    /// Where the numbers of the source rows are.
    pub rows_at: usize,
    /// Kernel shapes.
    pub profile: Profile,
}

/// Matrix product, [`crate::ops::linear`].
#[derive(Debug, Clone)]
pub struct LinearParams {
    /// The matrix, or a part of it.
    pub matrix: MatrixShape,
    /// Columns of x.
    pub tokens: usize,
    /// Stride of y.
    pub y_stride: usize,
    /// The column of y that the first row makes.
    pub row_offset: usize,
    /// Rows to store, padding included where this is the last part.
    pub rows_out: usize,
    /// With a gate: the row where the up half starts, and the gate's function.
    pub glu: Option<(usize, Activation)>,
    /// With a norm on x: its width and epsilon.
    pub norm: Option<(usize, f32)>,
    /// A function of the results, after the bias; not together with a gate.
    pub activation: Option<Activation>,
    /// With a soft cap `c`: results become `c * tanh(y / c)`.
    pub cap: Option<f32>,
    /// Kernel shapes.
    pub profile: Profile,
}

/// Routing, [`crate::ops::route`].
#[derive(Debug, Clone)]
pub struct RouteParams {
    /// Experts: logits of a token without padding.
    pub experts: usize,
    /// How many of them a token takes; at most [`MOST_CHOSEN`].
    pub chosen: usize,
    /// The weights of a token's experts add up to one.
    pub normalized: bool,
    /// Kernel shapes.
    pub profile: Profile,
}

/// Experts that a token may take at the most.
pub const MOST_CHOSEN: usize = 32;

/// The expert of a route that leads to none.
pub const NO_EXPERT: u32 = u32::MAX;

/// Products with chosen experts, [`crate::ops::experts`].
#[derive(Debug, Clone)]
pub struct ExpertsParams {
    /// The planes: experts one after the other.
    pub matrix: MatrixShape,
    /// The first expert of these planes, and how many they hold.
    pub held: (usize, usize),
    /// From one expert's rows to the next one's; a multiple of 4.
    pub expert_rows: usize,
    /// Experts that a token takes.
    pub chosen: usize,
    /// Where the routes begin in the words that hold them; even. A route to [`NO_EXPERT`] adds nothing.
    pub routes_at: usize,
    /// Stride of y, whose columns are all stored.
    pub y_stride: usize,
    /// With a gate: the row where up rows start, and the gate's function. A result is then that of one route,
    /// else that of a token.
    pub glu: Option<(usize, Activation)>,
    /// With a norm on x: its width and epsilon; only with a gate.
    pub norm: Option<(usize, f32)>,
    /// Kernel shapes.
    pub profile: Profile,
}

/// Rotary embedding and cache write, [`crate::ops::rope_kv`].
#[derive(Debug, Clone)]
pub struct RopeParams {
    /// Tokens of the step.
    pub tokens: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements of a head, a multiple of 4.
    pub head_dim: usize,
    /// Leading elements of a head that rotate in neighbouring pairs; even.
    pub rotary: usize,
    /// Where the cache slots of the tokens are.
    pub slots_at: usize,
    /// Where the angles are.
    pub angles_at: usize,
    /// The norm of queries and keys, where the model has one.
    pub norm: Option<HeadNorm>,
    /// Element type of the cache.
    pub kv: KvDtype,
    /// Kernel shapes.
    pub profile: Profile,
}

/// The norm of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadNorm {
    /// Elements of a head that count; those stored past them are zero.
    pub width: usize,
    /// Added to the mean square.
    pub eps: f32,
    /// All query heads are normed as one, and all key heads; else each head by itself.
    pub whole: bool,
}

/// Attention, [`crate::ops::attention`].
#[derive(Debug, Clone)]
pub struct AttentionParams {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, a divisor of `heads`.
    pub kv_heads: usize,
    /// Elements of a head, a multiple of 4.
    pub head_dim: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// Positions a query sees, itself included; 0 for all.
    pub window: usize,
    /// With a soft cap `c`: a score `s` counts as `c * tanh(s / c)`.
    pub cap: Option<f32>,
    /// Tiles of the step.
    pub tiles: usize,
    /// Where the tiles are, four words each.
    pub tiles_at: usize,
    /// Most tokens of a tile.
    pub tile_tokens: usize,
    /// A query sees all of its sequence, not only what is before it: where the positions of each
    /// tile's sequence are, a word each. Not together with a window.
    pub ends_at: Option<usize>,
    /// Element type of the cache.
    pub kv: KvDtype,
    /// Kernel shapes.
    pub profile: Profile,
}

/// Activation, gated or not, [`crate::ops::glu`].
#[derive(Debug, Clone)]
pub struct GluParams {
    /// Elements of the result without padding.
    pub width: usize,
    /// The column where the up half starts, past the first; `None` where there is no gate.
    pub offset: Option<usize>,
    /// The function, of the gate where there is one.
    pub activation: Activation,
    /// Kernel shapes.
    pub profile: Profile,
}

/// The row of an adjustment that stands for none.
pub const NO_ROW: u32 = u32::MAX;

/// Penalties and biases, [`crate::ops::adjust_logits`].
#[derive(Debug, Clone)]
pub struct AdjustParams {
    /// Entries.
    pub count: usize,
    /// Where the entries are, four words each: row ([`NO_ROW`] for an entry that is to be
    /// skipped), token, repetition penalty, addend.
    pub entries_at: usize,
    /// Kernel shapes.
    pub profile: Profile,
}

/// Selection, [`crate::ops::select`].
#[derive(Debug, Clone)]
pub struct SelectParams {
    /// Logits of a row without padding.
    pub vocab: usize,
    /// Candidates to keep besides the best token; 0 for none.
    pub keep: usize,
    /// Where the settings of the rows are, [`SELECT_SETTINGS`] words each.
    pub rows_at: usize,
    /// Kernel shapes.
    pub profile: Profile,
}

/// Words of one row's selection settings: 1 / temperature as f32 bits, noise, seed low, seed
/// high, draw, the token whose logit is wanted ([`NO_TARGET`] for none), two spare.
pub const SELECT_SETTINGS: usize = 8;
/// The target of a selection row that has none.
pub const NO_TARGET: u32 = u32::MAX;
/// Words of a selection row before its candidates.
pub const SELECT_HEAD: usize = 8;

impl SelectParams {
    /// Logits of a selection group: grows with the vocabulary so that ranking stays cheap.
    pub fn each(&self) -> usize {
        if self.vocab > 1 << 16 { 64 } else { 32 }
    }

    /// Lanes of a selection workgroup.
    pub const LANES: usize = 32;

    /// Selection groups of a row.
    pub fn groups(&self) -> usize {
        self.vocab.div_ceil(Self::LANES * self.each()) * Self::LANES
    }

    /// Candidates that really come back.
    pub fn kept(&self) -> usize {
        self.keep.min(self.groups())
    }

    /// Words of a row of the result.
    pub fn out_stride(&self) -> usize {
        SELECT_HEAD + 2 * self.kept()
    }
}
