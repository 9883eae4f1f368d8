//! Promises of the scheduler, over small cases and random histories.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const BUDGET: Budget = Budget {
    tokens: 64,
    sequences: 4,
    rows: 20,
};

/// A scheduler over `blocks` blocks.
fn scheduler(budget: Budget, blocks: usize) -> Scheduler {
    Scheduler::new(budget, BlockPool::new(blocks, true))
}

/// A sequence whose tokens are like no other's.
fn sequence(id: u64, prompt: usize, new: usize) -> Sequence {
    with_tokens(id, vec![id as u32; prompt], new)
}

fn with_tokens(id: u64, tokens: Vec<u32>, new: usize) -> Sequence {
    let positions = tokens.len() + new.max(1) - 1;
    Sequence::new(SequenceId(id), tokens, positions)
}

/// Runs a plan: every chunk advances, and what selects gets a token.
fn run(scheduler: &mut Scheduler, plan: &Plan) {
    for chunk in &plan.chunks {
        let sequence = scheduler.running_sequence_mut(chunk.id).unwrap();
        sequence.advance(chunk.len);
        if chunk.selects {
            sequence.push(chunk.id.0 as u32);
        }
        scheduler.settle(chunk.id);
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
    let mut scheduler = scheduler(BUDGET, 100);
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
    let mut scheduler = scheduler(BUDGET, 100);
    scheduler.add(sequence(0, 3, 50)).unwrap();
    let plan = scheduler.plan();
    run(&mut scheduler, &plan);
    scheduler.add(sequence(1, 100, 5)).unwrap();
    assert_eq!(lengths(&scheduler.plan()), [(0, 1, true), (1, 63, false)]);
}

#[test]
fn a_short_prompt_joins_a_long_one_that_keeps_half_of_the_step() {
    let mut scheduler = scheduler(BUDGET, 100);
    scheduler.add(sequence(0, 300, 5)).unwrap();
    let plan = scheduler.plan();
    assert_eq!(lengths(&plan), [(0, 64, false)]);
    run(&mut scheduler, &plan);
    scheduler.add(sequence(1, 9, 5)).unwrap();
    scheduler.add(sequence(2, 90, 5)).unwrap();
    let seen = lengths(&scheduler.plan());
    assert_eq!(seen, [(1, 9, true), (2, 23, false), (0, 32, false)]);
}

#[test]
fn a_plan_that_was_not_run_is_planned_again() {
    let mut scheduler = scheduler(BUDGET, 100);
    scheduler.add(sequence(0, 100, 5)).unwrap();
    scheduler.add(sequence(1, 5, 5)).unwrap();
    let first = scheduler.plan();
    assert_eq!(lengths(&scheduler.plan()), lengths(&first));
}

#[test]
fn a_sequence_that_fits_the_cache_exactly_runs_and_a_longer_one_is_refused() {
    let mut scheduler = scheduler(BUDGET, 2);
    assert!(scheduler.add(sequence(0, 2 * BLOCK, 2)).is_err());
    scheduler.add(sequence(1, 2 * BLOCK, 1)).unwrap();
    assert_eq!(lengths(&scheduler.plan()), [(1, 2 * BLOCK, true)]);
}

#[test]
fn the_youngest_gives_way_and_comes_back_with_all_of_its_tokens() {
    let mut scheduler = scheduler(BUDGET, 3);
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
    // Its first block is still in the cache.
    let plan = scheduler.plan();
    assert_eq!(plan.begun, [(SequenceId(1), BLOCK)]);
    assert_eq!(lengths(&plan), [(1, 1, true)]);
}

#[test]
fn removal_frees_the_blocks_at_once_wherever_the_sequence_is() {
    let budget = Budget {
        sequences: 1,
        ..BUDGET
    };
    let mut scheduler = scheduler(budget, 8);
    scheduler.add(sequence(0, 100, 5)).unwrap();
    scheduler.add(sequence(1, 10, 5)).unwrap();
    scheduler.plan();
    assert!(scheduler.pool().available() < 8);
    assert!(scheduler.remove(SequenceId(1)));
    assert!(scheduler.remove(SequenceId(0)));
    assert!(!scheduler.remove(SequenceId(0)));
    assert_eq!(scheduler.pool().available(), 8);
    assert_eq!(scheduler.plan(), Plan::default());
}

#[test]
fn a_sequence_that_begins_like_an_ended_one_runs_only_the_rest() {
    let mut scheduler = scheduler(BUDGET, 8);
    let prompt: Vec<u32> = (0..2 * BLOCK as u32).collect();
    scheduler.add(with_tokens(0, prompt.clone(), 3)).unwrap();
    for _ in 0..2 {
        let plan = scheduler.plan();
        run(&mut scheduler, &plan);
    }
    assert!(scheduler.remove(SequenceId(0)));
    let longer = [prompt, vec![7; 9]].concat();
    scheduler.add(with_tokens(1, longer, 3)).unwrap();
    let plan = scheduler.plan();
    assert_eq!(plan.begun, [(SequenceId(1), 2 * BLOCK)]);
    assert_eq!(lengths(&plan), [(1, 9, true)]);
}

#[test]
fn who_begins_like_a_prompt_that_is_being_run_waits_for_it() {
    let mut scheduler = scheduler(BUDGET, 20);
    let prompt: Vec<u32> = (0..3 * BLOCK as u32 + 5).collect();
    for id in 0..3 {
        scheduler.add(with_tokens(id, prompt.clone(), 3)).unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..3 {
        let plan = scheduler.plan();
        seen.push(lengths(&plan));
        run(&mut scheduler, &plan);
    }
    assert_eq!(seen[0], [(0, 64, false)]);
    assert_eq!(seen[1], [(0, 37, true)]);
    assert_eq!(seen[2], [(0, 1, true), (2, 5, true), (1, 5, true)]);
}

#[test]
fn a_prompt_that_is_scored_is_cut_where_the_rows_end() {
    let mut scheduler = scheduler(BUDGET, 20);
    scheduler.add(sequence(0, 50, 5).scoring(49)).unwrap();
    scheduler.add(sequence(1, 9, 5)).unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let plan = scheduler.plan();
        let rows = plan
            .chunks
            .iter()
            .map(|c| (c.id.0, c.scores.clone(), c.selects));
        seen.push(rows.collect::<Vec<_>>());
        run(&mut scheduler, &plan);
    }
    assert_eq!(seen[0], [(1, 0..0, true), (0, 0..19, false)]);
    assert_eq!(seen[1], [(1, 9..9, true), (0, 19..38, false)]);
    assert_eq!(seen[2], [(1, 10..10, true), (0, 38..49, true)]);
    assert_eq!(seen[3], [(0, 50..50, true), (1, 11..11, true)]);
}

#[test]
fn only_what_is_scored_already_may_come_from_the_cache() {
    let mut scheduler = scheduler(BUDGET, 8);
    let prompt: Vec<u32> = (0..2 * BLOCK as u32 + 5).collect();
    scheduler.add(with_tokens(0, prompt.clone(), 1)).unwrap();
    while scheduler.running() + scheduler.waiting() > 0 {
        let plan = scheduler.plan();
        run(&mut scheduler, &plan);
        if plan.chunks[0].selects {
            scheduler.remove(SequenceId(0));
        }
    }
    let scored = with_tokens(1, prompt.clone(), 1).scoring(prompt.len() - 1);
    scheduler.add(scored).unwrap();
    for begun in [&[(SequenceId(1), 0)][..], &[]] {
        let plan = scheduler.plan();
        assert_eq!(plan.begun, begun);
        run(&mut scheduler, &plan);
    }
    // It has scored forty positions, of which one whole block is cached.
    scheduler.preempt_youngest();
    let plan = scheduler.plan();
    assert_eq!(plan.begun, [(SequenceId(1), BLOCK)]);
    assert_eq!(plan.chunks[0].start, BLOCK);
    assert_eq!(plan.chunks[0].scores, 40..60);
}

mod histories;
