//! What the cross-crate tests share: devices, fixtures, skips, and running a model step by step.

pub mod greedy;
pub mod perplexity;
pub mod references;

use std::path::PathBuf;
use std::sync::OnceLock;

use fireside_model::device::{ComputeDevice, DeviceChoice, DeviceError};
use fireside_model::step::{Chunk, RowSelection, Selected, Step};
use fireside_model::{BLOCK, KvCache, KvDtype, Model, ModelError};

/// A file or folder under `tests/fixtures`. Tests run in the folder of their package; a path
/// compiled in may be another checkout's, where several share a build folder.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from("fixtures").join(name)
}

/// The folders of all tiny checkpoints that text is generated with, of every family.
///
/// # Panics
///
/// When some are missing.
pub fn checkpoints() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = ["tiny-llama", "families", "packed"]
        .into_iter()
        .flat_map(|set| std::fs::read_dir(fixture(set)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    assert!(folders.len() >= 46, "only {} checkpoints", folders.len());
    folders
}

/// The CPU, and the adapter where there is one; a missing adapter is recorded as a skip.
pub fn devices(test: &str) -> Vec<(&'static str, ComputeDevice)> {
    static GPU: OnceLock<Option<ComputeDevice>> = OnceLock::new();
    let gpu = GPU.get_or_init(gpu);
    let mut all = vec![("cpu", ComputeDevice::cpu())];
    match gpu {
        Some(gpu) => all.push(("gpu", gpu.clone())),
        None => skip(test, "no gpu adapter: install mesa-vulkan-drivers"),
    }
    all
}

/// The choices that mean the CPU, and the adapter where there is one; a missing adapter is recorded as a skip.
pub fn choices(test: &str) -> Vec<DeviceChoice> {
    let mut all = vec![DeviceChoice::Cpu];
    if gpu().is_some() {
        all.push(DeviceChoice::Gpu);
    } else {
        skip(test, "no gpu adapter: install mesa-vulkan-drivers");
    }
    all
}

/// The adapter, or `None` where there is none; one that refuses is a failure and no skip.
///
/// # Panics
///
/// When there is an adapter and it cannot be opened.
pub fn gpu() -> Option<ComputeDevice> {
    match pollster::block_on(ComputeDevice::open(DeviceChoice::Gpu)) {
        Ok(device) => Some(device),
        Err(DeviceError::NoAdapter) => None,
        Err(error) => panic!("{error}"),
    }
}

/// The real SmolLM2 file; without it the test is recorded as skipped.
pub fn smollm2(test: &str) -> Option<PathBuf> {
    real(test, "FIRESIDE_TEST_GGUF")
}

/// The real Gemma 3 270M file; without it the test is recorded as skipped.
pub fn gemma3(test: &str) -> Option<PathBuf> {
    real(test, "FIRESIDE_TEST_GEMMA_GGUF")
}

/// The folder of the real all-MiniLM-L6-v2; without it the test is recorded as skipped.
pub fn minilm(test: &str) -> Option<PathBuf> {
    real(test, "FIRESIDE_TEST_MINILM")
}

/// A real model, whose path stands in a variable of the environment.
fn real(test: &str, variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        let fetches = "run `cargo xtask test`, which fetches the model";
        skip(test, &format!("{variable} is not set: {fetches}"));
    }
    path
}

/// Records a test that could not run, and why, where the test command counts it.
pub fn skip(test: &str, reason: &str) {
    eprintln!("skipped {test}: {reason}");
    if let Some(log) = std::env::var_os("FIRESIDE_SKIP_LOG") {
        use std::io::Write;
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log);
        let _ = file.and_then(|mut f| writeln!(f, "{test}: {reason}"));
    }
}

/// One sequence of a model, run chunk by chunk.
#[derive(Debug)]
pub struct Runner<'a> {
    model: &'a Model,
    cache: KvCache,
    position: usize,
    lora: Option<usize>,
}

impl<'a> Runner<'a> {
    /// An empty sequence that may grow to `positions`.
    ///
    /// # Errors
    ///
    /// The cache does not fit the device.
    pub fn new(model: &'a Model, positions: usize, kv: KvDtype) -> Result<Self, ModelError> {
        Ok(Self {
            model,
            cache: model.cache(positions.div_ceil(BLOCK), kv)?,
            position: 0,
            lora: None,
        })
    }

    /// With this one of the model's LoRA adapters.
    #[must_use]
    pub fn with_lora(mut self, lora: Option<usize>) -> Self {
        self.lora = lora;
        self
    }

    /// Runs the next tokens and gives the selection of each, or of the last only.
    ///
    /// # Errors
    ///
    /// The step fails.
    pub fn run(
        &mut self,
        tokens: &[u32],
        every: bool,
        selection: &RowSelection,
    ) -> Result<Vec<Selected>, ModelError> {
        let last = tokens.len() - 1;
        let rows = if every {
            0..tokens.len()
        } else {
            last..tokens.len()
        };
        let chunk = Chunk {
            tokens: tokens.to_vec(),
            start: self.position,
            // Blocks from the far end, so that tables are not the identity.
            blocks: (0..self.cache.blocks() as u32).rev().collect(),
            rows: rows.map(|row| (row, selection.clone())).collect(),
            lora: self.lora,
            ..Chunk::default()
        };
        self.position += tokens.len();
        pollster::block_on(self.model.step(
            &mut self.cache,
            &Step {
                chunks: vec![chunk],
                next: None,
            },
        ))
    }

    /// Runs the next tokens and gives their rows of logits.
    ///
    /// # Errors
    ///
    /// The step fails.
    pub fn logits(&mut self, tokens: &[u32]) -> Result<Vec<Vec<f32>>, ModelError> {
        let selection = RowSelection {
            logits: true,
            ..Default::default()
        };
        let rows = self.run(tokens, true, &selection)?;
        Ok(rows.into_iter().filter_map(|r| r.logits).collect())
    }
}
