//! A small model without a device: it checks the cache that it is given, and its logits are a
//! function of the tokens that it reads back from there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use fireside_engine::{
    Engine, EngineConfig, Executor, ExecutorError, ExecutorLimits, GenerationDefaults,
    GenerationParams, Request,
};
use fireside_model::step::{Chunk, RowSelection, Selected, Step};
use fireside_model::{BLOCK, Selection, gumbel};
use fireside_tokenizer::{GgufVocab, Tokenizer};

/// Ids of the vocabulary of [`tokenizer`].
pub(crate) const EOS: u32 = 2;
pub(crate) const FIRST_WORD: u32 = 5;
pub(crate) const VOCAB: usize = 100;

/// What the model computes.
#[derive(Debug, Clone)]
pub(crate) enum Model {
    /// Logits from a hash of the last three tokens.
    Ngram,
    /// The same, but for one in so many texts, where the logits are those of other tokens.
    Astray(u64),
    /// Position `p` is followed by the `p`-th token of the list, or by the last one.
    Script(Vec<u32>),
}

impl Model {
    pub(crate) fn logits(&self, history: &[u32]) -> Vec<f32> {
        let last = &history[history.len().saturating_sub(3)..];
        let hash = last.iter().fold(7u64, |hash, token| after(hash, *token));
        match self {
            Self::Astray(one_in) if (hash >> 20).is_multiple_of(*one_in) => {
                let mut logits = Self::Ngram.logits(history);
                logits[FIRST_WORD as usize..].rotate_right(1);
                logits
            }
            Self::Ngram | Self::Astray(_) => {
                (0..VOCAB as u32)
                    .map(|token| match token {
                        // Special tokens are rare, so that texts have some length.
                        0..FIRST_WORD => -2.0,
                        _ => 1.5 * gumbel(hash, 0, token),
                    })
                    .collect()
            }
            Self::Script(script) => {
                let at = (history.len() - 1).min(script.len() - 1);
                (0..VOCAB as u32)
                    .map(|token| if token == script[at] { 9.0 } else { 0.0 })
                    .collect()
            }
        }
    }

    /// What greedy generation gives, computed without an engine.
    pub(crate) fn greedy(&self, prompt: &[u32], count: usize) -> Vec<u32> {
        let mut history = prompt.to_vec();
        for _ in 0..count {
            let logits = self.logits(&history);
            let best = (0..VOCAB as u32).fold(0, |best, token| {
                if logits[token as usize] > logits[best as usize] {
                    token
                } else {
                    best
                }
            });
            history.push(best);
        }
        history.split_off(prompt.len())
    }
}

/// The hash of tokens that end with `token`, after others of hash `before`.
fn after(before: u64, token: u32) -> u64 {
    (before ^ u64::from(token))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(23)
}

/// What the mock saw, and how it is to misbehave.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) steps: usize,
    /// Most tokens and sequences in one step.
    pub(crate) most_tokens: usize,
    pub(crate) most_chunks: usize,
    /// Tokens of all steps.
    pub(crate) tokens: usize,
    /// Most rows in one step.
    pub(crate) most_rows: usize,
    /// Rows that scored a token of a prompt.
    pub(crate) scored_rows: usize,
    /// Rows whose logits were wanted.
    pub(crate) whole_rows: usize,
    /// Positions that were written again with what they held already.
    pub(crate) rewrites: usize,
    /// What each row's token stood after, itself included, where it is to be kept.
    pub(crate) histories: Option<Vec<Vec<u32>>>,
    /// The selections wanted in the last step.
    pub(crate) last_rows: Vec<RowSelection>,
    /// The step (from 1) that fails.
    pub(crate) fail_at: Option<usize>,
    /// The step that fails while the device works on.
    pub(crate) refuse_at: Option<usize>,
    /// The step that gives a row too few.
    pub(crate) lose_row_at: Option<usize>,
    /// Rows after this token are not numbers.
    pub(crate) broken_after: Option<u32>,
    /// Most candidates that the device gives.
    pub(crate) candidates: Option<usize>,
    /// Keys and values depend on how long a sequence is.
    pub(crate) length_matters: bool,
    /// Steps that were what the one before said would come.
    pub(crate) ahead: usize,
    /// Each step is pending this many times.
    pub(crate) pending: usize,
}

/// The mock, with what it logs shared with the test.
#[derive(Debug)]
pub(crate) struct Mock {
    pub(crate) model: Model,
    pub(crate) limits: ExecutorLimits,
    pub(crate) log: Rc<RefCell<Log>>,
    /// In each slot of the cache a token, and a hash of it and all tokens before it, which keys and
    /// values depend on too.
    cache: Vec<Option<(u64, u32)>>,
    /// What was run ahead.
    ahead: Option<Step>,
}

impl Mock {
    pub(crate) fn new(model: Model, limits: ExecutorLimits) -> Self {
        let cache = vec![None; limits.blocks * BLOCK];
        Self {
            model,
            limits,
            log: Rc::default(),
            cache,
            ahead: None,
        }
    }

