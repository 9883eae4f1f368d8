//! The step loop: requests in, events out.

use std::collections::BTreeMap;

use fireside_model::step::{Chunk, Selected, Step};
use fireside_tokenizer::Tokenizer;
use web_time::{Instant, SystemTime, UNIX_EPOCH};

use crate::blocks::BlockPool;
use crate::defaults::Resolved;
use crate::draft::{DRAFTED, Drafter, Drafts, MOST_SPECULATING, Wish};
use crate::event::{EngineStats, Event, FinishReason, Finished, Token};
use crate::generation::{Generation, Start, mix};
use crate::loras::Loras;
use crate::results;
use crate::sample::Outcome;
use crate::scheduler::{Budget, Plan, PlannedChunk, Scheduler};
use crate::sequence::{Sequence, SequenceId};
use crate::{
    EngineConfig, Error, Executor, ExecutorError, ExecutorLimits, GenerationDefaults, ParamLimits,
    Request, RequestId,
};

/// Generates text for many requests at once, over one executor.
///
/// Requests may come and go between any two steps. The result of a request does not depend on the
/// others in the step. Nothing runs by itself: the owner calls [`step`](Self::step) and hands on
/// the events, so there is never more than one step's worth of them.
#[derive(Debug)]
pub struct Engine<E> {
    pub(crate) executor: E,
    pub(crate) limits: ExecutorLimits,
    pub(crate) tokenizer: Tokenizer,
    defaults: GenerationDefaults,
    pub(crate) config: EngineConfig,
    /// Tokens that end a generation, ascending.
    eos: Vec<u32>,
    pub(crate) scheduler: Scheduler,
    generations: BTreeMap<SequenceId, Generation>,
    pub(crate) drafter: Drafter<E>,
    /// How many sequences of each request are under way.
    requests: BTreeMap<RequestId, usize>,
    /// Ends of sequences that have nothing to run, for the next step to give.
    ended: Vec<SequenceId>,
    pub(crate) loras: Loras,
    next_request: u64,
    next_sequence: u64,
    seed: u64,
    stats: EngineStats,
}

impl<E: Executor> Engine<E> {
    /// An engine over an executor, with the model's tokenizer and its generation defaults.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidParameter`] if a setting or a limit of the executor is 0.
    pub fn new(
        executor: E,
        tokenizer: Tokenizer,
        defaults: GenerationDefaults,
        config: EngineConfig,
    ) -> Result<Self, Error> {
        let limits = executor.limits();
        let mut config = config.within(&limits)?;
        config.prefix_cache &= executor.shares_prefixes();
        let declared = defaults.eos_token_id.iter().flatten();
        let mut eos: Vec<u32> = declared
            .filter_map(|id| u32::try_from(*id).ok())
            .chain(tokenizer.special_tokens().stop.iter().copied())
            .filter(|id| (*id as usize) < limits.vocab)
            .collect();
        eos.sort_unstable();
        eos.dedup();
        let budget = Budget {
            tokens: config.step_tokens,
            sequences: config.max_running,
            rows: limits.step_rows,
        };
        Ok(Self {
            scheduler: Scheduler::new(budget, BlockPool::new(limits.blocks, config.prefix_cache)),
            seed: config.seed.unwrap_or_else(clock_seed),
            executor,
            limits,
            tokenizer,
            defaults,
            config,
            eos,
            generations: BTreeMap::new(),
            drafter: Drafter::default(),
            requests: BTreeMap::new(),
            ended: Vec::new(),
            loras: Loras::default(),
            next_request: 0,
            next_sequence: 0,
            stats: EngineStats::default(),
        })
    }

    /// Sees whether a request can be run at all, without taking it.
    ///
    /// # Errors
    ///
    /// As for [`submit`](Self::submit), but for [`Error::QueueFull`] and [`Error::TokenQueueFull`].
    pub fn check(&self, request: &Request) -> Result<(), Error> {
        self.loras.root(request.lora.as_deref())?;
        self.resolve(request).map(drop)
    }

