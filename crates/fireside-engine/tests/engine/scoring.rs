//! Prompts that are scored: the log-probability of each of their tokens, whatever else is asked for.

use crate::mock::{LIMITS, Mock, Model, engine, engine_with, request};
use fireside_engine::{
    Completion, Engine, EngineConfig, Error, Event, ExecutorLimits, FinishReason, PromptToken,
    Request,
};
use fireside_model::BLOCK;

fn prompt(len: u32) -> Vec<u32> {
    (0..len).map(|at| 5 + at * 11 % 90).collect()
}

/// A request for the scores of a prompt, with `top` alternatives, and for `new` tokens.
fn scored(prompt: &[u32], top: usize, new: usize) -> Request {
    let json = format!(
        r#"{{"max_new_tokens": {new}, "ignore_eos": true, "do_sample": false, "prompt_logprobs": {top}}}"#
    );
    request(prompt, &json)
}

fn complete(engine: &mut Engine<Mock>, request: &Request) -> Completion {
    let one = std::slice::from_ref(request);
    let mut all = pollster::block_on(engine.generate(one)).unwrap();
    all.remove(0).remove(0)
}

/// The scores by definition, from whole rows of the model.
#[track_caller]
fn check(scores: &[PromptToken], prompt: &[u32], top: usize) {
    assert_eq!(scores.len(), prompt.len());
    for (at, (score, id)) in scores.iter().zip(prompt).enumerate() {
        assert_eq!(score.id, *id);
        let Some(before) = at.checked_sub(1) else {
            assert_eq!((score.logprob, score.top_logprobs.len()), (None, 0));
            continue;
        };
        let logits = Model::Ngram.logits(&prompt[..=before]);
        let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        let logprob = |token: u32| (f64::from(logits[token as usize]) - sum.ln()) as f32;
        assert!((score.logprob.unwrap() - logprob(*id)).abs() < 1e-4);
        assert_eq!(score.top_logprobs.len(), top);
        assert!(
            score
                .top_logprobs
                .is_sorted_by(|a, b| a.logprob >= b.logprob)
        );
        let best = logits.iter().copied().fold(f32::MIN, f32::max);
        for (rank, other) in score.top_logprobs.iter().enumerate() {
            assert!((other.logprob - logprob(other.token)).abs() < 1e-4);
            assert!(rank > 0 || logits[other.token as usize] == best);
        }
    }
}

#[test]
fn the_scores_of_a_prompt_are_those_of_the_models_softmax() {
    for top in [0, 3] {
        let (mut engine, _) = engine(Model::Ngram);
        let completion = complete(&mut engine, &scored(&prompt(40), top, 4));
        check(&completion.prompt_logprobs, &prompt(40), top);
        assert_eq!(completion.token_ids, Model::Ngram.greedy(&prompt(40), 4));
    }
}

#[test]
fn penalties_and_biases_do_not_touch_the_scores_of_a_prompt() {
    let (mut engine, _) = engine(Model::Ngram);
    let mut request = scored(&prompt(20), 2, 3);
    request.params.repetition_penalty = Some(1.5);
    request.params.logit_bias = Some([(9, 50.0)].into());
    request.params.min_new_tokens = Some(2);
    let completion = complete(&mut engine, &request);
    check(&completion.prompt_logprobs, &prompt(20), 2);
}

#[test]
fn scores_are_bit_for_bit_the_same_however_the_prompt_is_cut() {
    let prompt = prompt(150);
    let (mut whole, _) = engine(Model::Ngram);
    let expected = complete(&mut whole, &scored(&prompt, 2, 3));
    for (step_tokens, step_rows) in [(1, 1), (7, 64), (64, 5), (512, 1), (512, 33), (512, 512)] {
        let limits = ExecutorLimits {
            step_rows,
            ..LIMITS
        };
        let config = EngineConfig {
            step_tokens,
            ..EngineConfig::default()
        };
        let (mut engine, log) = engine_with(Model::Ngram, limits, config);
        let completion = complete(&mut engine, &scored(&prompt, 2, 3));
        assert_eq!(completion.prompt_logprobs, expected.prompt_logprobs);
        assert_eq!(completion.token_ids, expected.token_ids);
        assert!(log.borrow().most_rows <= step_rows);
    }
}