    /// Writes a chunk, then gives all tokens of its sequence as the cache has them.
    fn history(&mut self, chunk: &Chunk) -> Vec<u32> {
        let slot =
            |position: usize| chunk.blocks[position / BLOCK] as usize * BLOCK + position % BLOCK;
        let mut hash = 0;
        let mut history = Vec::new();
        for position in 0..chunk.start {
            let (written, token) = self.cache[slot(position)].expect("read before written");
            hash = after(hash, token);
            assert_eq!(written, hash, "the slot is of another sequence");
            history.push(token);
        }
        for (position, token) in (chunk.start..).zip(&chunk.tokens) {
            assert!((*token as usize) < VOCAB);
            hash = after(hash, *token);
            let written = Some((hash, *token));
            if std::mem::replace(&mut self.cache[slot(position)], written) == written {
                self.log.borrow_mut().rewrites += 1;
            }
            history.push(*token);
        }
        history
    }

    /// Runs what likely comes next over the tokens that were selected, as a device would before anybody knows
    /// whether it comes.
    fn run_ahead(&mut self, next: &Step, selected: &[Selected]) {
        assert_eq!(next.chunks.len(), selected.len());
        let mut next = next.clone();
        for (chunk, row) in next.chunks.iter_mut().zip(selected) {
            chunk.tokens = vec![row.selection.token];
        }
        check_tables(&next, &self.limits);
        if selected.iter().all(|row| row.selection.token != u32::MAX) {
            for chunk in &next.chunks {
                self.history(chunk);
            }
            self.ahead = Some(next);
        }
    }

    fn select(&self, history: &[u32], row: &RowSelection) -> Selected {
        let log = self.log.borrow();
        let mut logits = self.model.logits(history);
        for (before, entry) in row.adjustments.iter().enumerate() {
            assert!(
                row.adjustments[..before]
                    .iter()
                    .all(|other| other.token != entry.token)
            );
            let l = &mut logits[entry.token as usize];
            *l = if *l > 0.0 {
                *l / entry.repetition
            } else {
                *l * entry.repetition
            } + entry.add;
        }
        if log
            .broken_after
            .is_some_and(|token| history.last() == Some(&token))
        {
            logits[3] = f32::NAN;
        }
        let inverse = 1.0 / row.temperature;
        let sound = || {
            (0u32..)
                .zip(logits.iter().copied())
                .filter(|(_, l)| *l > f32::MIN)
        };
        let max = sound().map(|(_, l)| l).fold(f32::MIN, f32::max);
        let sum: f64 = sound().map(|(_, l)| f64::from(l - max).exp()).sum();
        let tempered: f64 = sound()
            .map(|(_, l)| f64::from((l - max) * inverse).exp())
            .sum();
        let key = |(id, l): (u32, f32)| match row.noise {
            Some((seed, draw)) => l * inverse + gumbel(seed, draw, id),
            None => l,
        };
        let best = sound().fold((f32::MIN, u32::MAX), |best, candidate| {
            let key = key(candidate);
            if key > best.0 {
                (key, candidate.0)
            } else {
                best
            }
        });
        let mut ranked: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked.truncate(row.candidates.min(log.candidates.unwrap_or(usize::MAX)));
        Selected {
            selection: Selection {
                token: best.1,
                max,
                log_sum_exp: max + sum.ln() as f32,
                tempered_log_sum_exp: max * inverse + tempered.ln() as f32,
                broken: logits.iter().filter(|l| l.is_nan()).count() as u32,
                target_logit: row.target.map_or(f32::MIN, |token| logits[token as usize]),
                candidates: ranked,
            },
            logits: row.logits.then_some(logits),
        }
    }
}

impl Executor for Mock {
    fn limits(&self) -> ExecutorLimits {
        self.limits
    }

    fn shares_prefixes(&self) -> bool {
        !self.log.borrow().length_matters
    }

