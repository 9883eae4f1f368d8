//! Random histories: no block leaks, nothing starves, budgets are kept, references are right.

use super::*;

/// What of a prompt is to be scored.
#[derive(Debug, Clone, Copy)]
enum Score {
    Nothing,
    /// All that comes before its last token.
    Before,
    /// Every token, and nothing is generated.
    All,
}

/// What a random history does before each step.
#[derive(Debug, Clone)]
enum Act {
    /// A prompt that begins with the first `shared` tokens of story number `story`.
    Arrive {
        story: u32,
        shared: usize,
        own: usize,
        new: usize,
        score: Score,
    },
    Cancel {
        nth: usize,
    },
    /// What an ended sequence left, and more: the next turn of a chat.
    Return {
        nth: usize,
        own: usize,
        new: usize,
    },
    Clear,
    /// A step, where the rows of some have to be run again.
    Step {
        again: bool,
    },
}

fn score() -> impl Strategy<Value = Score> {
    prop_oneof![
        3 => Just(Score::Nothing),
        1 => Just(Score::Before),
        1 => Just(Score::All),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0u32..3, 0usize..180, 1usize..60, 1usize..80, score())
            .prop_map(|(story, shared, own, new, score)| Act::Arrive { story, shared, own, new, score }),
        2 => (0usize..20).prop_map(|nth| Act::Cancel { nth }),
        3 => (0usize..20, 1usize..60, 1usize..40)
            .prop_map(|(nth, own, new)| Act::Return { nth, own, new }),
        1 => Just(Act::Clear),
        12 => prop::bool::weighted(0.2).prop_map(|again| Act::Step { again }),
    ]
}

/// The scheduler with what the test knows of its sequences.
struct World {
    scheduler: Scheduler,
    budget: Budget,
    blocks: usize,
    caching: bool,
    /// Tokens still to be generated, and tokens in the cache, per sequence.
    live: BTreeMap<SequenceId, (usize, usize)>,
    /// Positions that are still to be scored, per sequence.
    unscored: BTreeMap<SequenceId, std::ops::Range<usize>>,
    /// All tokens of those that came to their end.
    ended: Vec<Vec<u32>>,
    /// What each position of the device's cache holds: all tokens up to it, as a hash.
    device: Vec<u64>,
}

/// The hash of tokens that end with `token`, after others of hash `before`.
fn after(before: u64, token: u32) -> u64 {
    (before ^ u64::from(token) ^ 0xff51_afd7_ed55_8ccd)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(23)
}

impl World {
    fn arrive(&mut self, id: u64, tokens: Vec<u32>, new: usize, score: Score) {
        let (positions, new) = match score {
            Score::Nothing => (0, new),
            Score::Before => (tokens.len() - 1, new),
            Score::All => (tokens.len(), 0),
        };
        let fits = tokens.len() + new.max(1) - 1 <= self.blocks * BLOCK;
        let sequence = with_tokens(id, tokens, new).scoring(positions);
        let added = self.scheduler.add(sequence).is_ok();
        assert_eq!(added, fits);
        if added {
            self.live.insert(SequenceId(id), (new, 0));
            self.unscored.insert(SequenceId(id), 0..positions);
        }
    }

    /// What is to be scored is, once and in order, and comes from no cache.
    fn check_scores(&mut self, chunk: &PlannedChunk) {
        let unscored = self.unscored.get_mut(&chunk.id).unwrap();
        let end = chunk.start + chunk.len;
        let expected = unscored.start..end.clamp(unscored.start, unscored.end);
        assert!(unscored.start == unscored.end || chunk.start <= unscored.start);
        if expected.is_empty() {
            assert!(chunk.scores.is_empty());
        } else {
            assert_eq!(chunk.scores, expected);
        }
        unscored.start = expected.end;
    }

    /// Forgets a sequence that came to its end.
    fn end(&mut self, id: SequenceId) {
        let sequence = self.scheduler.running_sequence(id).unwrap();
        self.ended.push(sequence.tokens().to_vec());
        self.live.remove(&id);
        self.unscored.remove(&id);
        assert!(self.scheduler.remove(id));
    }

    /// Every block is free, cached or held, and held as often as tables name it.
    fn check_blocks(&self) {
        let pool = self.scheduler.pool();
        let mut held: BTreeMap<u32, usize> = BTreeMap::new();
        for sequence in &self.scheduler.running {
            for block in sequence.table.covering(sequence.table.positions()) {
                *held.entry(block).or_default() += 1;
            }
        }
        assert_eq!(pool.holders(), held, "references are wrong");
        assert_eq!(
            held.len() + pool.idle() + pool.free(),
            self.blocks,
            "a block was lost"
        );
        assert!(self.caching || pool.idle() == 0);
        for sequence in &self.scheduler.waiting {
            let positions = sequence.table.positions();
            assert_eq!(positions, 0, "a waiting sequence holds blocks");
        }
    }

    /// Runs a chunk on the device: the cache must hold the sequence's own tokens before it.
    fn run(&mut self, chunk: &PlannedChunk) {
        let sequence = self.scheduler.running_sequence(chunk.id).unwrap();
        let end = chunk.start + chunk.len;
        let table = sequence.table.covering(end);
        assert_eq!(table.len(), blocks_for(end), "the blocks do not cover it");
        let slot = |position: usize| table[position / BLOCK] as usize * BLOCK + position % BLOCK;
        let mut hash = 0;
        for (position, token) in sequence.tokens()[..end].iter().enumerate() {
            hash = after(hash, *token);
            let place = &mut self.device[slot(position)];
            if position < chunk.start {
                assert_eq!(*place, hash, "position {position} is not its own");
            } else {
                *place = hash;
            }
        }
    }

