//! What a reference computed with a tiny checkpoint, and how close to it is close enough.

use std::path::Path;

use fireside_formats::{TensorSource, WeightFile};
use fireside_model::{KvDtype, Model};

use crate::Runner;

/// Largest difference to a reference's f32 logits, which are of size 1 to 5, with an f32 cache.
pub const TOLERANCE: f32 = 2e-3;

/// What a reference computed for one prompt.
#[derive(Debug)]
pub struct Expected {
    /// Of whom, for messages.
    pub name: String,
    /// The prompt and the tokens that follow it.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// A row for each token.
    pub logits: Vec<Vec<f32>>,
}

impl Expected {
    /// Reads a file of a reference script, with the logits of this name.
    ///
    /// # Panics
    ///
    /// When it is not as the scripts write it.
    pub fn read(name: String, path: &Path, logits: &str) -> Self {
        let file = WeightFile::open(path).unwrap();
        let bytes = std::fs::read(path).unwrap();
        // The weight reader does not decode integers.
        let integers = |name: &str| -> Vec<u32> {
            let info = file.tensors().iter().find(|t| t.name == name).unwrap();
            let range = info.range.start as usize..info.range.end as usize;
            let (words, _) = bytes[range].as_chunks();
            words.iter().map(|word| u32::from_le_bytes(*word)).collect()
        };
        let vocab = file.get(logits).unwrap().shape[1];
        let values = file.read_f32(logits).unwrap();
        Self {
            name,
            tokens: integers("tokens"),
            prompt: integers("prompt_len")[0] as usize,
            logits: values.chunks(vocab).map(<[f32]>::to_vec).collect(),
        }
    }
}

/// Fails where two lists of rows differ by more than `tolerance` anywhere.
///
/// # Panics
///
/// When they do.
#[track_caller]
pub fn close(what: &str, actual: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{what}: rows");
    for (row, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert_eq!(a.len(), e.len(), "{what}: vocabulary");
        for (a, e) in a.iter().zip(e) {
            // A NaN is not within any tolerance.
            assert!(
                (a - e).abs() <= tolerance,
                "{what}: row {row} has {a} for {e}, more than {tolerance} off"
            );
        }
    }
}

/// Logits with the tokens cut into chunks of these sizes, the last of which repeats, with one of the
/// model's LoRA adapters or none.
///
/// # Panics
///
/// When a step fails.
pub fn logits(
    model: &Model,
    tokens: &[u32],
    sizes: &[usize],
    kv: KvDtype,
    lora: Option<usize>,
) -> Vec<Vec<f32>> {
    let runner = Runner::new(model, tokens.len(), kv).unwrap();
    let mut runner = runner.with_lora(lora);
    let mut all = Vec::new();
    let mut rest = tokens;
    let mut sizes = sizes.iter().copied();
    let mut size = sizes.next().unwrap_or(tokens.len());
    while !rest.is_empty() {
        let (chunk, tail) = rest.split_at(size.min(rest.len()));
        all.extend(runner.logits(chunk).unwrap());
        rest = tail;
        size = sizes.next().unwrap_or(size);
    }
    all
}
