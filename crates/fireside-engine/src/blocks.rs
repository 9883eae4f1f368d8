//! The blocks of the paged KV cache: who holds which, and what can be found in them again.
//!
//! A full block whose keys and values are final is *cached*: it can be found by its own tokens and
//! all tokens before it, and sequences that begin alike then hold the same block. What nobody holds
//! stays cached until its block is needed; the one that was given up first goes first.
//!
//! Invariant: who holds a cached block holds those before it, and gives them up after it. So what
//! follows a block never outlives it, and a block that can be found can be reached.

use std::collections::{BTreeMap, HashMap};

use fireside_model::BLOCK;

/// Number of blocks that hold `positions` positions.
pub(crate) fn blocks_for(positions: usize) -> usize {
    positions.div_ceil(BLOCK)
}

/// The right to read one block, and to write to it while it is not cached.
///
/// It is neither `Clone` nor `Copy`, only the pool makes it, and giving it back consumes it, so
/// nothing can be freed twice.
#[derive(Debug, PartialEq, Eq)]
struct Block(u32);

/// Names the tokens from the first one to the end of a cached block, or, before any token, what else keys and
/// values depend on: a *root*; the default one is that of the model alone. Numbers are never used twice,
/// so that equal names mean equal tokens after equal roots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Prefix(u64);

/// What a cached block holds: its own tokens after those of `before`. It is looked up by its hash
/// and compared as a whole; a collision finds nothing wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Content {
    before: Prefix,
    tokens: [u32; BLOCK],
}

/// The blocks of a sequence, in the order of its positions.
///
/// Not `Clone`; it goes back to its pool through [`BlockPool::release`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockTable {
    blocks: Vec<Block>,
    /// How many blocks of the front are cached, and the name of what they hold.
    cached: usize,
    prefix: Prefix,
    /// How often the cache had been cleared when the table was opened.
    clearings: u64,
}

impl BlockTable {
    /// Positions that the blocks hold.
    pub(crate) fn positions(&self) -> usize {
        self.blocks.len() * BLOCK
    }

    /// Positions of the front whose blocks are cached; nothing is written to them any more.
    pub(crate) fn cached_positions(&self) -> usize {
        self.cached * BLOCK
    }