    /// One step, with everything that must hold checked; false if there was nothing to run.
    fn step(&mut self, again: bool) -> bool {
        let plan = self.scheduler.plan();
        for id in &plan.preempted {
            self.live.get_mut(id).unwrap().1 = 0;
        }
        for (id, cached) in &plan.begun {
            assert!(self.caching || *cached == 0);
            self.live.get_mut(id).unwrap().1 = *cached;
        }
        let tokens: usize = plan.chunks.iter().map(|chunk| chunk.len).sum();
        assert!(tokens <= self.budget.tokens, "{tokens} tokens in a step");
        let rows = |chunk: &PlannedChunk| chunk.scores.len() + usize::from(chunk.selects);
        let rows: usize = plan.chunks.iter().map(rows).sum();
        assert!(rows <= self.budget.rows, "{rows} rows in a step");
        assert!(self.scheduler.running() <= self.budget.sequences);
        let ids: BTreeSet<_> = plan.chunks.iter().map(|chunk| chunk.id).collect();
        assert_eq!(ids.len(), plan.chunks.len(), "two chunks of one sequence");
        self.check_blocks();
        self.check_writes(&plan);

        let oldest = self.live.keys().next().copied();
        for chunk in &plan.chunks {
            self.run(chunk);
        }
        for chunk in &plan.chunks {
            self.check_scores(chunk);
            let sequence = self.scheduler.running_sequence_mut(chunk.id).unwrap();
            let (left, cached) = self.live.get_mut(&chunk.id).unwrap();
            assert!(chunk.len > 0);
            assert_eq!(chunk.start, *cached, "a gap in the cache");
            let end = chunk.start + chunk.len;
            let is_last = end == sequence.tokens().len();
            assert_eq!(chunk.selects, is_last && *left > 0);
            sequence.advance(chunk.len);
            *cached += chunk.len;
            if chunk.selects && again && chunk.id.0.is_multiple_of(2) {
                sequence.repeat_last();
                *cached -= 1;
            } else if chunk.selects {
                *left -= 1;
                if *left == 0 {
                    self.end(chunk.id);
                } else {
                    sequence.push(chunk.id.0 as u32 % 5);
                }
            } else if is_last {
                self.end(chunk.id);
            }
            self.scheduler.settle(chunk.id);
            self.check_blocks();
        }
        if let Some(oldest) = oldest {
            assert!(ids.contains(&oldest), "the oldest made no progress");
        }
        !plan.chunks.is_empty()
    }

    fn tokens_of(&self, id: SequenceId) -> Option<usize> {
        let running = self.scheduler.running.iter();
        let mut all = running.chain(&self.scheduler.waiting);
        all.find(|s| s.id == id).map(|s| s.tokens().len())
    }

    /// No chunk writes to a block that another sequence holds.
    fn check_writes(&self, plan: &Plan) {
        let holders = self.scheduler.pool().holders();
        for chunk in &plan.chunks {
            let sequence = self.scheduler.running_sequence(chunk.id).unwrap();
            let table = sequence.table.covering(chunk.start + chunk.len);
            for block in &table[chunk.start / BLOCK..] {
                assert_eq!(holders[block], 1, "block {block} is written and shared");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_block_leaks_no_sequence_starves_and_budgets_are_kept(
        acts in prop::collection::vec(act(), 1..120),
        blocks in 3usize..24,
        tokens in 4usize..100,
        sequences in 1usize..5,
        rows in 5usize..60,
        caching in prop::bool::weighted(0.9),
    ) {
        let budget = Budget { tokens, sequences: sequences.min(tokens), rows };
        let mut world = World {
            scheduler: Scheduler::new(budget, BlockPool::new(blocks, caching)),
            budget,
            blocks,
            caching,
            live: BTreeMap::new(),
            unscored: BTreeMap::new(),
            ended: Vec::new(),
            device: vec![0; blocks * BLOCK],
        };
        for (id, act) in (0..).zip(acts) {
            match act {
                Act::Arrive { story, shared, own, new, score } => {
                    let mut prompt: Vec<u32> = (0..shared as u32).map(|at| story + at).collect();
                    prompt.extend((0..own).map(|_| id as u32 % 5));
                    world.arrive(id, prompt, new, score);
                }
                Act::Cancel { nth } => {
                    if let Some(id) = world.live.keys().nth(nth).copied() {
                        prop_assert!(world.scheduler.remove(id));
                        world.live.remove(&id);
                        world.unscored.remove(&id);
                        world.check_blocks();
                    }
                }
                Act::Return { nth, own, new } => {
                    if let Some(mut prompt) = world.ended.get(nth).cloned() {
                        prompt.extend((0..own).map(|_| id as u32 % 5));
                        world.arrive(id, prompt, new, Score::Nothing);
                    }
                }
                Act::Clear => {
                    world.scheduler.clear_cache();
                    prop_assert_eq!(world.scheduler.pool().idle(), 0);
                    world.check_blocks();
                }
                Act::Step { again } => {
                    world.step(again);
                }
            }
        }
        // Each step takes the oldest one further and it is never sent back, so even one after the
        // other they need no more steps than they have tokens.
        let live = world.live.keys().filter_map(|id| world.tokens_of(*id));
        let work: usize = live.sum::<usize>() + world.live.values().map(|(new, _)| new).sum::<usize>();
        let mut steps = 0;
        while world.step(false) {
            steps += 1;
            prop_assert!(steps <= work, "no end after {} steps", steps);
        }
        prop_assert!(world.live.is_empty(), "left over: {:?}", world.live.keys());
        prop_assert_eq!(world.scheduler.waiting() + world.scheduler.running(), 0);
        prop_assert_eq!(world.scheduler.pool().available(), blocks);
        world.scheduler.clear_cache();
        prop_assert_eq!(world.scheduler.pool().free(), blocks);
    }
}
