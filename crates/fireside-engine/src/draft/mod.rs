//! Drafts: tokens that may follow the next one, and are tried in the same step.
//!
//! A draft is run after the token before it, a row for each, and taken as far as the rows choose what was drafted.
//! Every row chooses as it would alone (a token depends on the logits, the seed and the number of its draw), so
//! what is generated does not change, only how many steps it takes.
//!
//! There are two sources. What stood in the sequence before costs nothing to look up, so it comes first; where it
//! knows nothing, or was wrong of late, a smaller model of the same vocabulary guesses, if there is one.

mod lookup;
mod model;
mod pace;

use std::collections::BTreeMap;

use fireside_tokenizer::Tokenizer;

use crate::generation::Generation;
use crate::sequence::SequenceId;
use crate::{Engine, EngineStats, Error, Executor, ExecutorError};

use model::{DraftModel, Work};
use pace::{GuessPace, LookupPace};

/// Most sequences that run while drafts are tried: with more, a step's room is better theirs.
pub(crate) const MOST_SPECULATING: usize = 4;

/// Most tokens of a draft where there is a model for them and the settings say none: drafts are shorter where they
/// are not that often right, and with the token before it makes eight, which a step takes well.
pub(crate) const DRAFTED: usize = 7;

/// What is tried for each sequence beyond its next token.
pub(crate) type Drafts = BTreeMap<SequenceId, Vec<u32>>;

/// A sequence that would take a draft.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) id: SequenceId,
    /// All of its tokens; the last one is run with the draft.
    pub(crate) tokens: &'a [u32],
    /// Most tokens of the draft.
    pub(crate) most: usize,
    /// How it chooses its tokens.
    pub(crate) generation: &'a Generation,
}

/// Where a draft comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    Lookup,
    Model,
}

/// What drafts of a sequence were worth so far.
#[derive(Debug)]
struct Record {
    lookup: LookupPace,
    model: GuessPace,
    /// Where the last draft came from.
    last: Source,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            lookup: LookupPace::default(),
            model: GuessPace::default(),
            last: Source::Lookup,
        }
    }
}

/// Makes drafts, and learns from what became of them.
#[derive(Debug)]
pub(crate) struct Drafter<E> {
    records: BTreeMap<SequenceId, Record>,
    model: Option<DraftModel<E>>,
    work: Work,
    /// Why there is no model any more.
    failure: Option<ExecutorError>,
}

impl<E> Default for Drafter<E> {
    fn default() -> Self {
        Self {
            records: BTreeMap::new(),
            model: None,
            work: Work::default(),
            failure: None,
        }
    }
}