    /// How many more blocks so many positions need.
    pub(crate) fn missing(&self, positions: usize) -> usize {
        blocks_for(positions).saturating_sub(self.blocks.len())
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

/// The state of one block.
#[derive(Debug, Default)]
struct Slot {
    /// How many tables hold it.
    holders: usize,
    /// What it holds, if it is cached.
    cached: Option<Box<(Content, Prefix)>>,
    /// Its place in [`BlockPool::idle`].
    idle_since: u64,
}

/// All blocks of the cache.
#[derive(Debug)]
pub(crate) struct BlockPool {
    slots: Vec<Slot>,
    /// Blocks that hold nothing; the last one is given next.
    free: Vec<u32>,
    /// Cached blocks that nobody holds, by when they were given up.
    idle: BTreeMap<u64, u32>,
    /// Where to find what is cached.
    index: HashMap<Content, u32>,
    /// Whether anything is cached at all.
    caching: bool,
    clock: u64,
    last_prefix: u64,
    clearings: u64,
}

impl BlockPool {
    /// A pool of `total` free blocks, numbered from 0, that caches what is in them or does not.
    pub(crate) fn new(total: usize, caching: bool) -> Self {
        let total = total.min(u32::MAX as usize);
        Self {
            slots: (0..total).map(|_| Slot::default()).collect(),
            free: (0..total as u32).rev().collect(),
            idle: BTreeMap::new(),
            index: HashMap::new(),
            caching,
            clock: 0,
            last_prefix: 0,
            clearings: 0,
        }
    }

    /// Number of blocks that hold nothing.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// Number of cached blocks that nobody holds.
    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Number of blocks that can be given.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// Number of all blocks.
    pub(crate) fn total(&self) -> usize {
        self.slots.len()
    }

    /// Positions that all blocks together hold.
    pub(crate) fn positions(&self) -> usize {
        self.total().saturating_mul(BLOCK)
    }

    /// A name that nothing has.
    pub(crate) fn fresh_prefix(&mut self) -> Prefix {
        self.last_prefix += 1;
        Prefix(self.last_prefix)
    }

    /// How many tokens of the front are cached, in whole blocks.
    pub(crate) fn cached(&self, root: Prefix, tokens: &[u32]) -> usize {
        self.find(root, tokens).0.len() * BLOCK
    }

    /// The blocks that hold the front of these tokens, and its name.
    fn find(&self, root: Prefix, tokens: &[u32]) -> (Vec<u32>, Prefix) {
        let mut blocks = Vec::new();
        let mut before = root;
        for tokens in whole_blocks(tokens) {
            let content = Content { before, tokens };
            let Some(block) = self.index.get(&content) else {
                break;
            };
            let Some(cached) = self
                .slots
                .get(*block as usize)
                .and_then(|s| s.cached.as_ref())
            else {
                break;
            };
            blocks.push(*block);
            before = cached.1;
        }
        (blocks, before)
    }

    /// A table for so many positions, which begins with the blocks that hold the front of `tokens`
    /// already. `None`, and nothing changes, if fewer than `spare` blocks would be left to be given.
    pub(crate) fn open(
        &mut self,
        root: Prefix,
        tokens: &[u32],
        positions: usize,
        spare: usize,
    ) -> Option<BlockTable> {
        let (found, prefix) = self.find(root, tokens);
        let held = |block: &&u32| {
            self.slots
                .get(**block as usize)
                .is_some_and(|s| s.holders > 0)
        };
        let shared = found.iter().filter(held).count();
        let wanted = blocks_for(positions).saturating_sub(shared);
        if wanted.saturating_add(spare) > self.available() {
            return None;
        }
        let mut table = BlockTable {
            cached: found.len(),
            prefix,
            clearings: self.clearings,
            blocks: Vec::with_capacity(blocks_for(positions)),
        };
        for number in found {
            table.blocks.push(self.hold(number));
        }
        // What is wanted was counted.
        let _ = self.grow(&mut table, positions);
        Some(table)
    }

    /// Grows a table until it covers `positions`. If too few blocks can be given nothing changes,
    /// and the number of missing blocks is the error.
    pub(crate) fn grow(&mut self, table: &mut BlockTable, positions: usize) -> Result<(), usize> {
        let wanted = table.missing(positions);
        if wanted > self.available() {
            return Err(wanted - self.available());
        }
        for _ in 0..wanted {
            let Some(number) = self.free.pop().or_else(|| self.evict()) else {
                break;
            };
            let block = self.hold(number);
            table.blocks.push(block);
        }
        Ok(())
    }

    /// Takes back the blocks of a table past so many positions; none of them is cached.
    pub(crate) fn shrink(&mut self, table: &mut BlockTable, positions: usize) {
        let kept = blocks_for(positions).max(table.cached);
        for block in table.blocks.drain(kept.min(table.blocks.len())..).rev() {
            self.give_up(block);
        }
    }

    /// Caches the full blocks of a table. `tokens` are those of the front whose keys and values are
    /// in their blocks and will not be written again.
    ///
    /// Where another block holds the same already the table takes that one.
    pub(crate) fn settle(&mut self, table: &mut BlockTable, tokens: &[u32]) {
        if !self.caches(table) {
            return;
        }
        for (at, tokens) in whole_blocks(tokens).enumerate().skip(table.cached) {
            let Some(own) = table.blocks.get_mut(at) else {
                return;
            };
            let content = Content {
                before: table.prefix,
                tokens,
            };
            let known = self.index.get(&content).copied();
            let number = known.unwrap_or(own.0);
            if known.is_some() {
                let block = self.hold(number);
                let own = std::mem::replace(own, block);
                self.give_up(own);
            } else {
                let entry = (content.clone(), self.fresh_prefix());
                if let Some(slot) = self.slots.get_mut(number as usize) {
                    slot.cached = Some(Box::new(entry));
                }
                self.index.insert(content, number);
            }
            let slot = self.slots.get(number as usize);
            let Some(cached) = slot.and_then(|slot| slot.cached.as_ref()) else {
                return;
            };
            table.prefix = cached.1;
            table.cached = at + 1;
        }
    }

    /// Whether what the table will hold is going to be cached.
    pub(crate) fn caches(&self, table: &BlockTable) -> bool {
        self.caching && table.clearings == self.clearings
    }

    /// Takes back all blocks of a table; those that are cached stay so.
    pub(crate) fn release(&mut self, table: BlockTable) {
        for block in table.blocks.into_iter().rev() {
            self.give_up(block);
        }
    }

    /// Forgets everything that is cached. Tables keep their blocks, which will not be cached again.
    pub(crate) fn clear(&mut self) {
        self.clearings += 1;
        self.index.clear();
        for slot in &mut self.slots {
            slot.cached = None;
        }
        let idle = std::mem::take(&mut self.idle);
        self.free.extend(idle.into_values().rev());
    }

    /// How many tables hold each block that any holds.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> BTreeMap<u32, usize> {
        (0..)
            .zip(self.slots.iter().map(|slot| slot.holders))
            .filter(|(_, holders)| *holders > 0)
            .collect()
    }

    fn hold(&mut self, number: u32) -> Block {
        if let Some(slot) = self.slots.get_mut(number as usize) {
            if slot.holders == 0 {
                self.idle.remove(&slot.idle_since);
            }
            slot.holders += 1;
        }
        Block(number)
    }

    fn give_up(&mut self, Block(number): Block) {
        let Some(slot) = self.slots.get_mut(number as usize) else {
            return;
        };
        slot.holders = slot.holders.saturating_sub(1);
        if slot.holders > 0 {
            return;
        }
        if slot.cached.is_some() {
            self.clock += 1;
            slot.idle_since = self.clock;
            self.idle.insert(self.clock, number);
        } else {
            self.free.push(number);
        }
    }

    /// Makes the block that has been idle longest hold nothing.
    fn evict(&mut self) -> Option<u32> {
        let (_, number) = self.idle.pop_first()?;
        let slot = self.slots.get_mut(number as usize)?;
        slot.idle_since = 0;
        if let Some(entry) = slot.cached.take() {
            self.index.remove(&entry.0);
        }
        Some(number)
    }
}

/// The tokens of each full block.
fn whole_blocks(tokens: &[u32]) -> impl Iterator<Item = [u32; BLOCK]> + '_ {
    tokens.as_chunks::<BLOCK>().0.iter().copied()
}

#[cfg(test)]
mod tests;
