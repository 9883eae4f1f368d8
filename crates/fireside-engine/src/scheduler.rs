//! Decides what each step runs; pure bookkeeping, without a device.
//!
//! A step takes one token of every sequence that generates, and fills what is left of its token
//! budget with chunks of prompts, oldest first. Sequences are admitted in the order of their
//! arrival, when there are blocks for all tokens that they have; while they generate they grow block
//! by block. Where no block is free, the youngest running sequence gives up all of its blocks and
//! waits again, to be computed anew later. So the oldest sequence always comes to its end, then the
//! next one: nothing starves.
//!
//! Invariant: every running sequence is older than every waiting one, and both lists are in the
//! order of arrival.

use std::collections::VecDeque;

use crate::blocks::{BlockPool, blocks_for};
use crate::sequence::{Sequence, SequenceId};

/// The bounds of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Most tokens in a step; at least `sequences`.
    pub(crate) tokens: usize,
    /// Most sequences that run at once.
    pub(crate) sequences: usize,
}

/// Consecutive tokens of a sequence to run in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlannedChunk {
    pub(crate) id: SequenceId,
    /// Position of the first token.
    pub(crate) start: usize,
    /// Number of tokens.
    pub(crate) len: usize,
    /// Whether it ends with the sequence's last token, so that the next one is to be selected.
    pub(crate) selects: bool,
}

/// What a step runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) chunks: Vec<PlannedChunk>,
    /// Sequences that lost their blocks to older ones.
    pub(crate) preempted: Vec<SequenceId>,
}

/// The sequences, the blocks, and who is next.
#[derive(Debug)]
pub(crate) struct Scheduler {
    budget: Budget,
    pool: BlockPool,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
}

impl Scheduler {
    /// A scheduler over `blocks` blocks of the cache.
    pub(crate) fn new(budget: Budget, blocks: usize) -> Self {
        Self {
            budget,
            pool: BlockPool::new(blocks),
            waiting: VecDeque::new(),
            running: Vec::new(),
        }
    }

    /// The blocks, to be counted.
    pub(crate) fn pool(&self) -> &BlockPool {
        &self.pool
    }

    /// Number of sequences that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Number of sequences that run.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Takes a sequence that is younger than all others. One that would not fit into the cache even
    /// alone is given back.
    pub(crate) fn add(&mut self, sequence: Sequence) -> Result<(), Sequence> {
        if blocks_for(sequence.most_positions()) > self.pool.total() {
            return Err(sequence);
        }
        self.waiting.push_back(sequence);
        Ok(())
    }

    /// A running sequence.
    pub(crate) fn running_sequence(&self, id: SequenceId) -> Option<&Sequence> {
        self.position(id).and_then(|at| self.running.get(at))
    }

    /// A running sequence, to be advanced after a step.
    pub(crate) fn running_sequence_mut(&mut self, id: SequenceId) -> Option<&mut Sequence> {
        self.position(id).and_then(|at| self.running.get_mut(at))
    }

    /// Ends a sequence, wherever it is, and frees its blocks. False if there is none.
    pub(crate) fn remove(&mut self, id: SequenceId) -> bool {
        if let Some(at) = self.position(id) {
            let table = self.running.remove(at).evict();
            self.pool.release(table);
            true
        } else if let Ok(at) = self
            .waiting
            .binary_search_by_key(&id, |sequence| sequence.id)
        {
            self.waiting.remove(at).is_some()
        } else {
            false
        }
    }

    /// Decides what the next step runs, and gives each chunk's sequence the blocks for it.
    ///
    /// Nothing is noted as run: planning again without [`Sequence::advance`] plans the same tokens.
    pub(crate) fn plan(&mut self) -> Plan {
        let mut plan = Plan::default();
        let mut left = self.budget.tokens;
        self.plan_decode(&mut plan, &mut left);
        for sequence in &self.running {
            if left == 0 {
                return plan;
            }
            if sequence.pending() > 1 {
                push_chunk(&mut plan, sequence, &mut left);
            }
        }
        while left > 0 && self.admit() {
            if let Some(sequence) = self.running.last() {
                push_chunk(&mut plan, sequence, &mut left);
            }
        }
        plan
    }

    /// One token of each sequence that has only its last one to run, oldest first.
    fn plan_decode(&mut self, plan: &mut Plan, left: &mut usize) {
        let mut at = 0;
        while at < self.running.len() && *left > 0 {
            if self.running[at].pending() != 1 {
                at += 1;
                continue;
            }
            // The victims are younger than this sequence or itself, so none of them is planned yet.
            while !self.grow(at) && at < self.running.len() {
                plan.preempted.extend(self.preempt_youngest());
            }
            if let Some(sequence) = self.running.get(at) {
                push_chunk(plan, sequence, left);
            }
            at += 1;
        }
    }

    /// Gives the running sequence at `at` blocks for all of its tokens, if there are any.
    fn grow(&mut self, at: usize) -> bool {
        self.running.get_mut(at).is_some_and(|sequence| {
            let positions = sequence.tokens().len();
            self.pool.grow(&mut sequence.table, positions).is_ok()
        })
    }

    /// Sends the youngest running sequence back to the front of the queue.
    fn preempt_youngest(&mut self) -> Option<SequenceId> {
        let mut sequence = self.running.pop()?;
        self.pool.release(sequence.evict());
        let id = sequence.id;
        self.waiting.push_front(sequence);
        Some(id)
    }

    /// Lets the first in the queue run, if it may.
    fn admit(&mut self) -> bool {
        if self.running.len() >= self.budget.sequences {
            return false;
        }
        let Some(positions) = self.waiting.front().map(|sequence| sequence.tokens().len()) else {
            return false;
        };
        // A spare block for each running sequence, so that a newcomer is not sent away at once.
        if blocks_for(positions) + self.running.len() > self.pool.free() {
            return false;
        }
        let Some(mut sequence) = self.waiting.pop_front() else {
            return false;
        };
        let granted = self.pool.grow(&mut sequence.table, positions).is_ok();
        if granted {
            self.running.push(sequence);
        } else {
            self.waiting.push_front(sequence);
        }
        granted
    }

    fn position(&self, id: SequenceId) -> Option<usize> {
        self.running
            .binary_search_by_key(&id, |sequence| sequence.id)
            .ok()
    }
}

/// Plans as many pending tokens as the budget allows.
fn push_chunk(plan: &mut Plan, sequence: &Sequence, left: &mut usize) {
    let len = sequence.pending().min(*left);
    *left -= len;
    plan.chunks.push(PlannedChunk {
        id: sequence.id,
        start: sequence.computed(),
        len,
        selects: len == sequence.pending(),
    });
}

#[cfg(test)]
mod tests;
