//! Decides what each step runs; pure bookkeeping, without a device.
//!
//! A step takes one token of every sequence that generates, and fills what is left of its budget of
//! tokens and rows with chunks of prompts: half of it is the oldest one's, so that a short prompt need
//! not wait for all of a long one, and the oldest has what the others leave too. Sequences are admitted in the order of their
//! arrival, when there are blocks for all tokens that they have; while they generate they grow block
//! by block. Where no block is free, the youngest running sequence gives up all of its blocks and
//! waits again, to be computed anew later. So the oldest sequence always comes to its end, then the
//! next one: nothing starves.
//!
//! Invariant: every running sequence is older than every waiting one, and both lists are in the
//! order of arrival.

use std::collections::VecDeque;
use std::ops::Range;

use fireside_model::BLOCK;

use crate::blocks::{BlockPool, Prefix, blocks_for};
use crate::sequence::{Sequence, SequenceId};

/// The bounds of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Most tokens in a step; at least `sequences`.
    pub(crate) tokens: usize,
    /// Most sequences that run at once.
    pub(crate) sequences: usize,
    /// Most rows of logits of a step; at least `sequences`.
    pub(crate) rows: usize,
}

/// Consecutive tokens of a sequence to run in a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedChunk {
    pub(crate) id: SequenceId,
    /// Position of the first token.
    pub(crate) start: usize,
    /// Number of tokens.
    pub(crate) len: usize,
    /// The positions in it that are to be scored.
    pub(crate) scores: Range<usize>,
    /// Whether it ends with the sequence's last token, so that the next one is to be selected.
    /// False where that token is scored: then nothing follows it.
    pub(crate) selects: bool,
}

impl PlannedChunk {
    /// Whether it does nothing but select the token after a single one.
    pub(crate) fn decodes(&self) -> bool {
        self.selects && self.len == 1 && self.scores.is_empty()
    }
}