    /// Takes a request; its events come from the steps that follow.
    ///
    /// The sequences of a request with `num_return_sequences` are as good as separate ones.
    ///
    /// # Errors
    ///
    /// If a parameter means nothing, the LoRA adapter is unknown, the prompt is empty, has unknown tokens or exceeds the context,
    /// the cache is too small for it, or too many sequences or tokens wait.
    pub fn submit(&mut self, request: &Request) -> Result<RequestId, Error> {
        let (resolved, most) = self.resolve(request)?;
        let root = self.loras.root(request.lora.as_deref())?;
        let waiting = self.scheduler.waiting() + self.ended.len();
        if waiting.saturating_add(resolved.sequences) > self.config.max_waiting {
            return Err(Error::QueueFull {
                waiting,
                wanted: resolved.sequences,
                limit: self.config.max_waiting,
            });
        }
        let waiting = self.scheduler.waiting_tokens();
        let wanted = request.prompt.len().saturating_mul(resolved.sequences);
        let limit = self.config.max_waiting_tokens;
        if waiting > 0 && waiting.saturating_add(wanted) > limit {
            return Err(Error::TokenQueueFull {
                waiting,
                wanted,
                limit,
            });
        }
        let id = RequestId(self.next_request);
        let seed = resolved.seed.unwrap_or_else(|| mix(self.seed ^ mix(id.0)));
        let arrived = Instant::now();
        let generations = (0..resolved.sequences)
            .map(|index| {
                let eos = &self.eos;
                let candidates = self.config.candidates;
                let start = Start {
                    id,
                    index,
                    seed,
                    most,
                    eos,
                    candidates,
                    arrived,
                };
                Generation::new(&start, request, &resolved, &self.tokenizer)
            })
            .collect::<Result<Vec<_>, _>>()?;

        self.next_request += 1;
        self.requests.insert(id, generations.len());
        for generation in generations {
            let sequence_id = SequenceId(self.next_sequence);
            self.next_sequence += 1;
            let scoring = generation.positions_to_score();
            self.generations.insert(sequence_id, generation);
            // The last token is not run, so it needs no position.
            let (tokens, positions) = match most.checked_sub(1) {
                Some(more) => (&request.prompt[..], request.prompt.len() + more),
                None => (&request.prompt[..scoring], scoring),
            };
            let sequence = Sequence::new(sequence_id, tokens.to_vec(), positions).rooted(root);
            let idle = tokens.is_empty();
            if idle || self.scheduler.add(sequence.scoring(scoring)).is_err() {
                self.ended.push(sequence_id);
            }
        }
        Ok(id)
    }

    /// Ends a request and frees its blocks at once. Gives the end of each of its sequences that was
    /// under way; there are no further events of it.
    pub fn cancel(&mut self, id: RequestId) -> Vec<Finished> {
        if !self.requests.contains_key(&id) {
            return Vec::new();
        }
        let sequences: Vec<SequenceId> = self
            .generations
            .iter()
            .filter(|(_, generation)| generation.request == id)
            .map(|(sequence, _)| *sequence)
            .collect();
        sequences
            .into_iter()
            .filter_map(|sequence| self.finish(sequence, FinishReason::Cancelled))
            .collect()
    }

