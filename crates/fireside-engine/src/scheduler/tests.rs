//! Promises of the scheduler, over small cases and random histories.

use std::collections::{BTreeMap, BTreeSet};

use fireside_model::BLOCK;
use proptest::prelude::*;

use super::*;

const BUDGET: Budget = Budget {
    tokens: 64,
    sequences: 4,
};

fn sequence(id: u64, prompt: usize, new: usize) -> Sequence {
    Sequence::new(SequenceId(id), vec![0; prompt], prompt + new.max(1) - 1)
}

/// Runs a plan: every chunk advances, and what selects gets a token.
fn run(scheduler: &mut Scheduler, plan: &Plan) {
    for chunk in &plan.chunks {
        let sequence = scheduler.running_sequence_mut(chunk.id).unwrap();
        sequence.advance(chunk.len);
        if chunk.selects {
            sequence.push(0);
        }
    }
}

fn lengths(plan: &Plan) -> Vec<(u64, usize, bool)> {
    plan.chunks
        .iter()
        .map(|chunk| (chunk.id.0, chunk.len, chunk.selects))
        .collect()
}

#[test]
fn a_long_prompt_is_cut_at_the_budget_and_selects_only_at_its_end() {
    let mut scheduler = Scheduler::new(BUDGET, 100);
    scheduler.add(sequence(0, 150, 5)).unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let plan = scheduler.plan();
        seen.extend(lengths(&plan));
        run(&mut scheduler, &plan);
    }
    assert_eq!(
        seen,
        [(0, 64, false), (0, 64, false), (0, 22, true), (0, 1, true)]
    );
}

#[test]
fn a_prompt_shares_the_step_with_those_that_generate() {
    let mut scheduler = Scheduler::new(BUDGET, 100);
    scheduler.add(sequence(0, 3, 50)).unwrap();
    let plan = scheduler.plan();
    run(&mut scheduler, &plan);
    scheduler.add(sequence(1, 100, 5)).unwrap();
    assert_eq!(lengths(&scheduler.plan()), [(0, 1, true), (1, 63, false)]);
}

#[test]
fn a_plan_that_was_not_run_is_planned_again() {
    let mut scheduler = Scheduler::new(BUDGET, 100);
    scheduler.add(sequence(0, 100, 5)).unwrap();
    scheduler.add(sequence(1, 5, 5)).unwrap();
    let first = scheduler.plan();
    assert_eq!(scheduler.plan(), first);
}

#[test]
fn a_sequence_that_fits_the_cache_exactly_runs_and_a_longer_one_is_refused() {
    let mut scheduler = Scheduler::new(BUDGET, 2);
    assert!(scheduler.add(sequence(0, 2 * BLOCK, 2)).is_err());
    scheduler.add(sequence(1, 2 * BLOCK, 1)).unwrap();
    assert_eq!(lengths(&scheduler.plan()), [(1, 2 * BLOCK, true)]);
}

#[test]
fn the_youngest_gives_way_and_comes_back_with_all_of_its_tokens() {
    let mut scheduler = Scheduler::new(BUDGET, 3);
    scheduler.add(sequence(0, BLOCK, 2 * BLOCK)).unwrap();
    scheduler.add(sequence(1, BLOCK - 1, BLOCK)).unwrap();
    let plan = scheduler.plan();
    assert_eq!(plan.chunks.len(), 2);
    run(&mut scheduler, &plan);
    // Sequence 0 takes the last free block; sequence 1 fills its own, then needs one.
    let plan = scheduler.plan();
    assert_eq!(plan.preempted, []);
    run(&mut scheduler, &plan);
    let plan = scheduler.plan();
    assert_eq!(plan.preempted, [SequenceId(1)]);
    assert_eq!(lengths(&plan), [(0, 1, true)]);
    assert_eq!(scheduler.waiting(), 1);
    assert!(scheduler.remove(SequenceId(0)));
    assert_eq!(lengths(&scheduler.plan()), [(1, BLOCK + 1, true)]);
}

#[test]
fn removal_frees_the_blocks_at_once_wherever_the_sequence_is() {
    let mut scheduler = Scheduler::new(
        Budget {
            tokens: 64,
            sequences: 1,
        },
        8,
    );
    scheduler.add(sequence(0, 100, 5)).unwrap();
    scheduler.add(sequence(1, 10, 5)).unwrap();
    scheduler.plan();
    assert!(scheduler.pool().free() < 8);
    assert!(scheduler.remove(SequenceId(1)));
    assert!(scheduler.remove(SequenceId(0)));
    assert!(!scheduler.remove(SequenceId(0)));
    assert_eq!(scheduler.pool().free(), 8);
    assert_eq!(scheduler.plan(), Plan::default());
}