impl<E: Executor> Drafter<E> {
    /// A draft for each sequence that there is a likely one for. With `ahead`, steps of the model may be said before
    /// they come.
    ///
    /// # Errors
    ///
    /// The device was lost. However the model fails it is given up, as it would likely fail again; if it fails alone
    /// texts go on without it, which are right without any draft.
    pub(crate) async fn draft(
        &mut self,
        wishes: &[Wish<'_>],
        ahead: bool,
    ) -> Result<Drafts, ExecutorError> {
        let shortest = match self.model {
            Some(_) => lookup::SHORTEST_BESIDE_MODEL,
            None => lookup::SHORTEST,
        };
        let mut drafts = Drafts::new();
        let mut unknown = Vec::new();
        for wish in wishes {
            let record = self.records.entry(wish.id).or_default();
            let length = record.lookup.next(wish.most);
            let draft = lookup::draft(wish.tokens, length, shortest);
            let mut most = 0;
            if !draft.is_empty() {
                record.last = Source::Lookup;
                drafts.insert(wish.id, draft);
            } else if self.model.is_some() {
                most = record.model.next(wish.most);
            }
            // The model keeps the blocks of the others, whose turn may come again.
            unknown.push(Wish { most, ..*wish });
        }
        let Some(model) = &mut self.model else {
            return Ok(drafts);
        };
        match model.draft(&unknown, ahead, &mut self.work).await {
            Ok(guessed) => {
                for (id, draft) in guessed {
                    let record = self.records.entry(id).or_default();
                    if draft.is_empty() {
                        record.model.note(0, 1);
                    } else {
                        record.last = Source::Model;
                        drafts.insert(id, draft);
                    }
                }
                Ok(drafts)
            }
            Err(failure) => {
                self.model = None;
                self.failure = Some(failure.clone());
                match failure {
                    lost @ ExecutorError::DeviceLost { .. } => Err(lost),
                    _ => Ok(drafts),
                }
            }
        }
    }

    /// Notes how many tokens of a sequence's draft were taken, of how many.
    pub(crate) fn note(&mut self, id: SequenceId, taken: usize, of: usize) {
        if let Some(record) = self.records.get_mut(&id) {
            match record.last {
                Source::Lookup => record.lookup.note(taken, of),
                Source::Model => record.model.note(taken, of),
            }
        }
    }

    /// Forgets a sequence that has ended.
    pub(crate) fn forget(&mut self, id: SequenceId) {
        self.records.remove(&id);
        if let Some(model) = &mut self.model {
            model.leave(id);
        }
    }

    /// Forgets what the model's cache holds.
    pub(crate) fn clear_cache(&mut self) {
        if let Some(model) = &mut self.model {
            model.clear_cache();
        }
    }

    /// Adds what the model did and holds.
    pub(crate) fn add_to(&self, stats: &mut EngineStats) {
        stats.draft_steps = self.work.steps;
        stats.drafting = self.work.took;
        let blocks = self.model.as_ref().map(DraftModel::blocks);
        (stats.draft_used_blocks, stats.draft_total_blocks) = blocks.unwrap_or_default();
    }
}

/// Sees that a model whose tokenizer is `draft` may draft for one whose tokenizer is `own`, before either is loaded:
/// they have the same tokens, though their tables may be filled up to different lengths, and drafts can be tried with
/// the latter: it [shares prefixes](Executor::shares_prefixes).
///
/// # Errors
///
/// [`Error::DraftModel`] with the first token that differs, or with why no draft can be tried.
pub fn check_draft_model(
    own: &Tokenizer,
    shares_prefixes: bool,
    draft: &Tokenizer,
) -> Result<(), Error> {
    if !shares_prefixes {
        return Err(Error::DraftModel {
            reason: "what is generated depends on the length of the text, so that no draft can be tried; leave the draft model out".into(),
        });
    }
    let same = own.same_tokens(draft);
    same.map_err(|difference| Error::DraftModel {
        reason: format!("{difference}; expected a model of the same vocabulary"),
    })
}

impl<E: Executor> Engine<E> {
    /// Gives the engine a smaller model of the same vocabulary, with its tokenizer, to draft where the text itself
    /// says nothing; see [`EngineConfig::speculate`](crate::EngineConfig::speculate), which says how many tokens.
    /// What is generated does not change.
    ///
    /// If a step of it fails it is given up, and [`draft_failure`](Self::draft_failure) says why. Texts go on without,
    /// unless the device was lost with it.
    ///
    /// # Errors
    ///
    /// [`Error::DraftModel`] if its tokens are others, or if no draft can be tried with the engine's own model;
    /// [`Error::InvalidParameter`] if a limit of the executor is 0.
    pub fn set_draft_model(&mut self, executor: E, tokenizer: &Tokenizer) -> Result<(), Error> {
        check_draft_model(&self.tokenizer, self.executor.shares_prefixes(), tokenizer)?;
        let limits = executor.limits();
        self.config.clone().within(&limits)?;
        let (steps, cache) = (self.config.step_tokens, self.config.prefix_cache);
        let model = DraftModel::new(executor, self.limits.vocab, steps, cache);
        self.drafter.model = Some(model);
        self.drafter.failure = None;
        Ok(())
    }

    /// The executor of the model that drafts, while there is one.
    pub fn draft_executor(&self) -> Option<&E> {
        self.drafter.model.as_ref().map(DraftModel::executor)
    }

    /// Why the model that drafts was given up, if it was. Where the device was lost in a step of it, an engine that is
    /// built instead had better have none.
    pub fn draft_failure(&self) -> Option<&ExecutorError> {
        self.drafter.failure.as_ref()
    }
}
