//! Promises of the pool: what is given, what is found again, and what goes first.

use super::*;

/// That of the model without an adapter.
const ROOT: Prefix = Prefix(0);

fn pool(total: usize) -> BlockPool {
    BlockPool::new(total, true)
}

/// `blocks` blocks of tokens and one more, all different for different `seed`s.
fn tokens(seed: u32, blocks: usize) -> Vec<u32> {
    (0..(blocks * BLOCK) as u32 + 1)
        .map(|at| seed * 100_000 + at)
        .collect()
}

/// Has the cache hold these tokens, as a sequence that ran them.
fn run(pool: &mut BlockPool, tokens: &[u32]) -> BlockTable {
    let mut table = open(pool, tokens, 0).unwrap();
    pool.settle(&mut table, tokens);
    table
}

/// A table for tokens of which all but the last one may come from the cache.
fn open(pool: &mut BlockPool, tokens: &[u32], spare: usize) -> Option<BlockTable> {
    pool.open(ROOT, &tokens[..tokens.len() - 1], tokens.len(), spare)
}

fn numbers(table: &BlockTable) -> Vec<u32> {
    table.covering(table.positions())
}

#[test]
fn a_table_grows_by_whole_blocks_and_only_as_far_as_needed() {
    let mut pool = pool(4);
    let mut table = BlockTable::default();
    pool.grow(&mut table, 1).unwrap();
    assert_eq!((table.positions(), pool.free()), (BLOCK, 3));
    pool.grow(&mut table, BLOCK).unwrap();
    assert_eq!(pool.free(), 3);
    pool.grow(&mut table, BLOCK + 1).unwrap();
    assert_eq!(table.covering(BLOCK + 1), [0, 1]);
    assert_eq!(table.covering(BLOCK), [0]);
    assert_eq!(table.covering(0), [0; 0]);
}

#[test]
fn too_few_free_blocks_are_an_error_that_changes_nothing() {
    let mut pool = pool(2);
    let mut table = BlockTable::default();
    pool.grow(&mut table, BLOCK).unwrap();
    assert_eq!(pool.grow(&mut table, 4 * BLOCK), Err(2));
    assert_eq!((table.positions(), pool.free()), (BLOCK, 1));
    assert_eq!(open(&mut pool, &tokens(0, 1), 0), None);
    assert_eq!(open(&mut pool, &tokens(0, 0), 1), None);
    assert_eq!(pool.free(), 1);
}

#[test]
fn released_blocks_can_be_given_again() {
    let mut pool = pool(3);
    let mut first = BlockTable::default();
    let mut second = BlockTable::default();
    pool.grow(&mut first, 2 * BLOCK).unwrap();
    pool.grow(&mut second, BLOCK).unwrap();
    pool.release(first);
    assert_eq!(pool.free(), 2);
    pool.grow(&mut second, 3 * BLOCK).unwrap();
    let mut numbers = numbers(&second);
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2]);
    pool.release(second);
    assert_eq!(pool.free(), pool.total());
}

#[test]
fn what_was_run_is_found_again_up_to_the_last_full_block() {
    let mut pool = pool(8);
    let long = tokens(1, 3);
    let table = run(&mut pool, &long);
    let held = numbers(&table);
    pool.release(table);
    assert_eq!((pool.free(), pool.idle()), (5, 3));

    let table = open(&mut pool, &long, 0).unwrap();
    assert_eq!(table.cached_positions(), 3 * BLOCK);
    assert_eq!(numbers(&table)[..3], held[..3]);
    pool.release(table);
    assert_eq!(pool.cached(ROOT, &long[..3 * BLOCK]), 3 * BLOCK);
    assert_eq!(pool.cached(ROOT, &long[..3 * BLOCK - 1]), 2 * BLOCK);
    assert_eq!(pool.cached(ROOT, &long[..2 * BLOCK + 5]), 2 * BLOCK);
    assert_eq!(
        pool.cached(ROOT, &[&long[..BLOCK], &tokens(2, 2)].concat()),
        BLOCK
    );
    assert_eq!(pool.cached(ROOT, &tokens(2, 3)), 0);
}

#[test]
fn equal_blocks_after_other_tokens_are_not_the_same() {
    let mut pool = pool(8);
    let (first, second) = (tokens(1, 1), tokens(2, 1));
    let tail = tokens(3, 1);
    let all = [&first[..BLOCK], &tail].concat();
    let table = run(&mut pool, &all);
    pool.release(table);
    assert_eq!(pool.cached(ROOT, &all), 2 * BLOCK);
    assert_eq!(pool.cached(ROOT, &[&second[..BLOCK], &tail].concat()), 0);
    assert_eq!(pool.cached(ROOT, &tail), 0);
}

