//! The KV cache: preallocated blocks per layer, addressed through block tables.

use burn::tensor::{Int, Tensor};
use fireside_kernels::device::ComputeDevice;
use fireside_kernels::params::{BLOCK, KvDtype};

use crate::config::DecoderConfig;
use crate::error::ModelError;
use crate::model::Launched;
use crate::recordings::Recordings;

/// Keys and values of all layers. Blocks hold [`BLOCK`] positions; which block belongs to which
/// sequence is the engine's business.
#[derive(Debug)]
pub struct KvCache {
    /// Keys and values per layer; taken out while an operation updates them.
    layers: Vec<Option<(Tensor<1, Int>, Tensor<1, Int>)>>,
    blocks: usize,
    dtype: KvDtype,
    bytes: u64,
    /// Decode steps recorded over these blocks.
    pub(crate) recordings: Recordings<Launched>,
}

impl KvCache {
    /// Bytes that one block takes over all layers, keys and values together.
    pub fn block_bytes(config: &DecoderConfig, dtype: KvDtype) -> u64 {
        2 * config.layers as u64 * Self::layer_block_words(config, dtype) as u64 * 4
    }

    fn layer_block_words(config: &DecoderConfig, dtype: KvDtype) -> usize {
        config.kv_heads * config.stored_head_dim() / 4 * BLOCK * dtype.quad_words()
    }

    /// Allocates `blocks` blocks.
    ///
    /// # Errors
    ///
    /// A layer's keys would not fit one binding of the adapter.
    pub fn new(
        config: &DecoderConfig,
        dtype: KvDtype,
        blocks: usize,
        device: &ComputeDevice,
    ) -> Result<Self, ModelError> {
        let words = Self::layer_block_words(config, dtype).saturating_mul(blocks);
        let needs = words as u64 * 4;
        if needs > device.max_binding() {
            return Err(ModelError::AdapterTooSmall {
                what: format!("a kv cache of {} positions", blocks * BLOCK),
                needs,
                allows: device.max_binding(),
            });
        }
        // Attention reads no position before it is written.
        let blank = || device.unwritten_words(words);
        Ok(Self {
            layers: (0..config.layers)
                .map(|_| Some((blank(), blank())))
                .collect(),
            blocks,
            dtype,
            bytes: 2 * config.layers as u64 * needs,
            recordings: Recordings::default(),
        })
    }

    /// Blocks there are.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// How elements are stored.
    pub fn dtype(&self) -> KvDtype {
        self.dtype
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes a layer's keys and values out, to be given back by [`KvCache::put`].
    pub(crate) fn take(&mut self, layer: usize) -> Option<(Tensor<1, Int>, Tensor<1, Int>)> {
        self.layers.get_mut(layer)?.take()
    }

    pub(crate) fn put(&mut self, layer: usize, keys: Tensor<1, Int>, values: Tensor<1, Int>) {
        if let Some(slot) = self.layers.get_mut(layer) {
            *slot = Some((keys, values));
        }
    }
}
