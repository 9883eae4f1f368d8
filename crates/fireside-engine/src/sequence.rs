//! One sequence as the scheduler sees it: its tokens, and how much of them the cache holds.

use std::ops::Range;

use crate::blocks::{BlockTable, Prefix};

/// Identifies a sequence; sequences that came later have larger ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SequenceId(pub(crate) u64);

/// Tokens that are to be continued.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) id: SequenceId,
    /// The prompt and what was generated.
    tokens: Vec<u32>,
    /// How many tokens of the front the cache holds.
    computed: usize,
    /// The most positions that the sequence will ever need in the cache.
    most_positions: usize,
    /// Whether any of it was run since it has its blocks.
    begun: bool,
    /// How many positions of the front are to be scored: what each says of the token after it.
    scoring: usize,
    /// How many of them have been scored; they need not be again if the cache is lost.
    scored: usize,
    /// What its keys and values depend on besides the tokens.
    root: Prefix,
    /// The blocks that hold them.
    pub(crate) table: BlockTable,
}

impl Sequence {
    /// A sequence that begins with `prompt` and runs at most `most_positions` tokens.
    pub(crate) fn new(id: SequenceId, prompt: Vec<u32>, most_positions: usize) -> Self {
        let most_positions = most_positions.max(prompt.len());
        Self {
            id,
            tokens: prompt,
            computed: 0,
            most_positions,
            begun: false,
            scoring: 0,
            scored: 0,
            root: Prefix::default(),
            table: BlockTable::default(),
        }
    }

    /// With its first positions to be scored.
    pub(crate) fn scoring(mut self, positions: usize) -> Self {
        self.scoring = positions.min(self.tokens.len());
        self
    }

    /// With keys and values that depend on more than the tokens.
    pub(crate) fn rooted(mut self, root: Prefix) -> Self {
        self.root = root;
        self
    }

    /// What its keys and values depend on besides the tokens.
    pub(crate) fn root(&self) -> Prefix {
        self.root
    }

    /// The positions that are still to be scored.
    pub(crate) fn unscored(&self) -> Range<usize> {
        self.scored..self.scoring
    }

    /// All tokens.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many tokens of the front the cache holds.
    pub(crate) fn computed(&self) -> usize {
        self.computed
    }

    /// The most positions that the sequence will ever need in the cache.
    pub(crate) fn most_positions(&self) -> usize {
        self.most_positions
    }

    /// Tokens that are still to be run before the next one can be selected.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Whether any of it was run since it has its blocks.
    pub(crate) fn begun(&self) -> bool {
        self.begun
    }

    /// Notes that `count` more tokens are in the cache.
    pub(crate) fn advance(&mut self, count: usize) {
        self.begun = true;
        self.computed = (self.computed + count).min(self.tokens.len());
        self.scored = self.scored.max(self.computed.min(self.scoring));
    }

    /// Adds a generated token.
    pub(crate) fn push(&mut self, token: u32) {
        self.tokens.push(token);
    }

    /// Has the last token run again.
    pub(crate) fn repeat_last(&mut self) {
        self.computed = self.computed.min(self.tokens.len().saturating_sub(1));
    }

    /// Takes blocks for all tokens; the front that they hold already need not be run.
    pub(crate) fn place(&mut self, table: BlockTable) {
        self.computed = table.cached_positions();
        self.begun = false;
        self.table = table;
    }

    /// The tokens that need not be run where the cache has them: all but the last one, as its row
    /// is wanted, and none from the first that is to be scored.
    pub(crate) fn skippable(&self) -> &[u32] {
        let end = self.tokens.len().saturating_sub(1);
        let unscored = self.unscored();
        let end = if unscored.is_empty() {
            end
        } else {
            end.min(unscored.start)
        };
        self.tokens.get(..end).unwrap_or_default()
    }

    /// The tokens whose keys and values are in the cache for good: the last token may be run again
    /// while the sequence goes on.
    pub(crate) fn settled(&self) -> &[u32] {
        let end = self.computed.min(self.tokens.len().saturating_sub(1));
        self.tokens.get(..end).unwrap_or_default()
    }

    /// The tokens in the cache, once the sequence has ended.
    pub(crate) fn kept(&self) -> &[u32] {
        self.tokens.get(..self.computed).unwrap_or_default()
    }

    /// Forgets what the cache holds and gives up the blocks; the tokens stay.
    pub(crate) fn evict(&mut self) -> BlockTable {
        self.computed = 0;
        self.begun = false;
        std::mem::take(&mut self.table)
    }
}
