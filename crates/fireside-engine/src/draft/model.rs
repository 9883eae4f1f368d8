//! A smaller model that guesses: it follows the sequences that may be drafted for, and takes a step for each token.
//!
//! It chooses as the sequence does, with the same temperature, noise, filters and penalties: where its logits are
//! close to those of the large model, the same token comes first with the same noise, so that sampled text is
//! guessed nearly as well as greedy text.
//!
//! Its cache follows late: what it has not seen of a sequence (the prompt, tokens that were chosen without it, the
//! one that was chosen instead of a guess) comes in its next step, before the first guess, with as many tokens of a
//! step as any prompt may have; positions of guesses that were wrong are written again. So a prompt's first token
//! does not wait for it, and sequences that it never drafts for cost nothing. Nor does a long prompt come for a few
//! tokens, and of those with much to come one comes at a time: the others may begin alike.

use std::collections::BTreeMap;

use fireside_model::BLOCK;
use fireside_model::step::{Chunk, RowSelection, Selected, Step};
use web_time::{Duration, Instant};

use super::{Drafts, MOST_SPECULATING, Wish};
use crate::blocks::{BlockPool, BlockTable, Prefix};
use crate::results;
use crate::sequence::SequenceId;
use crate::{Executor, ExecutorError, ExecutorLimits};

/// Most tokens that are caught up of a sequence for each one that may still come of it: reading them takes about as
/// long as a few steps, which the guesses have to save.
const WORTH: usize = 32;

/// A model that drafts, and the blocks of its cache.
#[derive(Debug)]
pub(crate) struct DraftModel<E> {
    executor: E,
    limits: ExecutorLimits,
    /// Tokens that both models have are below it.
    vocab: usize,
    /// Most tokens of a step.
    step_tokens: usize,
    /// Blocks of its own. What ended sequences leave there shortens the next turn of a conversation.
    pool: BlockPool,
    followers: BTreeMap<SequenceId, Follower>,
    /// Number of the last round, for the order in which followers lose their blocks.
    round: u64,
}

/// What a model did to draft.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) steps: u64,
    pub(super) took: Duration,
}

/// What the cache holds of a sequence.
#[derive(Debug, Default)]
struct Follower {
    table: BlockTable,
    /// How many tokens are in the cache, guesses included.
    held: usize,
    /// How many tokens the sequence had when these guesses were made.
    start: usize,
    guesses: Vec<u32>,
    /// When its sequence last was in a step of drafts.
    round: u64,
}

impl Follower {
    /// Holds on to what the sequence's tokens say is right. The last one is run again in any case, as its row is
    /// wanted.
    fn follow(&mut self, tokens: &[u32]) {
        let since = tokens.get(self.start..).unwrap_or_default();
        let guessed = self.guesses.iter().zip(since);
        let right = guessed.take_while(|(guess, token)| guess == token).count();
        let known = (self.start + right).min(tokens.len().saturating_sub(1));
        self.held = self.held.min(known);
        self.start = tokens.len();
        self.guesses.clear();
    }
}

/// A sequence in a step: how many of its tokens are run, and whether a guess comes of it.
struct Part {
    id: SequenceId,
    len: usize,
    guesses: bool,
}

impl<E: Executor> DraftModel<E> {
    /// A model that drafts for one of so many tokens, in steps of at most `step_tokens`.
    pub(crate) fn new(executor: E, vocab: usize, step_tokens: usize, prefix_cache: bool) -> Self {
        let limits = executor.limits();
        let caching = prefix_cache && executor.shares_prefixes();
        Self {
            pool: BlockPool::new(limits.blocks, caching),
            vocab: vocab.min(limits.vocab),
            step_tokens: step_tokens.min(limits.step_tokens),
            executor,
            limits,
            followers: BTreeMap::new(),
            round: 0,
        }
    }

    /// The executor.
    pub(crate) fn executor(&self) -> &E {
        &self.executor
    }

