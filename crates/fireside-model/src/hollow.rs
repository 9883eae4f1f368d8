//! A model without weights: what its steps launch is known before they are there.

use std::borrow::Cow;

use fireside_formats::{FormatError, TensorInfo, TensorSource};
use fireside_kernels::compile::Compiling;
use fireside_kernels::params::{BLOCK, KvDtype};

use crate::error::ModelError;
use crate::model::Model;
use crate::plan::Plan;
use crate::step::{Chunk, LogitAdjustment, RowSelection, Step};

/// A source's tensors by their names, shapes and types alone: vectors are zeros, matrices have no bytes. (Whether the
/// scales of Q4_0 fit halves is said by bytes; here they do, as they do in all but odd files.)
pub(crate) struct Hollow<'a>(pub(crate) &'a dyn TensorSource);

impl TensorSource for Hollow<'_> {
    fn tensors(&self) -> &[TensorInfo] {
        self.0.tensors()
    }

    fn get(&self, name: &str) -> Result<&TensorInfo, FormatError> {
        self.0.get(name)
    }

    fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>, FormatError> {
        self.0.get(name).map(|_| Cow::Borrowed(&[][..]))
    }

    fn release(&self, _name: &str) {}

    fn read_f32(&self, name: &str) -> Result<Vec<f32>, FormatError> {
        Ok(vec![0.0; self.0.get(name)?.elements()])
    }
}

/// Tokens of steps that take kernels of their own: prompts of many and of some tokens, and one after them. Natively
/// what is left over in a prompt too, and few sequences at once; a browser has one, and compiles at each start.
const LENGTHS: &[usize] = if cfg!(target_arch = "wasm32") {
    &[64, 8, 1]
} else {
    &[64, 12, 11, 10, 9, 4, 3, 2, 1]
};

/// Steps of at most `longest` tokens whose kernels first requests take; those for text with and without filters
/// and penalties.
fn steps(longest: usize, generates: bool) -> Vec<Step> {
    let plain = RowSelection {
        noise: Some((0, 0)),
        ..RowSelection::default()
    };
    let filtered = RowSelection {
        candidates: 64,
        adjustments: vec![LogitAdjustment {
            token: 0,
            repetition: 1.0,
            add: 0.0,
        }],
        ..plain.clone()
    };
    let lengths = LENGTHS.iter().filter(|tokens| **tokens <= longest);
    let lengths = lengths.map(|tokens| (*tokens, plain.clone()));
    let steps = lengths.chain(generates.then_some((1, filtered)));
    steps
        .map(|(tokens, row)| Step {
            chunks: vec![Chunk {
                tokens: vec![0; tokens],
                blocks: (0..tokens.div_ceil(BLOCK) as u32).collect(),
                rows: vec![(tokens - 1, row)],
                ..Chunk::default()
            }],
            next: None,
        })
        .collect()
}

impl Model {
    /// Begins to make the pipelines that first requests take: for text, or for hidden states. The model may be one
    /// without weights.
    ///
    /// # Errors
    ///
    /// The device's failure.
    pub(crate) fn compile(&self, kv: KvDtype, generates: bool) -> Result<Compiling, ModelError> {
        let steps = steps(self.config().context, generates);
        let blocks = steps.iter().flat_map(|step| &step.chunks);
        let most = blocks.map(|chunk| chunk.blocks.len()).max().unwrap_or(0);
        let mut cache = self.cache(most, kv)?;
        let plans = steps.iter().map(|step| self.plan(step, &cache));
        let plans = plans.collect::<Result<Vec<_>, _>>()?;
        self.device().compile(|| {
            for Plan { words, shape } in plans {
                let words = self.device().words(words)?;
                if generates {
                    self.launch(&shape, &words, &mut cache)?;
                } else {
                    self.hidden_states(&shape, &words, &mut cache)?;
                }
            }
            Ok(())
        })
    }
}
