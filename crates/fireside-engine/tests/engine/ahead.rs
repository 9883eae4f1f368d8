//! Steps that run before the last one's tokens are read change nothing but when they run.

use fireside_engine::{EngineConfig, Event, ExecutorLimits, Request};
use proptest::prelude::*;

use crate::mock::{FIRST_WORD, LIMITS, Model, engine_with, request};

fn config(run_ahead: bool) -> EngineConfig {
    EngineConfig {
        run_ahead: Some(run_ahead),
        ..EngineConfig::default()
    }
}

/// How many steps there were of one request, and how many of them had run ahead.
fn steps(json: &str, config: EngineConfig) -> (usize, usize) {
    let (mut engine, log) = engine_with(Model::Ngram, LIMITS, config);
    pollster::block_on(engine.generate(&[request(&[7, 8], json)])).unwrap();
    assert_eq!(engine.stats().used_blocks, 0);
    let log = log.borrow();
    (log.steps, log.ahead)
}

#[test]
fn all_steps_after_the_first_token_run_ahead_where_the_device_chooses() {
    for json in [
        r#"{"max_new_tokens": 100, "ignore_eos": true, "temperature": 0}"#,
        r#"{"max_new_tokens": 100, "ignore_eos": true, "temperature": 0.7, "top_k": 0, "seed": 1}"#,
        r#"{"max_new_tokens": 100, "ignore_eos": true, "temperature": 0, "logit_bias": {"9": 2.0}}"#,
    ] {
        assert_eq!(steps(json, config(true)), (100, 98), "{json}");
        assert_eq!(steps(json, config(false)), (100, 0), "{json}");
        assert_eq!(steps(json, EngineConfig::default()), (100, 0), "{json}");
    }
}

#[test]
fn nothing_runs_ahead_of_what_the_host_decides() {
    for json in [
        r#"{"max_new_tokens": 50, "ignore_eos": true, "temperature": 0.7, "top_k": 5, "seed": 1}"#,
        r#"{"max_new_tokens": 50, "ignore_eos": true, "temperature": 0, "repetition_penalty": 1.2}"#,
        r#"{"max_new_tokens": 50, "ignore_eos": true, "temperature": 0, "presence_penalty": 0.5}"#,
    ] {
        assert_eq!(steps(json, config(true)), (50, 0), "{json}");
    }
    let drafting = EngineConfig {
        speculate: Some(4),
        ..config(true)
    };
    let json = r#"{"max_new_tokens": 50, "ignore_eos": true, "temperature": 0}"#;
    assert_eq!(steps(json, drafting).1, 0);
}

#[test]
fn a_row_that_is_not_numbers_fails_as_it_does_without_running_ahead() {
    let run = |run_ahead| {
        let (mut engine, log) = engine_with(Model::Ngram, LIMITS, config(run_ahead));
        let greedy = r#"{"max_new_tokens": 40, "ignore_eos": true, "temperature": 0}"#;
        let third = Model::Ngram.greedy(&[7, 8], 3)[2];
        log.borrow_mut().broken_after = Some(third);
        for prompt in [[7, 8], [9, 10]] {
            engine.submit(&request(&prompt, greedy)).unwrap();
        }
        let mut seen = Vec::new();
        while engine.has_work() {
            for event in pollster::block_on(engine.step()).unwrap() {
                seen.push(match event {
                    Event::Token(token) => format!("{:?} {}", token.request, token.id),
                    Event::Failed { request, error, .. } => format!("{request:?} {error}"),
                    _ => String::new(),
                });
            }
        }
        assert_eq!(engine.stats().used_blocks, 0);
        seen
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn steps_that_are_dropped_while_they_run_change_nothing() {
    let run = |drops: usize| {
        let (mut engine, log) = engine_with(Model::Ngram, LIMITS, config(true));
        log.borrow_mut().pending = 1;
        let greedy = r#"{"max_new_tokens": 40, "ignore_eos": true, "temperature": 0}"#;
        engine.submit(&request(&[7, 8], greedy)).unwrap();
        let mut tokens = Vec::new();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        while engine.has_work() {
            // After so many polls the future is dropped: before it ran, or after.
            let mut step = Box::pin(engine.step());
            let dropped = (0..drops).all(|_| step.as_mut().poll(&mut context).is_pending());
            drop(step);
            assert!(dropped);
            for event in pollster::block_on(engine.step()).unwrap() {
                if let Event::Token(token) = event {
                    tokens.push(token.id);
                }
            }
        }
        tokens
    };
    let expected = Model::Ngram.greedy(&[7, 8], 40);
    for drops in 0..=2 {
        assert_eq!(run(drops), expected, "dropped after {drops} polls");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_is_generated_is_the_same_whoever_ends_comes_or_is_cancelled(
        lengths in prop::collection::vec((9usize..60, 0usize..40, prop::bool::ANY), 1..6),
        sampling in 0usize..4,
        cancel in prop::option::of((1usize..60, 0usize..6)),
        blocks in 6usize..40,
        prefix_cache in prop::bool::ANY,
    ) {
        let sampling = [
            r#""temperature": 0"#,
            r#""temperature": 0.6, "top_k": 0"#,
            r#""temperature": 0.4, "top_k": 3"#,
            r#""temperature": 0.3, "min_new_tokens": 9, "stop_token_ids": [11, 12, 13, 14]"#,
        ][sampling];
        let limits = ExecutorLimits { blocks, ..LIMITS };
        let run = |run_ahead| {
            let config = EngineConfig { prefix_cache, ..config(run_ahead) };
            let (mut engine, _) = engine_with(Model::Ngram, limits, config);
            let mut waiting: Vec<(usize, Request)> = lengths
                .iter()
                .zip(0u32..)
                .map(|((tokens, arrival, alike), number)| {
                    let json = format!(r#"{{{sampling}, "seed": {number}, "max_new_tokens": {tokens}}}"#);
                    let own = if *alike { 0 } else { number };
                    let prompt: Vec<u32> = (0..40).map(|at| FIRST_WORD + (at + own) % 50).collect();
                    (*arrival, request(&prompt, &json))
                })
                .collect();
            let mut seen = Vec::new();
            let mut ids = Vec::new();
            for step in 0.. {
                waiting.retain(|(arrival, request)| {
                    let later = *arrival > step;
                    if !later {
                        ids.push(engine.submit(request).unwrap());
                    }
                    later
                });
                if let Some((_, number)) = cancel.filter(|(at, _)| *at == step)
                    && let Some(id) = ids.get(number)
                {
                    engine.cancel(*id);
                }
                if waiting.is_empty() && !engine.has_work() {
                    break;
                }
                for event in pollster::block_on(engine.step()).unwrap() {
                    if let Event::Token(token) = event {
                        seen.push((step, token.request, token.id, token.text));
                    }
                }
            }
            (seen, engine.stats().used_blocks)
        };
        prop_assert_eq!(run(true), run(false));
    }
}