/// What a random history does before each step.
#[derive(Debug, Clone)]
enum Act {
    Arrive { prompt: usize, new: usize },
    Cancel { nth: usize },
    Step,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (1usize..200, 1usize..80).prop_map(|(prompt, new)| Act::Arrive { prompt, new }),
        1 => (0usize..20).prop_map(|nth| Act::Cancel { nth }),
        6 => Just(Act::Step),
    ]
}

/// The scheduler with what the test knows of its sequences.
struct World {
    scheduler: Scheduler,
    budget: Budget,
    blocks: usize,
    /// Tokens still to be generated, and tokens in the cache, per sequence.
    live: BTreeMap<SequenceId, (usize, usize)>,
    ended: Vec<SequenceId>,
}

impl World {
    /// One step, with everything that must hold checked; false if there was nothing to run.
    fn step(&mut self) -> bool {
        let plan = self.scheduler.plan();
        for id in &plan.preempted {
            self.live.get_mut(id).unwrap().1 = 0;
        }
        let tokens: usize = plan.chunks.iter().map(|chunk| chunk.len).sum();
        assert!(tokens <= self.budget.tokens, "{tokens} tokens in a step");
        assert!(self.scheduler.running() <= self.budget.sequences);
        let ids: BTreeSet<_> = plan.chunks.iter().map(|chunk| chunk.id).collect();
        assert_eq!(ids.len(), plan.chunks.len(), "two chunks of one sequence");

        let mut held = BTreeSet::new();
        let mut count = 0;
        for sequence in &self.scheduler.running {
            let table = sequence.table.covering(sequence.table.positions());
            count += table.len();
            held.extend(table);
        }
        assert_eq!(held.len(), count, "a block with two holders");
        assert_eq!(
            count + self.scheduler.pool().free(),
            self.blocks,
            "a block was lost"
        );
        for sequence in &self.scheduler.waiting {
            assert_eq!(
                sequence.table.positions(),
                0,
                "a waiting sequence holds blocks"
            );
        }

        let oldest = self.live.keys().next().copied();
        for chunk in &plan.chunks {
            let sequence = self.scheduler.running_sequence_mut(chunk.id).unwrap();
            let (left, cached) = self.live.get_mut(&chunk.id).unwrap();
            assert!(chunk.len > 0);
            assert_eq!(chunk.start, *cached, "a gap in the cache");
            assert!(sequence.table.positions() >= chunk.start + chunk.len);
            assert_eq!(
                chunk.selects,
                chunk.start + chunk.len == sequence.tokens().len()
            );
            sequence.advance(chunk.len);
            *cached += chunk.len;
            if chunk.selects {
                sequence.push(0);
                *left -= 1;
                if *left == 0 {
                    self.live.remove(&chunk.id);
                    self.ended.push(chunk.id);
                    assert!(self.scheduler.remove(chunk.id));
                }
            }
        }
        if let Some(oldest) = oldest {
            assert!(
                ids.contains(&oldest),
                "the oldest sequence made no progress"
            );
        }
        !plan.chunks.is_empty()
    }
}

proptest! {
    #[test]
    fn no_block_leaks_no_sequence_starves_and_budgets_are_kept(
        acts in prop::collection::vec(act(), 1..120),
        blocks in 3usize..24,
        tokens in 4usize..100,
        sequences in 1usize..5,
    ) {
        let budget = Budget { tokens, sequences: sequences.min(tokens) };
        let mut world = World {
            scheduler: Scheduler::new(budget, blocks),
            budget,
            blocks,
            live: BTreeMap::new(),
            ended: Vec::new(),
        };
        let mut work = 0;
        for (id, act) in (0..).zip(acts) {
            match act {
                Act::Arrive { prompt, new } => {
                    let fits = prompt + new - 1 <= blocks * BLOCK;
                    let added = world.scheduler.add(sequence(id, prompt, new)).is_ok();
                    prop_assert_eq!(added, fits);
                    if added {
                        world.live.insert(SequenceId(id), (new, 0));
                        work += prompt + new;
                    }
                }
                Act::Cancel { nth } => {
                    if let Some(id) = world.live.keys().nth(nth).copied() {
                        prop_assert!(world.scheduler.remove(id));
                        world.live.remove(&id);
                    }
                }
                Act::Step => {
                    world.step();
                }
            }
        }
        // Each step takes the oldest one further and it is never sent back, so even one after the
        // other they need no more steps than they have tokens.
        let mut steps = 0;
        while world.step() {
            steps += 1;
            prop_assert!(steps <= work, "no end after {} steps", steps);
        }
        prop_assert!(world.live.is_empty(), "left over: {:?}", world.live.keys());
        prop_assert_eq!(world.scheduler.pool().free(), blocks);
        prop_assert_eq!(world.scheduler.waiting() + world.scheduler.running(), 0);
    }
}
