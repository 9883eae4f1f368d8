//! How large a KV cache is to be: from the context, the sequences and the memory.

use fireside_model::{BLOCK, DecoderConfig, KvCache, KvDtype};

use crate::Error;
use crate::draft::MOST_SPECULATING;

/// Bytes where neither positions nor memory are chosen.
const DEFAULT_MEMORY: u64 = 1 << 30;

/// The size of a KV cache, which all sequences share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSize {
    /// Positions, where they are chosen.
    pub positions: Option<usize>,
    /// Where they are not: positions that are planned for a sequence, the model's context but at
    /// most this; 8192 by default.
    pub context: usize,
    /// And the sequences that are planned for, 1 by default.
    pub sequences: usize,
    /// Bytes that it may take. Where neither they nor positions are chosen, 1 GiB.
    pub memory: Option<u64>,
}

impl Default for CacheSize {
    fn default() -> Self {
        Self {
            positions: None,
            context: 8192,
            sequences: 1,
            memory: None,
        }
    }
}

impl CacheSize {
    /// This many positions.
    pub fn of(positions: usize) -> Self {
        Self {
            positions: Some(positions),
            ..Self::default()
        }
    }

    /// The positions for a model, in whole blocks.
    ///
    /// # Errors
    ///
    /// A size of 0, chosen positions that take more than the memory, or memory that holds not even
    /// one block. Whether the device has as much is seen when the cache is made.
    pub fn positions(&self, config: &DecoderConfig, kv: KvDtype) -> Result<usize, Error> {
        let chosen = self.positions.unwrap_or(1);
        for (field, size) in [
            ("positions", chosen),
            ("context", self.context),
            ("sequences", self.sequences),
        ] {
            if size == 0 {
                return Err(Error::invalid(field, 0, "at least 1"));
            }
        }
        let block = KvCache::block_bytes(config, kv).max(1);
        let memory = match (self.memory, self.positions) {
            (Some(memory), _) => memory,
            (None, Some(_)) => u64::MAX,
            (None, None) => DEFAULT_MEMORY.max(block),
        };
        let fits = usize::try_from(memory / block).unwrap_or(usize::MAX);
        let planned = config
            .context
            .min(self.context)
            .div_ceil(BLOCK)
            .saturating_mul(self.sequences);
        let blocks = match self.positions {
            Some(positions) => positions.div_ceil(BLOCK),
            None => planned.min(fits.max(1)),
        };
        if blocks > fits {
            return Err(Error::CacheMemory {
                positions: blocks.saturating_mul(BLOCK),
                needs: block.saturating_mul(blocks as u64),
                memory,
                fits: fits.saturating_mul(BLOCK),
            });
        }
        Ok(blocks.saturating_mul(BLOCK))
    }

    /// The positions for a model that drafts beside one whose cache has so many: as many, but no more than the
    /// sequences that are drafted for at once can have, nor than the memory holds. That is each cache's own: 1 GiB
    /// where none is chosen.
    ///
    /// # Errors
    ///
    /// The chosen memory holds not even one block.
    pub fn draft_positions(
        &self,
        beside: usize,
        config: &DecoderConfig,
        kv: KvDtype,
    ) -> Result<usize, Error> {
        let most = Self {
            context: usize::MAX,
            sequences: MOST_SPECULATING,
            memory: self.memory,
            positions: None,
        };
        Ok(most.positions(config, kv)?.min(beside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model of 8 KiB a block with a context of this many positions.
    fn model(context: usize) -> DecoderConfig {
        let json = format!(
            r#"{{"model_type": "llama", "hidden_size": 64, "intermediate_size": 64,
                "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
                "vocab_size": 100, "max_position_embeddings": {context}}}"#
        );
        let config = DecoderConfig::from_json(json.as_bytes()).unwrap();
        assert_eq!(KvCache::block_bytes(&config, KvDtype::F16), 8192);
        config
    }

    fn positions(size: &CacheSize, context: usize) -> Result<usize, Error> {
        size.positions(&model(context), KvDtype::F16)
    }

    #[test]
    fn by_default_it_is_one_context_within_reason() {
        let size = CacheSize::default();
        assert_eq!(positions(&size, 100), Ok(128));
        assert_eq!(positions(&size, 1 << 27), Ok(8192));
    }

    #[test]
    fn sequences_multiply_it_until_the_memory_is_full() {
        let size = CacheSize {
            sequences: 16,
            ..CacheSize::default()
        };
        assert_eq!(positions(&size, 1024), Ok(16 * 1024));
        let size = CacheSize {
            memory: Some(100 * 8192 + 5),
            ..size
        };
        assert_eq!(positions(&size, 1024), Ok(100 * BLOCK));
        let size = CacheSize {
            sequences: usize::MAX,
            memory: None,
            ..size
        };
        assert_eq!(positions(&size, 1024), Ok((1 << 30) / 8192 * BLOCK));
    }

    #[test]
    fn a_draft_has_what_the_other_model_has_within_four_contexts_and_the_memory() {
        let draft = |memory, beside, context| {
            let size = CacheSize {
                memory,
                ..CacheSize::default()
            };
            size.draft_positions(beside, &model(context), KvDtype::F16)
        };
        assert_eq!(draft(None, 8192, 1 << 20), Ok(8192));
        assert_eq!(draft(None, 1 << 20, 1024), Ok(4 * 1024));
        assert_eq!(draft(None, 1 << 27, 1 << 27), Ok((1 << 30) / 8192 * BLOCK));
        assert_eq!(draft(Some(20 * 8192), 8192, 1 << 20), Ok(20 * BLOCK));
        assert_eq!(draft(Some(1 << 40), 1 << 20, 1024), Ok(4 * 1024));
        draft(Some(5), 8192, 1024).unwrap_err();
    }

    #[test]
    fn a_choice_is_taken_unless_the_memory_says_no() {
        assert_eq!(positions(&CacheSize::of(100_000), 64), Ok(100_000));
        let size = CacheSize {
            memory: Some(10 * 8192),
            ..CacheSize::of(1000)
        };
        let error = positions(&size, 64).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a KV cache of 1024 positions needs 262144 bytes and may take 81920; choose at most 320 positions, or more memory"
        );
        let size = CacheSize {
            memory: Some(5),
            ..CacheSize::default()
        };
        positions(&size, 64).unwrap_err();
        assert_eq!(
            positions(&CacheSize::of(0), 64).unwrap_err().to_string(),
            "positions is 0; expected at least 1"
        );
    }
}
