//! Drafts from what stood before change how many steps a text takes, and nothing else.

use fireside_engine::{Completion, EngineConfig, ExecutorLimits, Request};
use fireside_model::BLOCK;
use proptest::prelude::*;

use crate::mock::{FIRST_WORD, LIMITS, Log, Model, engine_with, request};

fn config(speculate: usize) -> EngineConfig {
    EngineConfig {
        speculate: Some(speculate),
        ..EngineConfig::default()
    }
}

/// The sequences of requests with so many drafted tokens, and how many steps they took.
fn run(
    model: &Model,
    limits: ExecutorLimits,
    speculate: usize,
    requests: &[Request],
    set: impl FnOnce(&mut Log),
) -> (Vec<Vec<Completion>>, usize) {
    let (mut engine, log) = engine_with(model.clone(), limits, config(speculate));
    set(&mut log.borrow_mut());
    let all = pollster::block_on(engine.generate(requests)).unwrap();
    let stats = engine.stats();
    assert!(stats.accepted_tokens <= stats.drafted_tokens);
    assert_eq!(stats.used_blocks, 0);
    let steps = log.borrow().steps;
    (all, steps)
}

/// What a reader sees: tokens, text, log-probabilities, the reason of the end.
fn seen(all: &[Vec<Completion>]) -> Vec<String> {
    let one = |c: &Completion| {
        let (tokens, text, reason) = (&c.token_ids, &c.text, &c.finish_reason);
        format!(
            "{tokens:?} {text:?} {:?} {:?} {reason:?}",
            c.logprobs, c.top_logprobs
        )
    };
    all.iter().flatten().map(one).collect()
}

/// Twelve words over and over.
fn refrain(count: usize) -> Model {
    Model::Script((0..count).map(|at| FIRST_WORD + (at % 12) as u32).collect())
}

#[test]
fn text_that_repeats_itself_comes_in_a_fraction_of_the_steps() {
    let requests = [request(
        &[1],
        r#"{"max_new_tokens": 100, "temperature": 0}"#,
    )];
    let model = refrain(200);
    let (plain, steps) = run(&model, LIMITS, 0, &requests, |_| {});
    assert_eq!(steps, 100);
    let (drafted, fewer) = run(&model, LIMITS, 7, &requests, |_| {});
    assert_eq!(seen(&drafted), seen(&plain));
    assert!(fewer <= 14 + 100 / 8, "{fewer} steps");
}

#[test]
fn nothing_is_drafted_past_the_last_token_or_the_cache_nor_where_many_run_or_the_length_matters() {
    let model = refrain(300);
    let limits = ExecutorLimits {
        blocks: 2,
        step_rows: 3,
        ..LIMITS
    };
    // As many positions as the cache has.
    let most = 2 * BLOCK;
    let json = format!(r#"{{"max_new_tokens": {most}, "temperature": 0}}"#);
    let requests = [request(&[1], &json)];
    let (plain, _) = run(&model, limits, 0, &requests, |_| {});
    let (drafted, _) = run(&model, limits, 16, &requests, |_| {});
    assert_eq!(seen(&drafted), seen(&plain));

    let requests: Vec<Request> = (0..5)
        .map(|_| request(&[1], r#"{"max_new_tokens": 60, "temperature": 0}"#))
        .collect();
    let (mut engine, _) = engine_with(model.clone(), LIMITS, config(8));
    pollster::block_on(engine.generate(&requests)).unwrap();
    assert_eq!(engine.stats().drafted_tokens, 0);

    // A draft would change the keys of the token before it.
    let (mut engine, log) = engine_with(model, LIMITS, config(8));
    log.borrow_mut().length_matters = true;
    pollster::block_on(engine.generate(&requests[..1])).unwrap();
    assert_eq!(engine.stats().drafted_tokens, 0);
}

#[test]
fn a_stop_string_or_an_end_within_a_draft_ends_the_text_there() {
    let model = refrain(200);
    for json in [
        r#"{"max_new_tokens": 80, "temperature": 0, "stop": ["w9 w10"], "min_new_tokens": 40}"#,
        r#"{"max_new_tokens": 80, "temperature": 0, "stop_token_ids": [11], "min_new_tokens": 40}"#,
    ] {
        let requests = [request(&[1], json)];
        let (plain, _) = run(&model, LIMITS, 0, &requests, |_| {});
        let (drafted, _) = run(&model, LIMITS, 9, &requests, |_| {});
        assert_eq!(seen(&drafted), seen(&plain));
        assert!(plain[0][0].token_ids.len() < 60, "{json}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_is_generated_is_the_same_with_any_drafts(
        speculate in 1usize..12,
        seed in 0u64..1000,
        words in 2u32..30,
        sequences in 1usize..4,
        sampling in 0usize..5,
        penalty in prop::sample::select(vec![1.0, 1.3]),
        candidates in prop::option::of(0usize..6),
        blocks in 6usize..40,
    ) {
        let sampling = [
            r#""temperature": 0"#,
            r#""temperature": 0.3"#,
            r#""temperature": 0.4, "top_k": 3"#,
            r#""temperature": 0.5, "top_p": 0.8, "logprobs": 2"#,
            r#""temperature": 0.2, "presence_penalty": 0.4"#,
        ][sampling];
        let json = format!(
            r#"{{{sampling}, "seed": {seed}, "repetition_penalty": {penalty}, "max_new_tokens": 70, "ignore_eos": true}}"#
        );
        let prompt = |own: u32| -> Vec<u32> {
            (0..50).map(|at| FIRST_WORD + (at * at + own) % words).collect()
        };
        let requests: Vec<Request> =
            (0..sequences as u32).map(|own| request(&prompt(own), &json)).collect();
        let limits = ExecutorLimits { blocks, ..LIMITS };
        let narrow = |log: &mut Log| log.candidates = candidates;
        let run = |speculate| {
            let (mut engine, log) = engine_with(Model::Ngram, limits, config(speculate));
            narrow(&mut log.borrow_mut());
            // The model's own faults are the same too.
            let all = pollster::block_on(engine.generate(&requests));
            all.map(|all| seen(&all)).map_err(|error| error.to_string())
        };
        prop_assert_eq!(run(speculate), run(0));
    }
}