    /// Guesses for the sequences that wish for any and that it has room for. Those that it has much to catch up of
    /// may get none yet; a draft without a token is one that it could not make.
    pub(super) async fn draft(
        &mut self,
        wishes: &[Wish<'_>],
        ahead: bool,
        work: &mut Work,
    ) -> Result<Drafts, ExecutorError> {
        self.round += 1;
        for wish in wishes {
            if let Some(own) = self.followers.get_mut(&wish.id) {
                own.round = self.round;
            }
        }
        let mut guessing = self.admit_all(wishes);
        let admitted = guessing.clone();
        let mut drafts = Drafts::new();
        while !guessing.is_empty() {
            let (mut step, parts) = self.build(&guessing);
            if ahead {
                step.next = self.build_next(&guessing, &parts).map(Box::new);
            }
            let began = Instant::now();
            let selected = self.executor.step(&step).await?;
            work.took += began.elapsed();
            results::check(&step, &selected, self.limits.vocab)?;
            work.steps += 1;
            for (id, guess) in self.take(&mut guessing, &parts, &selected)? {
                drafts.entry(id).or_default().extend(guess);
            }
        }
        for wish in admitted {
            if let Some(own) = self.followers.get_mut(&wish.id) {
                let settled = own.held.min(wish.tokens.len() - 1);
                self.pool.settle(&mut own.table, &wish.tokens[..settled]);
            }
        }
        Ok(drafts)
    }

    /// The wishes that can be met. Who has the least to catch up comes first, so that a long prompt stops nobody's
    /// drafts; of those that are far behind there is but one, as the next may find in the cache what it leaves there.
    fn admit_all<'a>(&mut self, wishes: &[Wish<'a>]) -> Vec<Wish<'a>> {
        let wishes = wishes.iter().filter(|wish| wish.most > 0);
        let mut wishes: Vec<_> = wishes.map(|wish| (self.unseen(wish), wish)).collect();
        wishes.sort_by_key(|(unseen, _)| *unseen);
        let rows = self.limits.step_rows.min(self.limits.step_sequences);
        let mut admitted = Vec::new();
        let mut catching_up = false;
        for (unseen, wish) in wishes {
            let behind = unseen > BLOCK;
            if admitted.len() == rows.min(MOST_SPECULATING) || (behind && catching_up) {
                break;
            }
            if unseen > WORTH.saturating_mul(wish.generation.left()) {
                self.leave(wish.id);
                continue;
            }
            let own = self.admit(wish);
            catching_up |= behind && own.is_some();
            admitted.extend(own);
        }
        admitted
    }

    /// How many tokens of a sequence the cache does not hold; one that begins finds there what others left.
    fn unseen(&mut self, wish: &Wish<'_>) -> usize {
        let Wish { id, tokens, .. } = *wish;
        let held = match self.followers.get_mut(&id) {
            Some(own) => {
                own.follow(tokens);
                own.held
            }
            None => self.pool.cached(Prefix::default(), front(tokens)),
        };
        tokens.len() - held
    }

    /// Sees what of a wish can be met, and gives its sequence the blocks for it.
    fn admit<'a>(&mut self, wish: &Wish<'a>) -> Option<Wish<'a>> {
        let Wish { id, tokens, .. } = *wish;
        // The last guess is not run, so it needs no position.
        let room = (self.limits.context + 1).saturating_sub(tokens.len());
        let most = wish.most.min(room);
        let mut unseen = tokens[self.held(id)..].iter();
        let known = unseen.all(|token| (*token as usize) < self.limits.vocab);
        if most == 0 || !known || !self.reach(id, tokens, tokens.len() + most - 1) {
            self.leave(id);
            return None;
        }
        Some(Wish { most, ..*wish })
    }

    /// Gives a sequence blocks for so many positions, those of others that are not drafted for now if need be.
    fn reach(&mut self, id: SequenceId, tokens: &[u32], positions: usize) -> bool {
        loop {
            let reached = match self.followers.get_mut(&id) {
                Some(own) => self.pool.grow(&mut own.table, positions).is_ok(),
                None => self.open(id, tokens, positions),
            };
            if reached {
                return true;
            }
            let idle = self.followers.iter().filter(|(_, f)| f.round < self.round);
            let Some(oldest) = idle.min_by_key(|(_, f)| f.round).map(|(id, _)| *id) else {
                return false;
            };
            self.leave(oldest);
        }
    }

    /// Begins to follow a sequence, with what the cache holds of its front.
    fn open(&mut self, id: SequenceId, tokens: &[u32], positions: usize) -> bool {
        // The model has no LoRA adapters, so all sequences have one root.
        let root = Prefix::default();
        let table = self.pool.open(root, front(tokens), positions, 0);
        let Some(table) = table else {
            return false;
        };
        let own = Follower {
            held: table.cached_positions(),
            start: tokens.len(),
            round: self.round,
            guesses: Vec::new(),
            table,
        };
        self.followers.insert(id, own);
        true
    }

    /// How many tokens of a sequence are in the cache.
    fn held(&self, id: SequenceId) -> usize {
        self.followers.get(&id).map_or(0, |own| own.held)
    }

    /// The next step: of each sequence what the cache does not hold yet, as far as the step's tokens go.
    fn build(&self, guessing: &[Wish<'_>]) -> (Step, Vec<Part>) {
        let mut step = Step::default();
        let mut parts = Vec::new();
        let mut left = self.step_tokens;
        for wish in guessing {
            let Some(own) = self.followers.get(&wish.id) else {
                continue;
            };
            let text = wish.tokens.iter().chain(&own.guesses).skip(own.held);
            let tokens: Vec<u32> = text.copied().take(left).collect();
            let end = own.held + tokens.len();
            if tokens.is_empty() {
                continue;
            }
            let guesses = end == wish.tokens.len() + own.guesses.len();
            let row = || self.known(wish.generation.guessing_row(&own.guesses));
            left -= tokens.len();
            parts.push(Part {
                id: wish.id,
                len: tokens.len(),
                guesses,
            });
            step.chunks.push(Chunk {
                start: own.held,
                blocks: own.table.covering(end),
                rows: guesses
                    .then(|| (tokens.len() - 1, row()))
                    .into_iter()
                    .collect(),
                tokens,
                ..Chunk::default()
            });
        }
        (step, parts)
    }

    /// The step after one, where all of it is known but for the tokens: each sequence guesses once more, and the
    /// device chooses.
    fn build_next(&self, guessing: &[Wish<'_>], parts: &[Part]) -> Option<Step> {
        if parts.len() < guessing.len() || !self.executor.shares_prefixes() {
            return None;
        }
        let mut next = Step::default();
        for (wish, part) in guessing.iter().zip(parts) {
            let own = self.followers.get(&wish.id)?;
            let ahead = own.guesses.len() + 1;
            if !part.guesses || ahead >= wish.most {
                return None;
            }
            let row = self.known(wish.generation.guessing_row_unseen(ahead)?);
            let start = own.held + part.len;
            next.chunks.push(Chunk {
                // Whatever the step selects.
                tokens: vec![0],
                start,
                blocks: own.table.covering(start + 1),
                rows: vec![(0, row)],
                ..Chunk::default()
            });
        }
        Some(next)
    }

    /// A selection without adjustments of tokens that this model does not have.
    fn known(&self, mut row: RowSelection) -> RowSelection {
        let vocab = self.limits.vocab;
        row.adjustments
            .retain(|adjustment| (adjustment.token as usize) < vocab);
        row
    }

    /// Takes what a step gave: a guess, or none where there should be one. Who has guessed enough, or is not there
    /// yet, is done.
    ///
    /// # Errors
    ///
    /// Logits are not numbers: nor may be the keys and values in the cache, those that sequences share included.
    fn take(
        &mut self,
        guessing: &mut Vec<Wish<'_>>,
        parts: &[Part],
        selected: &[Selected],
    ) -> Result<Vec<(SequenceId, Option<u32>)>, ExecutorError> {
        if selected
            .iter()
            .any(|row| results::broken(&row.selection).is_some())
        {
            return Err(ExecutorError::Failed {
                message: "the draft model's logits are not numbers".into(),
            });
        }
        let mut selected = selected.iter();
        let mut guesses = Vec::new();
        guessing.retain(|wish| {
            let part = parts.iter().find(|part| part.id == wish.id);
            let own = self.followers.get_mut(&wish.id);
            let (Some(part), Some(own)) = (part, own) else {
                return false;
            };
            own.held += part.len;
            let Some(row) = part.guesses.then(|| selected.next()).flatten() else {
                return false;
            };
            let guess = wish
                .generation
                .guess(&own.guesses, row, self.limits.vocab)
                .filter(|token| (*token as usize) < self.vocab);
            own.guesses.extend(guess);
            guesses.push((wish.id, guess));
            own.guesses.len() < wish.most
                && guess.is_some_and(|token| !wish.generation.ends_with(token))
        });
        Ok(guesses)
    }

    /// Gives up the blocks of a sequence; what is in them stays cached.
    pub(super) fn leave(&mut self, id: SequenceId) {
        if let Some(own) = self.followers.remove(&id) {
            self.pool.release(own.table);
        }
    }

    /// Forgets what the cache holds of ended sequences.
    pub(super) fn clear_cache(&mut self) {
        self.pool.clear();
    }

    /// The blocks of its cache: those that sequences hold, and all.
    pub(super) fn blocks(&self) -> (usize, usize) {
        let total = self.pool.total();
        (total - self.pool.available(), total)
    }
}

/// All tokens but the last one, which is run in any case, as its row is wanted.
fn front(tokens: &[u32]) -> &[u32] {
    tokens.split_last().map_or(&[], |(_, front)| front)
}
