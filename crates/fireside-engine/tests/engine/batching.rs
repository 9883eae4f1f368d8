//! What requests get that share an engine: the same as alone, and never another's failure.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::task::{Context, Waker};

use crate::mock::{LIMITS, Model, engine, engine_with, request};
use fireside_engine::{
    Completion, EngineConfig, Error, Event, ExecutorError, ExecutorLimits, FinishReason, Request,
    RequestId,
};
use proptest::prelude::*;

/// Requests of all kinds, all with seeds.
fn mixed() -> Vec<Request> {
    vec![
        request(&[1, 9, 8], r#"{"max_new_tokens": 40, "ignore_eos": true}"#),
        request(
            &[1; 70],
            r#"{"max_new_tokens": 25, "temperature": 1, "seed": 1, "top_k": 0}"#,
        ),
        request(
            &[1, 30],
            r#"{"max_new_tokens": 33, "top_p": 0.8, "seed": 2, "top_k": 0}"#,
        ),
        request(
            &[31; 40],
            r#"{"max_new_tokens": 20, "top_k": 5, "seed": 3, "logprobs": 2}"#,
        ),
        request(
            &[7, 7],
            r#"{"max_new_tokens": 50, "typical_p": 0.4, "seed": 4}"#,
        ),
        request(
            &[8, 9],
            r#"{"max_new_tokens": 30, "repetition_penalty": 1.4, "stop": ["w1"]}"#,
        ),
        request(
            &[6; 45],
            r#"{"max_new_tokens": 30, "top_k": 9, "seed": 6, "prompt_logprobs": 2}"#,
        ),
        request(
            &[9, 9],
            r#"{"max_new_tokens": 60, "min_p": 0.2, "seed": 5, "min_new_tokens": 9}"#,
        ),
    ]
}

/// Each request, run alone.
fn alone(requests: &[Request]) -> Vec<Completion> {
    requests
        .iter()
        .map(|request| {
            let (mut engine, _) = engine(Model::Ngram);
            let all = pollster::block_on(engine.generate(std::slice::from_ref(request))).unwrap();
            all[0][0].clone()
        })
        .collect()
}

/// All but the seed, which requests without one are given, and counts and times.
#[track_caller]
fn same(actual: &Completion, expected: &Completion) {
    let expected = Completion {
        seed: actual.seed,
        stats: actual.stats,
        ..expected.clone()
    };
    assert_eq!(*actual, expected);
}

#[test]
fn the_same_seed_gives_the_same_text_alone_and_among_others() {
    let requests = mixed();
    let expected = alone(&requests);
    let (mut engine, log) = engine(Model::Ngram);
    let all = pollster::block_on(engine.generate(&requests)).unwrap();
    for (completions, expected) in all.iter().zip(&expected) {
        same(&completions[0], expected);
    }
    // Some end before the last ones begin.
    assert!(log.borrow().most_chunks > requests.len() / 2);
    assert_eq!(engine.stats().used_blocks, 0);
}

#[test]
fn sequences_that_lose_their_blocks_still_give_the_same_text() {
    let mut requests: Vec<Request> = (0..3)
        .map(|seed| {
            let json = r#"{"max_new_tokens": 90, "ignore_eos": true, "temperature": 0.7}"#;
            let mut request = request(&[1, 20 + seed], json);
            request.params.seed = Some(u64::from(seed));
            request
        })
        .collect();
    requests.extend(mixed());
    let expected = alone(&requests);
    let limits = ExecutorLimits {
        blocks: 6,
        ..LIMITS
    };
    let config = EngineConfig {
        step_tokens: 20,
        ..EngineConfig::default()
    };
    let (mut engine, _) = engine_with(Model::Ngram, limits, config);
    let all = pollster::block_on(engine.generate(&requests)).unwrap();
    for (completions, expected) in all.iter().zip(&expected) {
        same(&completions[0], expected);
    }
    let preemptions: u64 = all
        .iter()
        .map(|completions| completions[0].stats.preemptions)
        .sum();
    assert!(preemptions > 0, "the cache was large enough for all");
    assert_eq!(engine.stats().preemptions, preemptions);
    assert_eq!(engine.stats().used_blocks, 0);
}

#[test]
fn a_cancelled_request_frees_its_blocks_at_once_and_the_others_go_on() {
    let (mut engine, _) = engine(Model::Ngram);
    let long = r#"{"max_new_tokens": 100, "ignore_eos": true, "num_return_sequences": 2}"#;
    let first = engine.submit(&request(&[7; 100], long)).unwrap();
    let second = engine
        .submit(&request(
            &[1, 9],
            r#"{"max_new_tokens": 8, "ignore_eos": true}"#,
        ))
        .unwrap();
    pollster::block_on(engine.step()).unwrap();
    assert!(engine.stats().used_blocks > 1);
    let ended = engine.cancel(first);
    assert_eq!(ended.len(), 2);
    assert!(
        ended
            .iter()
            .all(|finished| finished.reason == FinishReason::Cancelled)
    );
    assert!(!ended[0].request_is_done && ended[1].request_is_done);
    assert_eq!(engine.stats().used_blocks, 1);
    assert_eq!(engine.cancel(first), []);

    let mut tokens = vec![];
    while engine.has_work() {
        for event in pollster::block_on(engine.step()).unwrap() {
            assert_eq!(event.request(), second);
            if let Event::Token(token) = event {
                tokens.push(token.id);
            }
        }
    }
    assert_eq!(tokens, Model::Ngram.greedy(&[1, 9], 8)[1..]);
}

#[test]
fn a_request_can_be_cancelled_before_its_first_step() {
    let (mut engine, log) = engine(Model::Ngram);
    let waiting = engine.submit(&Request::new(vec![1, 9])).unwrap();
    let empty = engine
        .submit(&request(&[1], r#"{"max_new_tokens": 0}"#))
        .unwrap();
    assert_eq!(engine.cancel(waiting).len(), 1);
    assert_eq!(engine.cancel(empty).len(), 1);
    assert_eq!(pollster::block_on(engine.step()).unwrap(), []);
    assert_eq!(log.borrow().steps, 0);
}

#[test]
fn logits_that_are_not_numbers_fail_their_own_sequence_only() {
    let (mut engine, log) = engine(Model::Ngram);
    let ids: Vec<RequestId> = [[1, 9], [1, 66]]
        .iter()
        .map(|prompt| {
            engine
                .submit(&request(prompt, r#"{"max_new_tokens": 3}"#))
                .unwrap()
        })
        .collect();
    log.borrow_mut().broken_after = Some(66);
    let events = pollster::block_on(engine.step()).unwrap();
    let failed = Event::Failed {
        request: ids[1],
        index: 0,
        error: Error::BrokenLogits {
            request: ids[1],
            index: 0,
            position: 1,
            count: 1,
        },
    };
    assert!(events.contains(&failed), "{events:?}");
    let Event::Failed { error, .. } = failed else {
        unreachable!()
    };
    assert_eq!(
        error.to_string(),
        "request 1, sequence 0: 1 logits at position 1 are not numbers"
    );
    while engine.has_work() {
        for event in pollster::block_on(engine.step()).unwrap() {
            assert_eq!(event.request(), ids[0]);
        }
    }
    assert_eq!(engine.stats().used_blocks, 0);
}

#[test]
fn a_lost_device_ends_all_requests_and_names_them() {
    let (mut engine, log) = engine(Model::Ngram);
    let first = engine.submit(&Request::new(vec![1, 9])).unwrap();
    let second = engine.submit(&Request::new(vec![1, 8])).unwrap();
    log.borrow_mut().fail_at = Some(2);
    pollster::block_on(engine.step()).unwrap();
    let error = pollster::block_on(engine.step()).unwrap_err();
    assert_eq!(
        error,
        Error::Executor {
            source: ExecutorError::DeviceLost {
                message: "unplugged".into()
            },
            requests: vec![first, second],
        }
    );
    assert!(!engine.has_work());
    assert_eq!(engine.stats().used_blocks, 0);
    let again = pollster::block_on(engine.generate(&[Request::new(vec![1, 9])])).unwrap();
    assert!(!again[0][0].token_ids.is_empty());
}

#[test]
fn an_executor_that_gives_too_few_rows_is_an_error() {
    let (mut engine, log) = engine(Model::Ngram);
    log.borrow_mut().lose_row_at = Some(1);
    engine.submit(&Request::new(vec![1, 9])).unwrap();
    let error = pollster::block_on(engine.step()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the model failed during a step: 0 rows came back where 1 were wanted"
    );
}

#[test]
fn a_full_queue_refuses_and_takes_again_later() {
    let config = EngineConfig {
        max_running: 1,
        max_waiting: 2,
        ..EngineConfig::default()
    };
    let (mut engine, _) = engine_with(Model::Ngram, LIMITS, config);
    let one = request(&[1, 9], r#"{"max_new_tokens": 2, "ignore_eos": true}"#);
    engine.submit(&one).unwrap();
    engine.submit(&one).unwrap();
    let error = engine.submit(&one).unwrap_err();
    assert_eq!(
        error,
        Error::QueueFull {
            waiting: 2,
            wanted: 1,
            limit: 2
        }
    );
    pollster::block_on(engine.step()).unwrap();
    engine.submit(&one).unwrap();
}

#[test]
fn a_queue_full_of_tokens_refuses_unless_nothing_waits() {
    let config = EngineConfig {
        max_running: 1,
        max_waiting_tokens: 50,
        ..EngineConfig::default()
    };
    let (mut engine, _) = engine_with(Model::Ngram, LIMITS, config);
    let long = request(&[7; 60], r#"{"max_new_tokens": 2, "ignore_eos": true}"#);
    let short = request(&[1, 9], r#"{"max_new_tokens": 2, "ignore_eos": true}"#);
    engine.submit(&long).unwrap();
    assert_eq!(engine.stats().waiting_tokens, 60);
    assert_eq!(
        engine.submit(&short).unwrap_err(),
        Error::TokenQueueFull {
            waiting: 60,
            wanted: 2,
            limit: 50
        }
    );
    pollster::block_on(engine.step()).unwrap();
    for _ in 0..25 {
        engine.submit(&short).unwrap();
    }
    engine.submit(&short).unwrap_err();
    let stats = engine.stats();
    assert_eq!((stats.waiting, stats.running), (25, 1));
    while engine.has_work() {
        pollster::block_on(engine.step()).unwrap();
    }
    assert_eq!(engine.stats().waiting_tokens, 0);
    // A run waits for room instead.
    let all = pollster::block_on(engine.generate(&vec![long; 3])).unwrap();
    assert_eq!(all.len(), 3);
}

#[test]
fn a_run_of_more_requests_than_may_wait_ends_all_the_same() {
    let config = EngineConfig {
        max_running: 2,
        max_waiting: 2,
        ..EngineConfig::default()
    };
    let (mut engine, _) = engine_with(Model::Ngram, LIMITS, config);
    let requests: Vec<Request> = (0..9)
        .map(|at| {
            request(
                &[1, 10 + at],
                r#"{"max_new_tokens": 4, "ignore_eos": true}"#,
            )
        })
        .collect();
    let all = pollster::block_on(engine.generate(&requests)).unwrap();
    for (request, completions) in requests.iter().zip(&all) {
        assert_eq!(
            completions[0].token_ids,
            Model::Ngram.greedy(&request.prompt, 4)
        );
    }
}

#[test]
fn a_run_that_is_broken_off_or_dropped_cancels_its_requests() {
    let (mut engine, log) = engine(Model::Ngram);
    let requests = mixed();
    let mut seen = 0;
    pollster::block_on(engine.run(&requests, |_, _| {
        seen += 1;
        if seen < 5 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }))
    .unwrap();
    assert_eq!(seen, 5);
    assert!(!engine.has_work());

    log.borrow_mut().pending = 1;
    {
        let mut run = pin!(engine.run(&requests, |_, _| ControlFlow::Continue(())));
        assert!(
            run.as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
    }
    assert!(!engine.has_work());
    assert_eq!(engine.stats().used_blocks, 0);
}

#[test]
fn a_run_checks_all_requests_before_the_first_one() {
    let (mut engine, log) = engine(Model::Ngram);
    let requests = [Request::new(vec![1, 9]), request(&[1], r#"{"top_p": 2}"#)];
    pollster::block_on(engine.generate(&requests)).unwrap_err();
    assert_eq!(log.borrow().steps, 0);
    engine.submit(&requests[0]).unwrap();
    let error = pollster::block_on(engine.generate(&requests[..1])).unwrap_err();
    assert_eq!(error, Error::Busy { requests: 1 });
    assert!(engine.has_work());
}

#[test]
fn a_dropped_step_loses_nothing() {
    let (mut engine, log) = engine(Model::Ngram);
    engine
        .submit(&request(
            &[7; 40],
            r#"{"max_new_tokens": 6, "ignore_eos": true}"#,
        ))
        .unwrap();
    let mut tokens = Vec::new();
    while engine.has_work() {
        log.borrow_mut().pending = 1;
        {
            let mut step = pin!(engine.step());
            assert!(
                step.as_mut()
                    .poll(&mut Context::from_waker(Waker::noop()))
                    .is_pending()
            );
        }
        log.borrow_mut().pending = 0;
        for event in pollster::block_on(engine.step()).unwrap() {
            if let Event::Token(token) = event {
                tokens.push(token.id);
            }
        }
    }
    assert_eq!(tokens, Model::Ngram.greedy(&[7; 40], 6));
}

#[derive(Debug, Clone)]
enum Act {
    Submit {
        prompt: usize,
        first: u32,
        new: usize,
        scored: bool,
    },
    Cancel {
        nth: usize,
    },
    Step,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (1usize..150, 5u32..9, 0usize..40, any::<bool>())
            .prop_map(|(prompt, first, new, scored)| Act::Submit { prompt, first, new, scored }),
        1 => (0usize..10).prop_map(|nth| Act::Cancel { nth }),
        5 => Just(Act::Step),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_coming_and_going_gives_each_its_own_tokens_and_all_blocks_back(
        acts in prop::collection::vec(act(), 1..60),
        blocks in 4usize..12,
        step_tokens in 1usize..100,
        step_rows in 1usize..100,
    ) {
        let limits = ExecutorLimits { blocks, step_rows, ..LIMITS };
        let config = EngineConfig { step_tokens, ..EngineConfig::default() };
        let (mut engine, _) = engine_with(Model::Ngram, limits, config);
        let mut open: BTreeMap<RequestId, (Vec<u32>, usize, Vec<u32>)> = BTreeMap::new();
        let mut unscored: BTreeSet<RequestId> = BTreeSet::new();
        let mut acts = acts.into_iter();
        loop {
            match acts.next() {
                Some(Act::Submit { prompt, first, new, scored }) => {
                    let prompt: Vec<u32> = (0..prompt as u32).map(|at| 5 + (first + at) % 95).collect();
                    let json = format!(r#"{{"max_new_tokens": {new}, "ignore_eos": true}}"#);
                    let mut request = request(&prompt, &json);
                    request.params.prompt_logprobs = scored.then_some(1);
                    match engine.submit(&request) {
                        Ok(id) => {
                            unscored.extend(scored.then_some(id));
                            open.insert(id, (prompt, new, Vec::new()));
                        }
                        Err(Error::CacheTooSmall { .. }) => {
                            prop_assert!(prompt.len() + new - 1 > blocks * 32);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                Some(Act::Cancel { nth }) => {
                    if let Some(id) = open.keys().nth(nth).copied() {
                        let ended = engine.cancel(id);
                        prop_assert_eq!(ended.len(), 1);
                        let (prompt, _, tokens) = open.remove(&id).unwrap();
                        unscored.remove(&id);
                        prop_assert_eq!(&tokens, &Model::Ngram.greedy(&prompt, tokens.len()));
                    }
                }
                Some(Act::Step) | None => {
                    for event in pollster::block_on(engine.step()).unwrap() {
                        let id = event.request();
                        match event {
                            Event::Token(token) => open.get_mut(&id).unwrap().2.push(token.id),
                            Event::Prompt(scores) => {
                                let (prompt, _, tokens) = &open[&id];
                                let ids: Vec<u32> = scores.tokens.iter().map(|t| t.id).collect();
                                prop_assert_eq!(&ids, prompt);
                                prop_assert!(tokens.is_empty() && unscored.remove(&id));
                            }
                            Event::Finished(_) => {
                                prop_assert!(!unscored.contains(&id));
                                let (prompt, new, tokens) = open.remove(&id).unwrap();
                                prop_assert_eq!(tokens, Model::Ngram.greedy(&prompt, new));
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                }
            }
            if acts.len() == 0 && !engine.has_work() {
                break;
            }
        }
        prop_assert!(open.is_empty());
        let stats = engine.stats();
        prop_assert_eq!(stats.used_blocks, 0);
        prop_assert_eq!(stats.cached_blocks + stats.free_blocks, blocks);
        engine.clear_prefix_cache();
        prop_assert_eq!(engine.stats().free_blocks, blocks);
    }
}

#[test]
fn as_many_tokens_as_there_is_room_for_are_what_the_cache_has_room_for() {
    let limits = ExecutorLimits {
        context: 1000,
        blocks: 2,
        ..LIMITS
    };
    let (mut engine, _) = engine_with(Model::Ngram, limits, EngineConfig::default());
    let mut all = request(&[1, 9, 8], r#"{"ignore_eos": true}"#);
    all.params.max_new_tokens = Some(usize::MAX);
    let done = pollster::block_on(engine.generate(std::slice::from_ref(&all))).unwrap();
    // The last token is predicted at the last position, and not run.
    assert_eq!(
        done[0][0].token_ids.len(),
        2 * fireside_model::BLOCK + 1 - 3
    );
    assert_eq!(done[0][0].finish_reason, FinishReason::Length);

    // A number that was asked for is not made smaller in silence.
    all.params.max_new_tokens = Some(500);
    let refused = pollster::block_on(engine.generate(std::slice::from_ref(&all)));
    assert!(matches!(refused, Err(Error::CacheTooSmall { .. })));
}