    /// Whether any request is under way.
    pub fn has_work(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Number of requests under way.
    pub(crate) fn under_way(&self) -> usize {
        self.requests.len()
    }

    /// Counts of the engine.
    pub fn stats(&self) -> EngineStats {
        let pool = self.scheduler.pool();
        let mut stats = EngineStats {
            waiting: self.scheduler.waiting(),
            waiting_tokens: self.scheduler.waiting_tokens(),
            running: self.scheduler.running(),
            total_blocks: pool.total(),
            used_blocks: pool.total() - pool.available(),
            cached_blocks: pool.idle(),
            free_blocks: pool.free(),
            ..self.stats
        };
        self.drafter.add_to(&mut stats);
        stats
    }

    /// Forgets what the KV cache holds of ended sequences, and of running ones for those that come:
    /// no request begins with what was computed before.
    pub fn clear_prefix_cache(&mut self) {
        self.scheduler.clear_cache();
        self.drafter.clear_cache();
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The executor.
    pub fn executor(&self) -> &E {
        &self.executor
    }

    /// The executor, for instance to read its counters. Steps are the engine's alone to run.
    pub fn executor_mut(&mut self) -> &mut E {
        &mut self.executor
    }

    /// The executor's sizes.
    pub fn limits(&self) -> ExecutorLimits {
        self.limits
    }

    /// The settings, within what the executor can do.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Sets how many tokens may wait, for an owner that knows it only once it has the engine's sizes.
    pub fn set_max_waiting_tokens(&mut self, tokens: usize) {
        self.config.max_waiting_tokens = tokens;
    }

    /// Sets how many tokens are drafted for a sequence; see [`EngineConfig::speculate`].
    pub fn set_speculate(&mut self, tokens: Option<usize>) {
        self.config.speculate = tokens;
    }

    /// Most tokens that are drafted for a sequence now, as the settings say or as there is a model for them or none.
    pub fn speculate(&self) -> usize {
        let default = || self.draft_executor().map_or(0, |_| DRAFTED);
        self.config.speculate.unwrap_or_else(default)
    }

    /// Sets whether steps run ahead; see [`EngineConfig::run_ahead`].
    pub fn set_run_ahead(&mut self, run_ahead: Option<bool>) {
        self.config.run_ahead = run_ahead;
    }

    /// The tokens that end a generation: those of the tokenizer and of the generation defaults.
    pub fn eos_tokens(&self) -> &[u32] {
        &self.eos
    }

    /// Runs one step and gives what happened in it. Without work it gives nothing at once.
    ///
    /// A sequence that fails alone (its logits are not numbers) is an [`Event::Failed`]; the others
    /// go on. Dropping the future loses nothing: the next call runs the same step again.
    ///
    /// # Errors
    ///
    /// [`Error::Executor`] if the executor fails. All requests are then ended, without events of
    /// their own, and the error lists them; the engine is empty and takes new ones.
    pub async fn step(&mut self) -> Result<Vec<Event>, Error> {
        let plan = self.scheduler.plan();
        self.note(&plan);
        let mut events = Vec::new();
        if !plan.chunks.is_empty() {
            let drafts = match self.draft(&plan).await {
                Ok(drafts) => drafts,
                Err(source) => return Err(self.abandon(source)),
            };
            let mut step = self.build(&plan, &drafts);
            step.next = self.build_next(&plan).map(Box::new);
            let began = Instant::now();
            let outcome = self.executor.step(&step).await;
            let came = Instant::now();
            self.stats.forward += came - began;
            let selected = match outcome {
                Ok(selected) => {
                    results::check(&step, &selected, self.limits.vocab).map(|()| selected)
                }
                Err(error) => Err(error),
            };
            match selected {
                Ok(selected) => {
                    self.take(&plan, &drafts, selected, &mut events);
                    self.stats.selection += came.elapsed();
                }
                Err(source) => return Err(self.abandon(source)),
            }
        }
        for id in std::mem::take(&mut self.ended) {
            let generation = self.generations.get_mut(&id);
            let prompt = generation.and_then(Generation::take_scores);
            events.extend(prompt.map(Event::Prompt));
            events.extend(self.finish(id, FinishReason::Length).map(Event::Finished));
        }
        Ok(events)
    }

    /// Counts who begins and who had to go.
    fn note(&mut self, plan: &Plan) {
        for id in &plan.preempted {
            self.stats.preemptions += 1;
            if let Some(generation) = self.generations.get_mut(id) {
                generation.preempted();
            }
        }
        for (id, cached) in &plan.begun {
            if let Some(generation) = self.generations.get_mut(id)
                && generation.begun(*cached)
            {
                self.stats.prefix_queries += generation.prompt_tokens as u64;
                self.stats.prefix_hits += *cached as u64;
            }
        }
    }

    /// What is tried beyond the next tokens, where few sequences run: with many, a step's room is better theirs.
    ///
    /// # Errors
    ///
    /// The device was lost.
    async fn draft(&mut self, plan: &Plan) -> Result<Drafts, ExecutorError> {
        let mut drafts = Drafts::new();
        let speculate = self.speculate();
        // No first token waits for a draft, be it another's.
        let goes_on = |planned: &PlannedChunk| {
            let generation = self.generations.get(&planned.id);
            planned.decodes() && generation.is_some_and(|own| own.generated > 0)
        };
        // Where keys and values depend on the length, a draft would change those before it.
        if speculate == 0
            || !self.executor.shares_prefixes()
            || plan.chunks.len() > MOST_SPECULATING
            || !plan.chunks.iter().all(goes_on)
        {
            return Ok(drafts);
        }
        // An equal share of the step's room for each.
        let room = self.config.step_tokens.min(self.limits.step_rows) / plan.chunks.len().max(1);
        let most = speculate.min(room.saturating_sub(1));
        let wish = |planned: &PlannedChunk| {
            let tokens = self.scheduler.running_sequence(planned.id)?.tokens();
            let generation = self.generations.get(&planned.id)?;
            let room = self.scheduler.room(planned.id);
            let most = most.min(room.saturating_sub(tokens.len()));
            Some(Wish {
                id: planned.id,
                tokens,
                most: generation.longest_draft(most),
                generation,
            })
        };
        let wishes: Vec<Wish<'_>> = plan.chunks.iter().filter_map(wish).collect();
        let ahead = self.runs_ahead();
        for (id, draft) in self.drafter.draft(&wishes, ahead).await? {
            let tokens = self.scheduler.running_sequence(id);
            let end = tokens.map_or(0, |own| own.tokens().len()) + draft.len();
            if self.scheduler.reach(id, end) {
                drafts.insert(id, draft);
            }
        }
        Ok(drafts)
    }

    /// Whether steps are said before they come.
    fn runs_ahead(&self) -> bool {
        let wanted = self.config.run_ahead;
        wanted.unwrap_or_else(|| self.executor.gains_ahead())
    }

    /// The step of a plan, with drafts.
    fn build(&mut self, plan: &Plan, drafts: &Drafts) -> Step {
        let now = Instant::now();
        let mut step = Step::default();
        for planned in &plan.chunks {
            let Some(sequence) = self.scheduler.running_sequence(planned.id) else {
                continue;
            };
            let Some(generation) = self.generations.get_mut(&planned.id) else {
                continue;
            };
            generation.started(now);
            let end = planned.start + planned.len;
            let draft = drafts.get(&planned.id).map_or(&[][..], Vec::as_slice);
            let mut tokens = sequence.tokens()[planned.start..end].to_vec();
            tokens.extend(draft);
            let scores = planned.scores.clone();
            let mut rows: Vec<_> = scores
                .map(|position| (position - planned.start, generation.scoring_row(position)))
                .collect();
            if planned.selects {
                rows.extend((planned.len - 1..).zip(generation.rows(draft)));
            }
            step.chunks.push(Chunk {
                tokens,
                start: planned.start,
                blocks: sequence.table.covering(end + draft.len()),
                lora: self.loras.number(sequence.root()),
                rows,
                ..Chunk::default()
            });
        }
        step
    }

    /// What likely follows a plan's step: the next token of each sequence, where all of them do nothing but
    /// generate, and go on. Their tables have its position then.
    fn build_next(&mut self, plan: &Plan) -> Option<Step> {
        let drafts = self.speculate() > 0 && plan.chunks.len() <= MOST_SPECULATING;
        // A draft may come instead; and where keys and values depend on the length, a step in vain would change
        // those before it.
        if !self.runs_ahead() || drafts || !self.executor.shares_prefixes() {
            return None;
        }
        let mut next = Step::default();
        for planned in &plan.chunks {
            let end = planned.start + planned.len;
            if !planned.decodes() {
                return None;
            }
            let row = self.generations.get(&planned.id)?.row_after_next()?;
            if !self.scheduler.reach_next(planned.id) {
                return None;
            }
            let sequence = self.scheduler.running_sequence(planned.id)?;
            next.chunks.push(Chunk {
                // Whatever the step selects.
                tokens: vec![0],
                start: end,
                blocks: sequence.table.covering(end + 1),
                lora: self.loras.number(sequence.root()),
                rows: vec![(0, row)],
                ..Chunk::default()
            });
        }
        Some(next)
    }

    /// Takes the results of a step.
    fn take(
        &mut self,
        plan: &Plan,
        drafts: &Drafts,
        selected: Vec<Selected>,
        events: &mut Vec<Event>,
    ) {
        self.stats.steps += 1;
        let mut selected = selected.into_iter();
        for planned in &plan.chunks {
            if let Some(sequence) = self.scheduler.running_sequence_mut(planned.id) {
                sequence.advance(planned.len);
            }
            let generates = self
                .generations
                .get(&planned.id)
                .is_some_and(|g| g.generated > 0);
            let decoded = usize::from(generates && planned.selects);
            self.stats.prefill_tokens += (planned.len - decoded) as u64;
            let scores: Vec<_> = selected.by_ref().take(planned.scores.len()).collect();
            self.take_scores(planned, &scores, events);
            if planned.selects {
                let draft = drafts.get(&planned.id).map_or(&[][..], Vec::as_slice);
                let rows: Vec<_> = selected.by_ref().take(1 + draft.len()).collect();
                self.take_rows(planned, draft, &rows, events);
            }
            self.scheduler.settle(planned.id);
        }
    }

    /// Takes the rows that score a prompt. One without tokens to generate ends with the last of them.
    fn take_scores(&mut self, planned: &PlannedChunk, rows: &[Selected], events: &mut Vec<Event>) {
        let id = planned.id;
        for (position, row) in planned.scores.clone().zip(rows) {
            if let Some(count) = results::broken(&row.selection) {
                self.fail_broken(id, position, count, events);
                return;
            }
            if let Some(generation) = self.generations.get_mut(&id) {
                generation.score(row);
            }
        }
        let Some(generation) = self.generations.get_mut(&id) else {
            return;
        };
        if let Some(prompt) = generation.take_scores() {
            let ends = !generation.generates();
            events.push(Event::Prompt(prompt));
            if ends {
                events.extend(self.finish(id, FinishReason::Length).map(Event::Finished));
            }
        }
    }

    /// Ends a sequence whose logits are not numbers.
    fn fail_broken(
        &mut self,
        id: SequenceId,
        position: usize,
        count: u32,
        events: &mut Vec<Event>,
    ) {
        if let Some((generation, _)) = self.remove(id) {
            let (request, index) = (generation.request, generation.index);
            events.push(Event::Failed {
                request,
                index,
                error: Error::BrokenLogits {
                    request,
                    index,
                    position,
                    count,
                },
            });
        }
        // Keys and values that are not numbers may have come into the cache before.
        self.scheduler.clear_cache();
    }

    /// Takes the row after a chunk and, as long as what was drafted is chosen, those after the draft.
    fn take_rows(
        &mut self,
        planned: &PlannedChunk,
        draft: &[u32],
        rows: &[Selected],
        events: &mut Vec<Event>,
    ) {
        let id = planned.id;
        let last = planned.start + planned.len - 1;
        let mut taken = 0;
        for (ahead, row) in rows.iter().enumerate() {
            let chosen = self.take_row(id, last + ahead, row, events);
            if chosen.is_none() || chosen != draft.get(ahead).copied() {
                break;
            }
            // Its keys and values are in the cache already.
            if let Some(sequence) = self.scheduler.running_sequence_mut(id) {
                sequence.advance(1);
            }
            taken += 1;
        }
        if draft.is_empty() {
            return;
        }
        self.stats.drafted_tokens += draft.len() as u64;
        self.stats.accepted_tokens += taken as u64;
        self.scheduler.shrink(id);
        self.drafter.note(id, taken, draft.len());
    }

    /// Takes the result of the row at a position; the token, where the sequence goes on with it.
    fn take_row(
        &mut self,
        id: SequenceId,
        position: usize,
        selected: &Selected,
        events: &mut Vec<Event>,
    ) -> Option<u32> {
        let generation = self.generations.get_mut(&id)?;
        let (request, index) = (generation.request, generation.index);
        let fail = |error| Event::Failed {
            request,
            index,
            error,
        };

        if let Some(count) = results::broken(&selected.selection) {
            self.fail_broken(id, position, count, events);
            return None;
        }
        let choice = match generation.choose(selected, self.limits.vocab) {
            Outcome::Chosen(choice) if (choice.token as usize) < self.limits.vocab => choice,
            Outcome::NeedsLogits => {
                self.stats.fallbacks += 1;
                if let Some(sequence) = self.scheduler.running_sequence_mut(id) {
                    sequence.repeat_last();
                }
                return None;
            }
            Outcome::NoToken | Outcome::Chosen(_) => {
                events.push(fail(Error::NoToken {
                    request,
                    index,
                    position,
                }));
                self.remove(id);
                return None;
            }
        };
        let accepted = generation.accept(&choice);
        self.stats.generated_tokens += 1;
        events.push(Event::Token(Token {
            request,
            index,
            id: choice.token,
            text: accepted.text,
            logprob: choice.logprob,
            top_logprobs: choice.top,
        }));
        if let Some(reason) = accepted.finish {
            events.extend(self.finish(id, reason).map(Event::Finished));
            return None;
        }
        let sequence = self.scheduler.running_sequence_mut(id)?;
        sequence.push(choice.token);
        Some(choice.token)
    }

    /// Ends a sequence.
    fn finish(&mut self, id: SequenceId, reason: FinishReason) -> Option<Finished> {
        let (generation, request_is_done) = self.remove(id)?;
        Some(Finished {
            request: generation.request,
            index: generation.index,
            reason,
            seed: generation.seed,
            request_is_done,
            stats: generation.stats(Instant::now()),
        })
    }

    /// Forgets a sequence and frees its blocks; also says whether it was its request's last one.
    fn remove(&mut self, id: SequenceId) -> Option<(Generation, bool)> {
        let generation = self.generations.remove(&id)?;
        self.drafter.forget(id);
        if !self.scheduler.remove(id) {
            self.ended.retain(|ended| *ended != id);
        }
        let left = self
            .requests
            .get_mut(&generation.request)
            .map_or(0, |left| {
                *left = left.saturating_sub(1);
                *left
            });
        if left == 0 {
            self.requests.remove(&generation.request);
        }
        Some((generation, left == 0))
    }

    /// Ends everything after a failure of the executor.
    fn abandon(&mut self, source: ExecutorError) -> Error {
        let requests = self.requests.keys().copied().collect();
        let sequences: Vec<SequenceId> = self.generations.keys().copied().collect();
        for id in sequences {
            self.remove(id);
        }
        self.clear_prefix_cache();
        Error::Executor { source, requests }
    }

    /// A request with its defaults, and the number of tokens that it may generate.
    fn resolve(&self, request: &Request) -> Result<(Resolved, usize), Error> {
        let resolved = self
            .defaults
            .resolve(&request.params, &ParamLimits::new(self.limits.vocab))?;
        let prompt = request.prompt.len();
        let ExecutorLimits { vocab, context, .. } = self.limits;
        if prompt == 0 {
            return Err(Error::EmptyPrompt);
        }
        let unknown = request
            .prompt
            .iter()
            .position(|token| *token as usize >= vocab);
        if let Some(position) = unknown {
            let token = request.prompt[position];
            return Err(Error::PromptToken {
                position,
                token,
                vocab,
            });
        }
        // The token after the last position of the context can be predicted, but not run.
        let Some(room) = context
            .saturating_add(1)
            .checked_sub(prompt)
            .filter(|room| *room > 0)
        else {
            return Err(Error::PromptTooLong { prompt, context });
        };
        let most = resolved.max_new_tokens.min(room);
        let positions = self.scheduler.pool().positions();
        // Even where nothing is generated a prompt is run to be scored, but for its last token.
        if resolved.prompt_logprobs.is_some() && prompt - 1 > positions {
            return Err(Error::CacheTooSmall {
                prompt,
                new: most,
                positions,
            });
        }
        let fitting = positions.saturating_add(1).saturating_sub(prompt);
        // A number that nobody asked for is made to fit.
        if most <= fitting {
            Ok((resolved, most))
        } else if fitting > 0 && !resolved.max_is_asked {
            Ok((resolved, fitting))
        } else {
            Err(Error::CacheTooSmall {
                prompt,
                new: most,
                positions,
            })
        }
    }
}

/// A seed that differs from run to run.
fn clock_seed() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    mix(since.as_nanos() as u64)
}
