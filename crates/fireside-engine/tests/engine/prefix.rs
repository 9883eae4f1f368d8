//! What requests get that begin like others: the same tokens, and less to run.

use crate::mock::{LIMITS, Mock, Model, engine, engine_with, request};
use fireside_engine::{Completion, Engine, EngineConfig, ExecutorLimits, Request};
use fireside_model::BLOCK;

fn prompt(len: u32) -> Vec<u32> {
    (0..len).map(|at| 5 + at * 7 % 90).collect()
}

fn greedy(prompt: &[u32], new: usize) -> Request {
    request(
        prompt,
        &format!(r#"{{"max_new_tokens": {new}, "ignore_eos": true}}"#),
    )
}

fn complete(engine: &mut Engine<Mock>, request: &Request) -> Completion {
    let one = std::slice::from_ref(request);
    let mut all = pollster::block_on(engine.generate(one)).unwrap();
    all.remove(0).remove(0)
}

/// Two turns of a chat: the second prompt is the first one, its answer, and more.
fn two_turns(engine: &mut Engine<Mock>) -> (Completion, Completion, Vec<u32>) {
    let first = complete(engine, &greedy(&prompt(100), 40));
    let second = [&prompt(100), &first.token_ids[..], &[8; 20]].concat();
    let answer = complete(engine, &greedy(&second, 10));
    (first, answer, second)
}

#[test]
fn a_second_turn_runs_only_what_is_new() {
    let (mut engine, _) = engine(Model::Ngram);
    let (first, second, prompt) = two_turns(&mut engine);
    assert_eq!(second.token_ids, Model::Ngram.greedy(&prompt, 10));
    // The last token of an answer is not run: 139 positions are in the cache, 128 in full blocks.
    assert_eq!(first.stats.cached_tokens, 0);
    assert_eq!(second.stats.cached_tokens, 128);
    let stats = engine.stats();
    assert_eq!((stats.prefix_queries, stats.prefix_hits), (260, 128));
    assert_eq!(stats.prefill_tokens, 100 + 160 - 128);
    assert_eq!((stats.used_blocks, stats.cached_blocks), (0, 5));
}

#[test]
fn without_the_prefix_cache_the_tokens_are_the_same_and_all_are_run() {
    let config = EngineConfig {
        prefix_cache: false,
        ..EngineConfig::default()
    };
    let (mut plain, _) = engine_with(Model::Ngram, LIMITS, config);
    let (mut cached, _) = engine(Model::Ngram);
    let (plain_first, plain_second, _) = two_turns(&mut plain);
    let (first, second, _) = two_turns(&mut cached);
    assert_eq!(plain_first.token_ids, first.token_ids);
    assert_eq!(plain_second.token_ids, second.token_ids);
    assert_eq!(plain_second.stats.cached_tokens, 0);
    let stats = plain.stats();
    assert_eq!((stats.prefix_hits, stats.prefill_tokens), (0, 260));
    assert_eq!(stats.free_blocks, LIMITS.blocks);
}

#[test]
fn a_cleared_cache_is_not_used_again() {
    let (mut engine, _) = engine(Model::Ngram);
    let request = greedy(&prompt(100), 3);
    complete(&mut engine, &request);
    assert_eq!(complete(&mut engine, &request).stats.cached_tokens, 96);
    engine.clear_prefix_cache();
    assert_eq!(engine.stats().free_blocks, LIMITS.blocks);
    assert_eq!(complete(&mut engine, &request).stats.cached_tokens, 0);
}

#[test]
fn a_prompt_that_is_wholly_cached_still_runs_its_last_token() {
    let (mut engine, log) = engine(Model::Ngram);
    let prompt = prompt(2 * BLOCK as u32);
    let request = greedy(&prompt, 3);
    complete(&mut engine, &request);
    let steps = log.borrow().steps;
    let again = complete(&mut engine, &request);
    assert_eq!(again.stats.cached_tokens, BLOCK);
    assert_eq!(again.token_ids, Model::Ngram.greedy(&prompt, 3));
    assert_eq!(log.borrow().steps - steps, 3);
}

#[test]
fn sequences_of_one_prompt_run_it_once() {
    let (mut engine, log) = engine(Model::Ngram);
    let json = r#"{"max_new_tokens": 5, "ignore_eos": true, "num_return_sequences": 4}"#;
    let all = pollster::block_on(engine.generate(&[request(&prompt(100), json)])).unwrap();
    let cached: Vec<usize> = all[0].iter().map(|c| c.stats.cached_tokens).collect();
    assert_eq!(cached, [0, 96, 96, 96]);
    assert_eq!(engine.stats().prefill_tokens, 100 + 3 * 4);
    assert_eq!(log.borrow().steps, 6);
    for completion in &all[0] {
        assert_eq!(completion.token_ids, Model::Ngram.greedy(&prompt(100), 5));
    }
}

#[test]
fn an_unrelated_request_does_not_wait_for_one_that_is_held_back() {
    let (mut engine, _) = engine(Model::Ngram);
    let alike = greedy(&prompt(100), 5);
    engine.submit(&alike).unwrap();
    engine.submit(&alike).unwrap();
    let other = engine.submit(&greedy(&[1, 9], 5)).unwrap();
    let events = pollster::block_on(engine.step()).unwrap();
    assert!(events.iter().any(|event| event.request() == other));
    assert_eq!(events.len(), 2);
}

#[test]
fn rows_that_are_run_again_write_to_no_shared_block() {
    let (mut engine, log) = engine(Model::Ngram);
    // The device gives no candidates, so each token's row is run twice.
    log.borrow_mut().candidates = Some(0);
    let json =
        r#"{"max_new_tokens": 70, "ignore_eos": true, "temperature": 1, "top_k": 4, "seed": 9}"#;
    let requests: Vec<Request> = (0..4)
        .map(|_| request(&prompt(2 * BLOCK as u32), json))
        .collect();
    let all = pollster::block_on(engine.generate(&requests)).unwrap();
    assert!(all[0][0].stats.fallbacks > 0);
    for completions in &all {
        assert_eq!(completions[0].token_ids, all[0][0].token_ids);
    }
}

#[test]
fn what_a_failed_device_held_is_not_used_again() {
    let (mut engine, log) = engine(Model::Ngram);
    let request = greedy(&prompt(100), 3);
    complete(&mut engine, &request);
    log.borrow_mut().fail_at = Some(4);
    pollster::block_on(engine.generate(std::slice::from_ref(&request))).unwrap_err();
    assert_eq!(engine.stats().free_blocks, LIMITS.blocks);
    assert_eq!(complete(&mut engine, &request).stats.cached_tokens, 0);
}

#[test]
fn what_broken_logits_may_have_spoilt_is_not_used_again() {
    let (mut engine, log) = engine(Model::Ngram);
    let request = greedy(&prompt(100), 3);
    complete(&mut engine, &request);
    log.borrow_mut().broken_after = prompt(100).last().copied();
    pollster::block_on(engine.generate(std::slice::from_ref(&request))).unwrap_err();
    log.borrow_mut().broken_after = None;
    assert_eq!(complete(&mut engine, &request).stats.cached_tokens, 0);
}

#[test]
fn a_small_cache_forgets_what_was_not_used_longest() {
    let limits = ExecutorLimits {
        blocks: 6,
        ..LIMITS
    };
    let (mut engine, _) = engine_with(Model::Ngram, limits, EngineConfig::default());
    let [a, b, c] = [(5, 2), (6, 2), (7, 3)].map(|(token, n)| greedy(&vec![token; n * BLOCK], 2));
    for request in [&a, &b, &a, &c] {
        complete(&mut engine, request);
    }
    // Each needs a block more than it leaves; the last one had to take what b left.
    assert_eq!(complete(&mut engine, &a).stats.cached_tokens, BLOCK);
    assert_eq!(complete(&mut engine, &b).stats.cached_tokens, 0);
}