#[test]
fn sequences_that_begin_alike_hold_the_same_blocks() {
    let mut pool = pool(8);
    let long = tokens(1, 2);
    let first = run(&mut pool, &long);
    let second = open(&mut pool, &long, 0).unwrap();
    assert_eq!(numbers(&first)[..2], numbers(&second)[..2]);
    assert_ne!(numbers(&first)[2], numbers(&second)[2]);
    assert_eq!(pool.available(), 4);
    pool.release(first);
    assert_eq!((pool.available(), pool.idle()), (5, 0));
    pool.release(second);
    assert_eq!((pool.available(), pool.idle()), (8, 2));
}

#[test]
fn of_blocks_computed_twice_one_is_kept() {
    let mut pool = pool(8);
    let long = tokens(1, 2);
    let mut first = open(&mut pool, &long, 0).unwrap();
    let mut second = open(&mut pool, &long, 0).unwrap();
    assert_eq!(pool.available(), 2);
    pool.settle(&mut first, &long);
    pool.settle(&mut second, &long);
    assert_eq!(numbers(&first)[..2], numbers(&second)[..2]);
    assert_eq!(pool.available(), 4);
    pool.release(first);
    pool.release(second);
    assert_eq!((pool.free(), pool.idle()), (6, 2));
}

#[test]
fn what_was_given_up_first_goes_first_and_a_front_outlives_its_continuation() {
    let mut pool = pool(4);
    let (old, new) = (tokens(1, 2), tokens(2, 1));
    let table = run(&mut pool, &old);
    pool.release(table);
    let table = run(&mut pool, &new[..BLOCK]);
    pool.release(table);
    assert_eq!((pool.free(), pool.idle()), (1, 3));

    let mut other = BlockTable::default();
    pool.grow(&mut other, 2 * BLOCK).unwrap();
    assert_eq!(
        (pool.cached(ROOT, &old), pool.cached(ROOT, &new)),
        (BLOCK, BLOCK)
    );
    pool.grow(&mut other, 3 * BLOCK).unwrap();
    assert_eq!(
        (pool.cached(ROOT, &old), pool.cached(ROOT, &new)),
        (0, BLOCK)
    );
    pool.release(other);
    assert_eq!((pool.free(), pool.idle()), (3, 1));
}

#[test]
fn a_hit_makes_blocks_young_again() {
    let mut pool = pool(2);
    let (first, second) = (tokens(1, 1), tokens(2, 1));
    for one in [&first, &second, &first] {
        let table = run(&mut pool, &one[..BLOCK]);
        pool.release(table);
    }
    let mut other = BlockTable::default();
    pool.grow(&mut other, BLOCK).unwrap();
    assert_eq!(
        (pool.cached(ROOT, &first), pool.cached(ROOT, &second)),
        (BLOCK, 0)
    );
}

#[test]
fn a_cleared_cache_finds_nothing_and_takes_nothing_from_before() {
    let mut pool = pool(6);
    let (ended, running) = (tokens(1, 2), tokens(2, 2));
    let table = run(&mut pool, &ended);
    pool.release(table);
    let mut table = open(&mut pool, &running, 0).unwrap();
    pool.settle(&mut table, &running[..BLOCK]);
    pool.clear();
    assert_eq!((pool.idle(), pool.free()), (0, 3));
    pool.settle(&mut table, &running);
    assert_eq!(
        (pool.cached(ROOT, &ended), pool.cached(ROOT, &running)),
        (0, 0)
    );
    pool.release(table);
    assert_eq!(pool.free(), 6);
    let table = run(&mut pool, &running);
    assert_eq!(pool.cached(ROOT, &running), 2 * BLOCK);
    pool.release(table);
}

#[test]
fn a_pool_that_caches_nothing_gives_all_back() {
    let mut pool = BlockPool::new(4, false);
    let long = tokens(1, 2);
    let table = run(&mut pool, &long);
    assert_eq!(pool.cached(ROOT, &long), 0);
    pool.release(table);
    assert_eq!(pool.free(), 4);
}

#[test]
fn what_was_computed_under_one_root_is_not_found_under_another() {
    let mut pool = pool(8);
    let tokens = tokens(1, 2);
    let held = run(&mut pool, &tokens);
    pool.release(held);
    let other = pool.fresh_prefix();
    assert_eq!(pool.cached(ROOT, &tokens), 2 * BLOCK);
    assert_eq!(pool.cached(other, &tokens), 0);
    let mut table = pool
        .open(other, &tokens[..2 * BLOCK], tokens.len(), 0)
        .unwrap();
    pool.settle(&mut table, &tokens);
    pool.release(table);
    assert_eq!(pool.cached(other, &tokens), 2 * BLOCK);
    assert_eq!(pool.cached(ROOT, &tokens), 2 * BLOCK);
}