#[test]
fn a_prompt_is_scored_without_a_token_generated() {
    let (mut engine, log) = engine(Model::Ngram);
    let id = engine.submit(&scored(&prompt(40), 1, 0)).unwrap();
    let events = pollster::block_on(engine.step()).unwrap();
    let [Event::Prompt(scores), Event::Finished(finished)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((scores.request, finished.request), (id, id));
    check(&scores.tokens, &prompt(40), 1);
    assert_eq!(finished.reason, FinishReason::Length);
    let stats = &finished.stats;
    assert_eq!((stats.prompt_tokens, stats.generated_tokens), (40, 0));
    assert_eq!(stats.time_to_first_token, None);
    // Nothing follows the last token, so it is not run.
    assert_eq!(log.borrow().most_tokens, 39);
    assert!(!engine.has_work());
    assert_eq!(engine.stats().used_blocks, 0);
}

#[test]
fn a_prompt_of_one_token_has_nothing_to_score() {
    let (mut engine, log) = engine(Model::Ngram);
    engine.submit(&scored(&[7], 1, 0)).unwrap();
    let events = pollster::block_on(engine.step()).unwrap();
    let [Event::Prompt(scores), Event::Finished(_)] = &events[..] else {
        panic!("{events:?}")
    };
    check(&scores.tokens, &[7], 1);
    assert_eq!(log.borrow().steps, 0);
    let completion = complete(&mut engine, &scored(&[7], 1, 2));
    check(&completion.prompt_logprobs, &[7], 1);
    assert_eq!(completion.token_ids, Model::Ngram.greedy(&[7], 2));
}

#[test]
fn the_scores_come_before_all_other_events_of_their_sequence() {
    let config = EngineConfig {
        step_tokens: 16,
        ..EngineConfig::default()
    };
    let (mut engine, _) = engine_with(Model::Ngram, LIMITS, config);
    let id = engine.submit(&scored(&prompt(40), 0, 2)).unwrap();
    let mut events = Vec::new();
    while engine.has_work() {
        events.extend(pollster::block_on(engine.step()).unwrap());
    }
    assert!(matches!(events[0], Event::Prompt(_)));
    assert!(!events[0].is_end());
    assert_eq!((events[0].request(), events[0].index()), (id, 0));
    assert_eq!(events.len(), 4);
}

#[test]
fn what_is_cached_is_run_again_to_be_scored_and_what_was_scored_is_cached() {
    let (mut engine, _) = engine(Model::Ngram);
    let plain = request(&prompt(100), r#"{"max_new_tokens": 2, "ignore_eos": true}"#);
    complete(&mut engine, &plain);
    let completion = complete(&mut engine, &scored(&prompt(100), 1, 2));
    assert_eq!(completion.stats.cached_tokens, 0);
    check(&completion.prompt_logprobs, &prompt(100), 1);

    engine.clear_prefix_cache();
    complete(&mut engine, &scored(&prompt(100), 1, 2));
    let again = complete(&mut engine, &plain);
    assert_eq!(again.stats.cached_tokens, 3 * BLOCK);
    assert_eq!(again.token_ids, completion.token_ids);
}

#[test]
fn sequences_of_one_prompt_score_it_once() {
    let (mut engine, log) = engine(Model::Ngram);
    let mut request = scored(&prompt(100), 1, 5);
    request.params.num_return_sequences = Some(3);
    let all = pollster::block_on(engine.generate(&[request])).unwrap();
    check(&all[0][0].prompt_logprobs, &prompt(100), 1);
    let others = &all[0][1..];
    assert!(others.iter().all(|other| other.prompt_logprobs.is_empty()));
    let cached: Vec<usize> = all[0].iter().map(|c| c.stats.cached_tokens).collect();
    assert_eq!(cached, [0, 3 * BLOCK, 3 * BLOCK]);
    assert_eq!(log.borrow().scored_rows, 99);
}

#[test]
fn a_prompt_that_loses_its_blocks_is_not_scored_twice() {
    let limits = ExecutorLimits {
        blocks: 5,
        step_rows: 8,
        ..LIMITS
    };
    let (mut engine, log) = engine_with(Model::Ngram, limits, EngineConfig::default());
    // The first one grows while the second is scored, and takes its blocks.
    let first = request(&[1, 9], r#"{"max_new_tokens": 100, "ignore_eos": true}"#);
    let second = scored(&prompt(90), 2, 30);
    let all = pollster::block_on(engine.generate(&[first, second])).unwrap();
    assert!(
        all[1][0].stats.preemptions > 0,
        "the cache was large enough"
    );
    check(&all[1][0].prompt_logprobs, &prompt(90), 2);
    assert_eq!(all[1][0].token_ids, Model::Ngram.greedy(&prompt(90), 30));
    assert_eq!(log.borrow().scored_rows, 89);
}

#[test]
fn others_generate_while_a_prompt_is_scored_and_short_of_rows_all_come_to_their_end() {
    let limits = ExecutorLimits {
        step_rows: 4,
        ..LIMITS
    };
    let (mut engine, log) = engine_with(Model::Ngram, limits, EngineConfig::default());
    assert_eq!(engine.config().max_running, 4);
    let json = r#"{"max_new_tokens": 20, "ignore_eos": true}"#;
    let mut requests = vec![request(&[1, 9], json), scored(&prompt(60), 1, 3)];
    requests.extend((0..5).map(|at| request(&[20 + at], json)));
    requests.push(scored(&prompt(33), 0, 0));
    let all = pollster::block_on(engine.generate(&requests)).unwrap();
    check(&all[1][0].prompt_logprobs, &prompt(60), 1);
    check(&all[7][0].prompt_logprobs, &prompt(33), 0);
    for (request, completions) in requests.iter().zip(&all) {
        let new = request.params.max_new_tokens.unwrap();
        let expected = Model::Ngram.greedy(&request.prompt, new);
        assert_eq!(completions[0].token_ids, expected);
    }
    assert_eq!(log.borrow().most_rows, 4);
}

#[test]
fn a_prompt_whose_logits_are_not_numbers_fails_alone_and_names_the_position() {
    let (mut engine, log) = engine(Model::Ngram);
    log.borrow_mut().broken_after = Some(77);
    let mut bad = prompt(20);
    bad[12] = 77;
    let failing = engine.submit(&scored(&bad, 0, 5)).unwrap();
    let other = engine.submit(&scored(&prompt(30), 1, 1)).unwrap();
    let mut failed = None;
    let mut scores = None;
    while engine.has_work() {
        for event in pollster::block_on(engine.step()).unwrap() {
            match event {
                Event::Failed { request, error, .. } => failed = Some((request, error)),
                Event::Prompt(prompt) => scores = Some(prompt),
                other => assert_ne!(other.request(), failing),
            }
        }
    }
    let (request, error) = failed.unwrap();
    assert_eq!(request, failing);
    assert!(
        matches!(error, Error::BrokenLogits { position: 12, .. }),
        "{error}"
    );
    let scores = scores.unwrap();
    assert_eq!(scores.request, other);
    check(&scores.tokens, &prompt(30), 1);
    assert_eq!(engine.stats().used_blocks, 0);
}

#[test]
fn without_the_wish_no_prompt_has_rows() {
    let (mut engine, log) = engine(Model::Ngram);
    let json = r#"{"max_new_tokens": 3, "ignore_eos": true, "logprobs": 2}"#;
    let completion = complete(&mut engine, &request(&prompt(100), json));
    assert!(completion.prompt_logprobs.is_empty());
    assert_eq!(log.borrow().most_rows, 1);
    assert_eq!(log.borrow().scored_rows, 0);
}

#[test]
fn a_prompt_that_does_not_fit_the_cache_cannot_be_scored() {
    let limits = ExecutorLimits {
        blocks: 2,
        ..LIMITS
    };
    let (mut engine, _) = engine_with(Model::Ngram, limits, EngineConfig::default());
    let error = engine.submit(&scored(&prompt(66), 0, 0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "prompt of 66 tokens plus 0 new ones exceeds the KV cache of 64 positions"
    );
    let completion = complete(&mut engine, &scored(&prompt(65), 0, 0));
    check(&completion.prompt_logprobs, &prompt(65), 0);
}
