//! The blocks of the paged KV cache: who holds which.

use fireside_model::BLOCK;

/// Number of blocks that hold `positions` positions.
pub(crate) fn blocks_for(positions: usize) -> usize {
    positions.div_ceil(BLOCK)
}

/// The right to use one block.
///
/// It is neither `Clone` nor `Copy`, and only the pool makes it: who holds it holds the block alone,
/// and giving it back consumes it, so nothing can be freed twice.
#[derive(Debug, PartialEq, Eq)]
struct Block(u32);

/// The blocks of a sequence, in the order of its positions.
///
/// Not `Clone`; it goes back to its pool through [`BlockPool::release`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockTable {
    blocks: Vec<Block>,
}

impl BlockTable {
    /// Positions that the blocks hold.
    #[cfg(test)]
    pub(crate) fn positions(&self) -> usize {
        self.blocks.len() * BLOCK
    }

    /// Numbers of the blocks that cover the first `positions` positions.
    pub(crate) fn covering(&self, positions: usize) -> Vec<u32> {
        self.blocks
            .iter()
            .take(blocks_for(positions))
            .map(|block| block.0)
            .collect()
    }
}

/// All blocks of the cache.
#[derive(Debug)]
pub(crate) struct BlockPool {
    /// Free blocks; the last one is given next.
    free: Vec<Block>,
    total: usize,
}

impl BlockPool {
    /// A pool of `total` free blocks, numbered from 0.
    pub(crate) fn new(total: usize) -> Self {
        let total = total.min(u32::MAX as usize);
        Self {
            free: (0..total as u32).rev().map(Block).collect(),
            total,
        }
    }

    /// Number of free blocks.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// Number of all blocks.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Positions that all blocks together hold.
    pub(crate) fn positions(&self) -> usize {
        self.total.saturating_mul(BLOCK)
    }

    /// Grows a table until it covers `positions`. If too few blocks are free nothing changes, and
    /// the number of missing blocks is the error.
    pub(crate) fn grow(&mut self, table: &mut BlockTable, positions: usize) -> Result<(), usize> {
        let wanted = blocks_for(positions).saturating_sub(table.blocks.len());
        let Some(keep) = self.free.len().checked_sub(wanted) else {
            return Err(wanted - self.free.len());
        };
        table.blocks.extend(self.free.drain(keep..).rev());
        Ok(())
    }

    /// Takes back all blocks of a table.
    pub(crate) fn release(&mut self, table: BlockTable) {
        self.free.extend(table.blocks.into_iter().rev());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_grows_by_whole_blocks_and_only_as_far_as_needed() {
        let mut pool = BlockPool::new(4);
        let mut table = BlockTable::default();
        pool.grow(&mut table, 1).unwrap();
        assert_eq!((table.positions(), pool.free()), (BLOCK, 3));
        pool.grow(&mut table, BLOCK).unwrap();
        assert_eq!(pool.free(), 3);
        pool.grow(&mut table, BLOCK + 1).unwrap();
        assert_eq!(table.covering(BLOCK + 1), [0, 1]);
        assert_eq!(table.covering(BLOCK), [0]);
        assert_eq!(table.covering(0), [0; 0]);
    }

    #[test]
    fn too_few_free_blocks_are_an_error_that_changes_nothing() {
        let mut pool = BlockPool::new(2);
        let mut table = BlockTable::default();
        pool.grow(&mut table, BLOCK).unwrap();
        assert_eq!(pool.grow(&mut table, 4 * BLOCK), Err(2));
        assert_eq!((table.positions(), pool.free()), (BLOCK, 1));
    }

    #[test]
    fn released_blocks_can_be_given_again() {
        let mut pool = BlockPool::new(3);
        let mut first = BlockTable::default();
        let mut second = BlockTable::default();
        pool.grow(&mut first, 2 * BLOCK).unwrap();
        pool.grow(&mut second, BLOCK).unwrap();
        pool.release(first);
        assert_eq!(pool.free(), 2);
        pool.grow(&mut second, 3 * BLOCK).unwrap();
        let mut numbers = second.covering(3 * BLOCK);
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2]);
        pool.release(second);
        assert_eq!(pool.free(), pool.total());
    }
}