    async fn step(&mut self, step: &Step) -> Result<Vec<Selected>, ExecutorError> {
        let mut pending = self.log.borrow().pending;
        poll_fn(|context| {
            if pending == 0 {
                return Poll::Ready(());
            }
            pending -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        let number = {
            let mut log = self.log.borrow_mut();
            log.steps += 1;
            let tokens: usize = step.chunks.iter().map(|chunk| chunk.tokens.len()).sum();
            assert!(tokens <= self.limits.step_tokens);
            assert!(step.chunks.len() <= self.limits.step_sequences);
            let rows = step.chunks.iter().map(|chunk| chunk.rows.len()).sum();
            assert!(rows <= self.limits.step_rows);
            log.most_rows = log.most_rows.max(rows);
            log.tokens += tokens;
            log.most_tokens = log.most_tokens.max(tokens);
            log.most_chunks = log.most_chunks.max(step.chunks.len());
            log.last_rows.clear();
            log.steps
        };
        if self.log.borrow().fail_at == Some(number) {
            return Err(ExecutorError::DeviceLost {
                message: "unplugged".into(),
            });
        }
        if self.log.borrow().refuse_at == Some(number) {
            return Err(ExecutorError::Failed {
                message: "too hot".into(),
            });
        }
        check_tables(step, &self.limits);
        let ahead = self.ahead.take();
        let came = ahead.is_some_and(|ahead| ahead.chunks == step.chunks);
        self.log.borrow_mut().ahead += usize::from(came);
        let mut results = Vec::new();
        for chunk in &step.chunks {
            let history = self.history(chunk);
            for (at, row) in &chunk.rows {
                self.log.borrow_mut().last_rows.push(row.clone());
                self.log.borrow_mut().whole_rows += usize::from(row.logits);
                self.log.borrow_mut().scored_rows += usize::from(row.target.is_some());
                let before = &history[..chunk.start + at + 1];
                if let Some(histories) = &mut self.log.borrow_mut().histories {
                    histories.push(before.to_vec());
                }
                results.push(self.select(before, row));
            }
        }
        if self.log.borrow().lose_row_at == Some(number) {
            results.pop();
        } else if let Some(next) = &step.next {
            self.run_ahead(next, &results);
        }
        // Both have run, and nobody knows yet.
        if self.log.borrow().pending > 0 {
            let mut told = false;
            poll_fn(|context| {
                if std::mem::replace(&mut told, true) {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
        Ok(results)
    }
}

/// Each table covers its chunk, and what a chunk writes to is in no other table.
fn check_tables(step: &Step, limits: &ExecutorLimits) {
    let mut holders: BTreeMap<u32, usize> = BTreeMap::new();
    for block in step.chunks.iter().flat_map(|chunk| &chunk.blocks) {
        assert!((*block as usize) < limits.blocks);
        *holders.entry(*block).or_default() += 1;
    }
    for chunk in &step.chunks {
        let end = chunk.start + chunk.tokens.len();
        assert!(!chunk.tokens.is_empty() && end <= limits.context);
        assert_eq!(
            chunk.blocks.len(),
            end.div_ceil(BLOCK),
            "the table does not cover the chunk"
        );
        for block in &chunk.blocks[chunk.start / BLOCK..] {
            assert_eq!(holders[block], 1, "block {block} is written and shared");
        }
    }
}

/// A hundred tokens: three special ones, two bytes of "é", and words "▁w5", "▁w6" and so on.
pub(crate) fn tokenizer() -> Tokenizer {
    let words: Vec<String> = (FIRST_WORD as usize..VOCAB)
        .map(|id| format!("▁w{id}"))
        .collect();
    let mut tokens = vec!["<unk>", "<s>", "</s>", "<0xC3>", "<0xA9>"];
    tokens.extend(words.iter().map(String::as_str));
    let mut token_types = vec![2, 3, 3, 6, 6];
    token_types.resize(VOCAB, 1);
    Tokenizer::from_gguf(&GgufVocab {
        model: "llama",
        scores: vec![0.0; VOCAB],
        token_types,
        tokens,
        ..GgufVocab::default()
    })
    .unwrap()
}

pub(crate) const LIMITS: ExecutorLimits = ExecutorLimits {
    vocab: VOCAB,
    context: 256,
    blocks: 64,
    step_tokens: 512,
    step_sequences: 16,
    step_rows: 64,
};

/// An engine over the mock, and the mock's log.
pub(crate) fn engine_with(
    model: Model,
    limits: ExecutorLimits,
    config: EngineConfig,
) -> (Engine<Mock>, Rc<RefCell<Log>>) {
    let mock = Mock::new(model, limits);
    let log = Rc::clone(&mock.log);
    let defaults = GenerationDefaults::default();
    (
        Engine::new(mock, tokenizer(), defaults, config).unwrap(),
        log,
    )
}

/// An engine over the mock with a mock that drafts, and the logs of both.
pub(crate) fn engine_with_draft(
    (model, limits): (Model, ExecutorLimits),
    (draft, draft_limits): (Model, ExecutorLimits),
    config: EngineConfig,
) -> (Engine<Mock>, Rc<RefCell<Log>>, Rc<RefCell<Log>>) {
    let (mut engine, log) = engine_with(model, limits, config);
    let draft = Mock::new(draft, draft_limits);
    let draft_log = Rc::clone(&draft.log);
    engine.set_draft_model(draft, &tokenizer()).unwrap();
    (engine, log, draft_log)
}

pub(crate) fn engine(model: Model) -> (Engine<Mock>, Rc<RefCell<Log>>) {
    engine_with(model, LIMITS, EngineConfig::default())
}

/// Parameters as a request's JSON has them.
pub(crate) fn params(json: &str) -> GenerationParams {
    serde_json::from_str(json).unwrap()
}

pub(crate) fn request(prompt: &[u32], json: &str) -> Request {
    Request::new(prompt.to_vec()).with_params(params(json))
}
