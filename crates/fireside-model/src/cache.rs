//! The KV cache: preallocated blocks per layer, addressed through block tables.

use burn::tensor::{Int, Tensor};
use fireside_kernels::device::{ComputeDevice, DeviceError};
use fireside_kernels::params::{BLOCK, KvDtype};

use crate::ahead::Ahead;
use crate::config::DecoderConfig;
use crate::error::ModelError;
use crate::memory;
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
    /// A step that was started before it was asked for.
    pub(crate) ahead: Option<Ahead>,
}

impl KvCache {
    /// Lets go of what it keeps of LoRA adapters that the model has no longer; after [`crate::Model::set_loras`].
    pub fn forget_loras(&mut self) {
        self.recordings.forget_loras();
    }

    /// Bytes that one block takes over all layers, keys and values together.
    pub fn block_bytes(config: &DecoderConfig, dtype: KvDtype) -> u64 {
        2 * config.layers as u64 * Self::layer_block_words(config, dtype) as u64 * 4
    }

    fn layer_block_words(config: &DecoderConfig, dtype: KvDtype) -> usize {
        config.kv_heads * dtype.head_words(config.stored_head_dim())
    }

    /// Allocates `blocks` blocks.
    ///
    /// # Errors
    ///
    /// A layer's keys would not fit one binding of the adapter; or the cache lies in the host's
    /// memory, as that of the CPU and of software adapters does, and there is not enough.
    pub fn new(
        config: &DecoderConfig,
        dtype: KvDtype,
        blocks: usize,
        device: &ComputeDevice,
    ) -> Result<Self, ModelError> {
        let words = Self::layer_block_words(config, dtype).saturating_mul(blocks);
        let needs = (words as u64).saturating_mul(4);
        if needs > device.max_binding() {
            return Err(ModelError::AdapterTooSmall {
                what: format!("a kv cache of {} positions", blocks.saturating_mul(BLOCK)),
                needs,
                allows: device.max_binding(),
            });
        }
        let bytes = (2 * config.layers as u64).saturating_mul(needs);
        match device.adapter() {
            Some(adapter) if !adapter.software => {}
            adapter => {
                let own = adapter.is_none();
                check_memory(config, dtype, blocks, bytes, memory::available(), own)?;
            }
        }
        // Attention reads no position before it is written.
        let blank = || device.unwritten_words(words);
        let layers = (0..config.layers)
            .map(|_| Ok(Some((blank()?, blank()?))))
            .collect::<Result<_, DeviceError>>()?;
        Ok(Self {
            layers,
            blocks,
            dtype,
            bytes,
            recordings: Recordings::default(),
            ahead: None,
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

/// Sees that a cache in the host's memory can be had, where `available` bytes are or nobody knows.
/// One of this process's `own` is tried too, since an allocation that the system refuses aborts; in
/// a browser, where the adapter is another process, that would grow the module's memory for good.
fn check_memory(
    config: &DecoderConfig,
    dtype: KvDtype,
    blocks: usize,
    needs: u64,
    available: Option<u64>,
    own: bool,
) -> Result<(), ModelError> {
    let most = available.unwrap_or(u64::MAX);
    let can_have = || {
        usize::try_from(needs).is_ok_and(|needs| Vec::<u8>::new().try_reserve_exact(needs).is_ok())
    };
    // Slots are numbered with 32 bits.
    let numbered = blocks <= u32::MAX as usize / BLOCK;
    if numbered && needs <= most && (!own || can_have()) {
        return Ok(());
    }
    let block = KvCache::block_bytes(config, dtype).max(1);
    let available = most.min(needs.saturating_sub(1));
    Err(ModelError::OutOfMemory {
        positions: blocks.saturating_mul(BLOCK),
        needs,
        available,
        fits: (available / block).saturating_mul(BLOCK as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> DecoderConfig {
        let json = r#"{
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 64,
            "num_hidden_layers": 32, "num_attention_heads": 2, "num_key_value_heads": 2,
            "vocab_size": 100, "max_position_embeddings": 268435456
        }"#;
        DecoderConfig::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_cache_that_memory_cannot_hold_is_refused_with_what_fits() {
        let config = config();
        let block = KvCache::block_bytes(&config, KvDtype::F16);
        let check = |blocks: usize, available: u64| {
            let needs = block * blocks as u64;
            check_memory(&config, KvDtype::F16, blocks, needs, Some(available), true)
        };
        check(10, 10 * block).unwrap();
        let error = check(10, 3 * block + 5).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "a kv cache of 320 positions needs {} bytes and the host has at most {} left; choose at most 96 positions, or free memory",
                10 * block,
                3 * block + 5
            )
        );
    }

    #[test]
    fn bytes_take_half_of_halves_and_a_scale_for_each_head() {
        let config = config();
        let bytes = |dtype| KvCache::block_bytes(&config, dtype);
        // Two heads of 32 in 32 layers, keys and values.
        let position = |head: u64| 2 * 32 * 2 * head * BLOCK as u64;
        assert_eq!(bytes(KvDtype::F32), position(32 * 4));
        assert_eq!(bytes(KvDtype::F16), position(32 * 2));
        assert_eq!(bytes(KvDtype::Q8), position(32 + 4));
    }

    #[test]
    fn no_context_makes_the_cpu_allocate_without_bounds() {
        let (config, cpu) = (config(), ComputeDevice::cpu());
        for blocks in [usize::MAX, config.context / BLOCK, u32::MAX as usize] {
            let refused = KvCache::new(&config, KvDtype::F32, blocks, &cpu);
            assert!(matches!(refused, Err(ModelError::OutOfMemory { .. })));
        }
        assert_eq!(
            KvCache::new(&config, KvDtype::F16, 4, &cpu)
                .unwrap()
                .blocks(),
            4
        );
    }
}