/// What a step runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) chunks: Vec<PlannedChunk>,
    /// Sequences that begin, and how many tokens of their fronts were cached.
    pub(crate) begun: Vec<(SequenceId, usize)>,
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
    /// A scheduler over the blocks of the cache.
    pub(crate) fn new(budget: Budget, pool: BlockPool) -> Self {
        Self {
            budget,
            pool,
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

    /// Tokens of the sequences that wait.
    pub(crate) fn waiting_tokens(&self) -> usize {
        self.waiting.iter().map(|s| s.tokens().len()).sum()
    }

    /// Number of sequences that run.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Takes a sequence that is younger than all others. One that would not fit into the cache even
    /// alone is given back.
    pub(crate) fn add(&mut self, sequence: Sequence) -> Result<(), Box<Sequence>> {
        if blocks_for(sequence.most_positions()) > self.pool.total() {
            return Err(Box::new(sequence));
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

    /// Caches the full blocks of what a running sequence has run.
    pub(crate) fn settle(&mut self, id: SequenceId) {
        if let Some(sequence) = self.position(id).and_then(|at| self.running.get_mut(at)) {
            let mut table = std::mem::take(&mut sequence.table);
            self.pool.settle(&mut table, sequence.settled());
            sequence.table = table;
        }
    }

    /// How many positions a running sequence could have with the blocks that hold nothing.
    pub(crate) fn room(&self, id: SequenceId) -> usize {
        self.running_sequence(id).map_or(0, |sequence| {
            let free = self.pool.free().saturating_mul(BLOCK);
            let positions = sequence.table.positions().saturating_add(free);
            positions.min(sequence.most_positions())
        })
    }

    /// Gives a running sequence blocks for so many positions, if there are any that hold nothing.
    pub(crate) fn reach(&mut self, id: SequenceId, positions: usize) -> bool {
        let free = self.pool.free();
        self.extend(id, positions, free)
    }

    /// Gives a running sequence the block for the token after its next one, which the next plan would give it,
    /// if there is any.
    pub(crate) fn reach_next(&mut self, id: SequenceId) -> bool {
        let positions = self.running_sequence(id).map(|own| own.tokens().len() + 1);
        let available = self.pool.available();
        positions.is_some_and(|positions| self.extend(id, positions, available))
    }

    /// Gives a running sequence at most so many blocks for so many positions that it may come to.
    fn extend(&mut self, id: SequenceId, positions: usize, most: usize) -> bool {
        let Some(sequence) = self.position(id).and_then(|at| self.running.get_mut(at)) else {
            return false;
        };
        positions <= sequence.most_positions()
            && sequence.table.missing(positions) <= most
            && self.pool.grow(&mut sequence.table, positions).is_ok()
    }

    /// Takes back the blocks of a running sequence that it has no tokens for.
    pub(crate) fn shrink(&mut self, id: SequenceId) {
        if let Some(sequence) = self.position(id).and_then(|at| self.running.get_mut(at)) {
            let positions = sequence.tokens().len();
            self.pool.shrink(&mut sequence.table, positions);
        }
    }

    /// A root for sequences whose keys and values depend on more than the tokens.
    pub(crate) fn root(&mut self) -> Prefix {
        self.pool.fresh_prefix()
    }

    /// Number of sequences of a root.
    pub(crate) fn rooted(&self, root: Prefix) -> usize {
        let all = self.waiting.iter().chain(&self.running);
        all.filter(|sequence| sequence.root() == root).count()
    }

    /// Forgets everything that is cached.
    pub(crate) fn clear_cache(&mut self) {
        self.pool.clear();
    }

    /// Ends a sequence, wherever it is, and gives up its blocks; what is in them stays cached. False
    /// if there is none.
    pub(crate) fn remove(&mut self, id: SequenceId) -> bool {
        if let Some(at) = self.position(id) {
            let mut sequence = self.running.remove(at);
            let mut table = std::mem::take(&mut sequence.table);
            self.pool.settle(&mut table, sequence.kept());
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
        let mut left = self.budget;
        self.plan_decode(&mut plan, &mut left);
        let mut prompts: VecDeque<usize> = (0..self.running.len())
            .filter(|at| self.running.get(*at).is_some_and(|s| s.pending() > 1))
            .collect();
        if prompts.is_empty() && left.tokens > 0 && left.rows > 0 && self.admit() {
            prompts.push_back(self.running.len() - 1);
        }
        let oldest = prompts.pop_front();
        // The oldest prompt has half of what is left to itself, and what the younger ones leave.
        let own = oldest.and_then(|at| self.running.get(at));
        let own = own.map_or(0, |sequence| {
            sequence.pending().min(left.tokens.div_ceil(2))
        });
        let own_rows = if own > 0 { left.rows.div_ceil(2) } else { 0 };
        left.tokens -= own;
        left.rows -= own_rows;
        for at in prompts {
            if left.tokens > 0 {
                self.plan_prefill(at, &mut plan, &mut left);
            }
        }
        while left.tokens > 0 && left.rows > 0 && self.admit() {
            self.plan_prefill(self.running.len() - 1, &mut plan, &mut left);
        }
        left.tokens += own;
        left.rows += own_rows;
        if let Some(at) = oldest
            && left.tokens > 0
        {
            self.plan_prefill(at, &mut plan, &mut left);
        }
        plan
    }

    /// As many tokens of the running sequence at `at` as the budget allows, unless it is better held
    /// back.
    fn plan_prefill(&mut self, at: usize, plan: &mut Plan, left: &mut Budget) {
        if self.running.get(at).is_some_and(|s| !s.begun()) {
            if self.is_held_back(at) {
                return;
            }
            self.reuse(at);
        }
        if let Some(sequence) = self.running.get(at)
            && push_chunk(plan, sequence, left)
            && !sequence.begun()
        {
            plan.begun.push((sequence.id, sequence.computed()));
        }
    }

    /// Whether an older sequence that is being run will leave more of this one's front in the cache
    /// than there is now.
    fn is_held_back(&self, at: usize) -> bool {
        let Some((sequence, older)) = self.running.get(..=at).and_then(<[Sequence]>::split_last)
        else {
            return false;
        };
        let tokens = sequence.skippable();
        let next = self.pool.cached(sequence.root(), tokens) + BLOCK;
        next <= tokens.len()
            && older.iter().any(|older| {
                older.pending() > 1
                    && self.pool.caches(&older.table)
                    && older.root() == sequence.root()
                    && older.tokens().get(..next) == tokens.get(..next)
            })
    }

    /// Takes what came into the cache since the running sequence at `at` was given its blocks.
    fn reuse(&mut self, at: usize) {
        let Some(sequence) = self.running.get_mut(at) else {
            return;
        };
        let root = sequence.root();
        if self.pool.cached(root, sequence.skippable()) > sequence.computed() {
            self.pool.release(sequence.evict());
            // It takes no more than it gave back.
            let positions = sequence.tokens().len();
            if let Some(table) = self.pool.open(root, sequence.skippable(), positions, 0) {
                sequence.place(table);
            }
        }
    }

    /// One token of each sequence that has only its last one to run, oldest first.
    fn plan_decode(&mut self, plan: &mut Plan, left: &mut Budget) {
        let mut at = 0;
        while at < self.running.len() && left.tokens > 0 {
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
        let Some(first) = self.waiting.front() else {
            return false;
        };
        // A spare block for each running sequence, so that a newcomer is not sent away at once.
        let (tokens, positions) = (first.skippable(), first.tokens().len());
        let spare = self.running.len();
        let Some(table) = self.pool.open(first.root(), tokens, positions, spare) else {
            return false;
        };
        match self.waiting.pop_front() {
            Some(mut sequence) => {
                sequence.place(table);
                self.running.push(sequence);
                true
            }
            None => false,
        }
    }

    fn position(&self, id: SequenceId) -> Option<usize> {
        self.running
            .binary_search_by_key(&id, |sequence| sequence.id)
            .ok()
    }
}

/// Plans as many pending tokens as the budget allows. False, and nothing changes, where no row is
/// left for the first one.
fn push_chunk(plan: &mut Plan, sequence: &Sequence, left: &mut Budget) -> bool {
    let start = sequence.computed();
    let last = sequence.tokens().len();
    let unscored = sequence.unscored();
    let mut end = last.min(start + left.tokens);
    // What is run before the first position to be scored is cached, or was scored before.
    let first = unscored.start.max(start);
    let scored_until = |end: usize| unscored.end.min(end).max(first);
    if scored_until(end) - first > left.rows {
        end = first + left.rows;
    }
    let mut scores = first..scored_until(end);
    let mut selects = end == last && scores.end < last;
    if selects && scores.len() == left.rows {
        end -= 1;
        selects = false;
        scores = first..scored_until(end);
    }
    if end <= start {
        return false;
    }
    left.tokens -= end - start;
    left.rows -= scores.len() + usize::from(selects);
    plan.chunks.push(PlannedChunk {
        id: sequence.id,
        start,
        len: end - start,
        scores,
        selects,
    });
    true
}

#[cfg(test)]
mod tests;
