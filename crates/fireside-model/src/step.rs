//! One step of the model as plain data: which tokens to run, and what to select from their logits.
//!
//! The engine builds a [`Step`], the model runs it and gives a [`Selected`] per wanted row. Chunks
//! of many sequences, prefill and decode alike, share one step.

use fireside_kernels::selection::Selection;

/// A penalty or bias on one token's logit: `l = (l > 0 ? l / repetition : l * repetition) + add`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogitAdjustment {
    /// The token.
    pub token: u32,
    /// Repetition penalty; 1 for none.
    pub repetition: f32,
    /// Added after it: bias, frequency and presence penalties.
    pub add: f32,
}

/// What to select from one row of logits.
#[derive(Debug, Clone, PartialEq)]
pub struct RowSelection {
    /// Temperature of the noise and of [`Selection::tempered_log_sum_exp`]; above zero.
    pub temperature: f32,
    /// Take an exact sample of the softmax at that temperature instead of the argmax: the seed
    /// and the number of the draw.
    pub noise: Option<(u64, u32)>,
    /// Candidates wanted besides the token itself; the model gives the most that any row wants.
    pub candidates: usize,
    /// A token whose logit is wanted, wherever it ranks: [`Selection::target_logit`].
    pub target: Option<u32>,
    /// Whether the whole row of logits is wanted on the host.
    pub logits: bool,
    /// Adjustments made before anything is selected; a token stands at most once.
    pub adjustments: Vec<LogitAdjustment>,
}

impl Default for RowSelection {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            noise: None,
            candidates: 0,
            target: None,
            logits: false,
            adjustments: Vec::new(),
        }
    }
}

/// Consecutive tokens of one sequence.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chunk {
    /// The tokens to run; at least one.
    pub tokens: Vec<u32>,
    /// Position of the first one; the cache holds all positions before it.
    pub start: usize,
    /// The sequence's block table: block numbers covering `start + tokens.len()` positions.
    pub blocks: Vec<u32>,
    /// The number of its LoRA adapter among those of [`crate::Model::set_loras`].
    pub lora: Option<usize>,
    /// The type of each token; empty where all are of the first one.
    pub types: Vec<u32>,
    /// What to select, per wanted row: the index within `tokens` (ascending) and the selection.
    pub rows: Vec<(usize, RowSelection)>,
}

/// A step of the model over chunks of different sequences.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Step {
    /// The chunks; no two of one sequence.
    pub chunks: Vec<Chunk>,
    /// The step that likely follows: a chunk of one token for each row of this one, in the same order. The token is
    /// the one that this step selects; what stands in the chunk does not count. A model may start it before
    /// this step's results are read. If another step follows, it was in vain, and has written nothing but the
    /// positions that it runs.
    pub next: Option<Box<Step>>,
}

/// The result of one wanted row, in the order of the chunks and their rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Selected {
    /// Best token, log-sum-exp and candidates.
    pub selection: Selection,
    /// The row's adjusted logits, where they were asked for; vocabulary-sized.
    pub logits: Option<Vec<f32>>,
}
