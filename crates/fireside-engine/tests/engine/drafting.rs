//! A model that drafts changes how many steps a text takes, and nothing else: neither the text nor, if it fails, who
//! gets one.

use std::collections::BTreeMap;

use fireside_engine::{
    EngineConfig, Error, Event, ExecutorError, ExecutorLimits, Request, RequestId,
};
use fireside_model::BLOCK;
use fireside_tokenizer::{GgufVocab, Tokenizer};
use proptest::prelude::*;

use crate::mock::{
    FIRST_WORD, LIMITS, Log, Mock, Model, VOCAB, engine_with, engine_with_draft, request, tokenizer,
};

fn config(speculate: usize) -> EngineConfig {
    EngineConfig {
        speculate: Some(speculate),
        ..EngineConfig::default()
    }
}

/// Ways to choose a token, as a request's JSON has them.
const SAMPLINGS: [&str; 6] = [
    r#""temperature": 0"#,
    r#""temperature": 0.6, "top_k": 0"#,
    r#""temperature": 0.4, "top_k": 3, "logprobs": 2"#,
    r#""temperature": 0.5, "top_p": 0.8, "top_k": 0"#,
    r#""temperature": 0, "repetition_penalty": 1.3"#,
    r#""temperature": 0.2, "presence_penalty": 0.4, "logit_bias": {"9": 1.0}"#,
];

fn words(count: u32, own: u32) -> Vec<u32> {
    (0..count)
        .map(|at| FIRST_WORD + (at * at + own) % 50)
        .collect()
}

#[test]
fn a_perfect_draft_of_four_tokens_needs_a_fifth_of_the_steps_however_tokens_are_chosen() {
    for sampling in SAMPLINGS {
        let json =
            format!(r#"{{{sampling}, "seed": 3, "max_new_tokens": 100, "ignore_eos": true}}"#);
        let requests = [request(&words(50, 0), &json)];
        let (mut plain, log) = engine_with(Model::Ngram, LIMITS, config(0));
        let expected = pollster::block_on(plain.generate(&requests)).unwrap();
        assert_eq!(log.borrow().steps, 100, "{sampling}");

        let (main, draft) = ((Model::Ngram, LIMITS), (Model::Ngram, LIMITS));
        let (mut engine, log, draft_log) = engine_with_draft(main, draft, config(4));
        let drafted = pollster::block_on(engine.generate(&requests)).unwrap();
        assert_eq!(drafted[0][0].text, expected[0][0].text, "{sampling}");
        assert_eq!(drafted[0][0].token_ids, expected[0][0].token_ids);
        // One for the prompt, drafts of three until the model is trusted, and five tokens a step from then on.
        let steps = log.borrow().steps;
        assert!(steps <= 3 + 92usize.div_ceil(5), "{sampling}: {steps}");
        let stats = engine.stats();
        assert_eq!(stats.accepted_tokens, stats.drafted_tokens, "{sampling}");
        assert_eq!(stats.draft_steps, draft_log.borrow().steps as u64);
        assert_eq!(stats.draft_steps, stats.drafted_tokens, "{sampling}");
        assert_eq!((stats.used_blocks, stats.draft_used_blocks), (0, 0));
    }
}

#[test]
fn sequences_are_drafted_for_in_the_same_steps() {
    let json = r#"{"max_new_tokens": 80, "ignore_eos": true, "temperature": 0}"#;
    let requests: Vec<Request> = (0..4).map(|own| request(&words(9, own), json)).collect();
    let (main, draft) = ((Model::Ngram, LIMITS), (Model::Ngram, LIMITS));
    let (mut engine, log, draft_log) = engine_with_draft(main, draft, config(4));
    pollster::block_on(engine.generate(&requests)).unwrap();
    assert_eq!(draft_log.borrow().most_chunks, 4);
    assert!(log.borrow().steps <= 3 + 72usize.div_ceil(5));
    assert!(draft_log.borrow().steps <= 80);
    // A fifth one ends that: a step's room is better theirs.
    let five: Vec<Request> = (0..5).map(|own| request(&words(9, own), json)).collect();
    let steps = draft_log.borrow().steps;
    pollster::block_on(engine.generate(&five)).unwrap();
    assert_eq!(draft_log.borrow().steps, steps);
}

#[test]
fn a_model_that_is_always_wrong_is_asked_less_and_less_and_for_less() {
    let json = r#"{"max_new_tokens": 200, "ignore_eos": true, "temperature": 0}"#;
    let (main, draft) = ((Model::Ngram, LIMITS), (Model::Astray(1), LIMITS));
    let (mut engine, log, draft_log) = engine_with_draft(main, draft, config(8));
    let all = pollster::block_on(engine.generate(&[request(&[7, 8], json)])).unwrap();
    assert_eq!(all[0][0].token_ids, Model::Ngram.greedy(&[7, 8], 200));
    assert_eq!(log.borrow().steps, 200);
    let steps = draft_log.borrow().steps;
    assert!(steps <= 24, "{steps}");
}

#[test]
fn after_a_wrong_guess_the_drafting_model_goes_on_from_what_was_chosen_meanwhile() {
    let json = r#"{"max_new_tokens": 150, "ignore_eos": true, "temperature": 0}"#;
    let config = EngineConfig {
        step_tokens: 20,
        ..config(4)
    };
    let (main, draft) = ((Model::Ngram, LIMITS), (Model::Astray(3), LIMITS));
    let (mut engine, log, draft_log) = engine_with_draft(main, draft, config);
    draft_log.borrow_mut().histories = Some(Vec::new());
    let mut text = vec![7, 8];
    engine.submit(&request(&text, json)).unwrap();
    while engine.has_work() {
        if log.borrow().steps.is_multiple_of(7) {
            // Nothing is drafted while another prompt is read.
            let one = r#"{"max_new_tokens": 1}"#;
            engine.submit(&request(&words(60, 0), one)).unwrap();
        }
        pollster::block_on(engine.step()).unwrap();
    }
    text.extend(Model::Ngram.greedy(&text, 150));
    let stats = engine.stats();
    assert!(0 < stats.accepted_tokens && stats.accepted_tokens < stats.drafted_tokens);
    for history in draft_log.borrow().histories.iter().flatten() {
        let both = history.iter().zip(&text);
        let same = both.take_while(|(own, other)| own == other).count();
        // What is wrong is a guess of this draft, which has four.
        assert!(same + 3 >= history.len(), "{history:?}");
    }
}

#[test]
fn a_long_prompt_is_caught_up_in_bounded_steps_and_the_first_token_waits_for_none() {
    let limits = ExecutorLimits {
        step_tokens: 20,
        ..LIMITS
    };
    let json = r#"{"max_new_tokens": 60, "ignore_eos": true, "temperature": 0}"#;
    let (main, draft) = ((Model::Ngram, LIMITS), (Model::Ngram, limits));
    let (mut engine, log, draft_log) = engine_with_draft(main, draft, config(4));
    engine.submit(&request(&words(150, 0), json)).unwrap();
    let events = pollster::block_on(engine.step()).unwrap();
    assert!(matches!(events[..], [Event::Token(_)]), "{events:?}");
    assert_eq!(draft_log.borrow().steps, 0);
    while engine.has_work() {
        pollster::block_on(engine.step()).unwrap();
    }
    assert_eq!(draft_log.borrow().most_tokens, 20);
    // Seven steps in which it only reads, beside as many tokens of the large model.
    assert!(log.borrow().steps <= 10 + 60usize.div_ceil(5));
}

#[test]
fn the_next_turn_of_a_conversation_is_caught_up_from_where_the_last_one_ended() {
    let json = r#"{"max_new_tokens": 60, "ignore_eos": true, "temperature": 0}"#;
    let (main, draft) = ((Model::Ngram, LIMITS), (Model::Ngram, LIMITS));
    let (mut engine, _, draft_log) = engine_with_draft(main, draft, config(4));
    let mut prompt = words(100, 0);
    let first = pollster::block_on(engine.generate(&[request(&prompt, json)])).unwrap();
    // All but the last ones, which nothing comes after.
    assert!((150..160).contains(&draft_log.borrow().tokens));
    prompt.extend(&first[0][0].token_ids);
    prompt.extend(words(10, 7));
    draft_log.borrow_mut().tokens = 0;
    pollster::block_on(engine.generate(&[request(&prompt, json)])).unwrap();
    let tokens = draft_log.borrow().tokens;
    assert!(tokens < 2 * BLOCK + 10 + 60, "{tokens}");
    // Nor does a cleared cache leave anything there.
    engine.clear_prefix_cache();
    draft_log.borrow_mut().tokens = 0;
    pollster::block_on(engine.generate(&[request(&prompt, json)])).unwrap();
    assert!(draft_log.borrow().tokens >= 170);
}

#[test]
fn sequences_that_the_drafting_cache_or_context_is_too_small_for_go_without_drafts() {
    let json = r#"{"max_new_tokens": 60, "ignore_eos": true, "temperature": 0}"#;
    let requests: Vec<Request> = (0..4).map(|own| request(&words(40, own), json)).collect();
    for limits in [
        ExecutorLimits {
            blocks: 5,
            ..LIMITS
        },
        ExecutorLimits {
            blocks: 1,
            ..LIMITS
        },
        ExecutorLimits {
            context: 70,
            ..LIMITS
        },
        ExecutorLimits {
            step_sequences: 1,
            ..LIMITS
        },
        ExecutorLimits {
            step_rows: 3,
            ..LIMITS
        },
        ExecutorLimits {
            vocab: 60,
            ..LIMITS
        },
    ] {
        let (main, draft) = ((Model::Ngram, LIMITS), (Model::Ngram, limits));
        let (mut engine, _, _) = engine_with_draft(main, draft, config(4));
        let ids: Vec<RequestId> = requests.iter().map(|r| engine.submit(r).unwrap()).collect();
        let mut tokens: BTreeMap<RequestId, Vec<u32>> = BTreeMap::new();
        while engine.has_work() {
            for event in pollster::block_on(engine.step()).unwrap() {
                if let Event::Token(token) = event {
                    tokens.entry(token.request).or_default().push(token.id);
                }
            }
            let stats = engine.stats();
            assert_eq!(stats.draft_total_blocks, limits.blocks);
            assert!(stats.draft_used_blocks <= limits.blocks);
        }
        for (id, request) in ids.iter().zip(&requests) {
            assert_eq!(tokens[id], Model::Ngram.greedy(&request.prompt, 60));
        }
        let stats = engine.stats();
        assert_eq!(stats.draft_used_blocks, 0);
        // Whoever fits is drafted for.
        let drafts = limits.blocks > 1;
        assert_eq!(stats.accepted_tokens > 0, drafts, "{limits:?}");
    }
}

#[test]
fn a_step_of_the_drafting_model_that_fails_ends_drafts_and_no_request() {
    let json = r#"{"max_new_tokens": 60, "ignore_eos": true, "temperature": 0}"#;
    let run = |set: fn(&mut Log)| {
        let (main, draft) = ((Model::Ngram, LIMITS), (Model::Ngram, LIMITS));
        let (mut engine, _, draft_log) = engine_with_draft(main, draft, config(4));
        set(&mut draft_log.borrow_mut());
        let all = pollster::block_on(engine.generate(&[request(&[7, 8], json)])).unwrap();
        assert_eq!(all[0][0].token_ids, Model::Ngram.greedy(&[7, 8], 60));
        let stats = engine.stats();
        assert_eq!((stats.draft_steps, stats.draft_total_blocks), (5, 0));
        assert!(engine.draft_executor().is_none());
        engine.draft_failure().unwrap().to_string()
    };
    assert_eq!(run(|log| log.refuse_at = Some(6)), "too hot");
    let few = "0 rows came back where 1 were wanted";
    assert_eq!(run(|log| log.lose_row_at = Some(6)), few);
}

#[test]
fn a_device_that_is_lost_while_drafting_ends_all_requests_as_ever() {
    let (main, draft) = ((Model::Ngram, LIMITS), (Model::Ngram, LIMITS));
    let (mut engine, _, draft_log) = engine_with_draft(main, draft, config(4));
    let long = r#"{"max_new_tokens": 60, "ignore_eos": true, "temperature": 0}"#;
    let ids = [[7, 8], [9, 10]].map(|prompt| engine.submit(&request(&prompt, long)).unwrap());
    draft_log.borrow_mut().fail_at = Some(2);
    pollster::block_on(engine.step()).unwrap();
    let Error::Executor { source, requests } = pollster::block_on(engine.step()).unwrap_err()
    else {
        panic!("another error");
    };
    assert!(matches!(source, ExecutorError::DeviceLost { .. }));
    assert_eq!(requests, ids);
    // Whoever builds the engine again knows whose step it was.
    assert_eq!(engine.draft_failure(), Some(&source));
    let stats = engine.stats();
    assert_eq!((stats.used_blocks, stats.draft_total_blocks), (0, 0));
    let again = pollster::block_on(engine.generate(&[request(&[7, 8], long)])).unwrap();
    assert_eq!(again[0][0].token_ids, Model::Ngram.greedy(&[7, 8], 60));
}

#[test]
fn guesses_that_are_not_numbers_end_drafts_and_no_request() {
    let json = r#"{"max_new_tokens": 60, "ignore_eos": true, "temperature": 0}"#;
    let prompts = [[7, 8], [9, 10]];
    let expected = prompts.map(|prompt| Model::Ngram.greedy(&prompt, 60));
    let requests = prompts.map(|prompt| request(&prompt, json));
    for broken in [expected[0][20], expected[1][0]] {
        let (main, draft) = ((Model::Ngram, LIMITS), (Model::Ngram, LIMITS));
        let (mut engine, _, draft_log) = engine_with_draft(main, draft, config(4));
        draft_log.borrow_mut().broken_after = Some(broken);
        let all = pollster::block_on(engine.generate(&requests)).unwrap();
        for (own, expected) in all.iter().zip(&expected) {
            assert_eq!(own[0].token_ids, *expected);
        }
        assert!(engine.draft_executor().is_none());
        assert_eq!(
            engine.draft_failure().unwrap().to_string(),
            "the draft model's logits are not numbers"
        );
    }
}

#[test]
fn steps_that_are_dropped_while_drafts_are_made_change_nothing() {
    let run = |drops: usize, ahead: bool| {
        let config = EngineConfig {
            run_ahead: Some(ahead),
            ..config(3)
        };
        let (main, draft) = ((Model::Ngram, LIMITS), (Model::Astray(3), LIMITS));
        let (mut engine, _, draft_log) = engine_with_draft(main, draft, config);
        draft_log.borrow_mut().pending = 1;
        let greedy = r#"{"max_new_tokens": 60, "ignore_eos": true, "temperature": 0}"#;
        engine.submit(&request(&words(40, 1), greedy)).unwrap();
        let mut tokens = Vec::new();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        while engine.has_work() {
            let mut step = Box::pin(engine.step());
            let mut polls = (0..drops).map(|_| step.as_mut().poll(&mut context));
            let events = match polls.find(|poll| poll.is_ready()) {
                Some(std::task::Poll::Ready(events)) => events,
                _ => {
                    drop(step);
                    pollster::block_on(engine.step())
                }
            };
            for event in events.unwrap() {
                if let Event::Token(token) = event {
                    tokens.push(token.id);
                }
            }
        }
        assert!(engine.stats().accepted_tokens > 0);
        tokens
    };
    let expected = Model::Ngram.greedy(&words(40, 1), 60);
    for drops in 0..=7 {
        for ahead in [false, true] {
            assert_eq!(run(drops, ahead), expected, "dropped after {drops} polls");
        }
    }
}

#[test]
fn guesses_are_said_before_they_come_where_steps_run_ahead_and_the_device_chooses() {
    let run = |sampling: &str, run_ahead| {
        let json =
            format!(r#"{{{sampling}, "seed": 3, "max_new_tokens": 100, "ignore_eos": true}}"#);
        let config = EngineConfig {
            run_ahead,
            ..config(4)
        };
        let (main, draft) = ((Model::Ngram, LIMITS), (Model::Ngram, LIMITS));
        let (mut engine, log, draft_log) = engine_with_draft(main, draft, config);
        pollster::block_on(engine.generate(&[request(&[7, 8], &json)])).unwrap();
        assert_eq!(log.borrow().ahead, 0);
        let (steps, ahead) = (draft_log.borrow().steps, draft_log.borrow().ahead);
        (steps, ahead)
    };
    for sampling in &SAMPLINGS[..2] {
        let (steps, ahead) = run(sampling, Some(true));
        // All but the first one of each draft.
        assert!(ahead * 4 >= (steps - 4) * 3, "{ahead} of {steps}");
        assert_eq!(run(sampling, None), (steps, 0));
    }
    assert_eq!(run(SAMPLINGS[2], Some(true)).1, 0);
    assert_eq!(run(SAMPLINGS[4], Some(true)).1, 0);
}

/// The vocabulary of the mock with another word at the end, and tokens that only fill a table up.
fn other_tokenizer(last: &str, padding: usize, eos: Option<u32>) -> Tokenizer {
    let mut tokens: Vec<String> = (0..VOCAB as u32)
        .map(|id| tokenizer().id_to_token(id).unwrap())
        .collect();
    *tokens.last_mut().unwrap() = last.to_owned();
    tokens.extend((VOCAB..VOCAB + padding).map(|id| format!("[PAD{id}]")));
    let mut token_types = vec![2, 3, 3, 6, 6];
    token_types.resize(VOCAB, 1);
    token_types.resize(tokens.len(), 5);
    Tokenizer::from_gguf(&GgufVocab {
        model: "llama",
        scores: vec![0.0; tokens.len()],
        token_types,
        tokens: tokens.iter().map(String::as_str).collect(),
        eos,
        ..GgufVocab::default()
    })
    .unwrap()
}

#[test]
fn seven_tokens_are_drafted_while_there_is_a_model_unless_the_settings_say_how_many() {
    let json = r#"{"max_new_tokens": 100, "ignore_eos": true, "temperature": 0}"#;
    let run = |speculate, fails: bool| {
        let config = EngineConfig {
            speculate,
            run_ahead: Some(true),
            ..EngineConfig::default()
        };
        // What comes again would be looked up.
        let model = Model::Script((0..300).map(|at| FIRST_WORD + at % 12).collect());
        let (main, draft) = ((model.clone(), LIMITS), (model, LIMITS));
        let (mut engine, log, draft_log) = engine_with_draft(main, draft, config);
        draft_log.borrow_mut().refuse_at = fails.then_some(1);
        pollster::block_on(engine.generate(&[request(&[7, 8], json)])).unwrap();
        let (most, ahead) = (log.borrow().most_rows, log.borrow().ahead);
        (engine.speculate(), most, ahead > 0)
    };
    assert_eq!(run(None, false), (7, 8, false));
    assert_eq!(run(Some(3), false), (3, 4, false));
    assert_eq!(run(Some(0), false), (0, 1, true));
    // Without it nothing is looked up that nobody asked for, and steps run ahead.
    assert_eq!(run(None, true), (0, 1, true));
    assert_eq!(run(Some(3), true), (3, 4, false));
}

#[test]
fn choices_of_one_prompt_are_caught_up_once() {
    let json = |count: usize| {
        format!(
            r#"{{"max_new_tokens": 40, "ignore_eos": true, "temperature": 1, "seed": 5, "num_return_sequences": {count}}}"#
        )
    };
    let run = |count: usize| {
        let (main, draft) = ((Model::Ngram, LIMITS), (Model::Ngram, LIMITS));
        let (mut engine, _, draft_log) = engine_with_draft(main, draft, config(4));
        let request = request(&words(180, 0), &json(count));
        let all = pollster::block_on(engine.generate(&[request])).unwrap();
        assert_eq!(all[0].len(), count);
        assert!(engine.stats().accepted_tokens > 0);
        draft_log.borrow().tokens
    };
    let (one, four) = (run(1), run(4));
    // The others run what no whole block of the first one holds, and their own tokens.
    let own = BLOCK + (one - 180);
    assert!(one >= 180 && four <= one + 3 * (own + 10), "{one}, {four}");
}

#[test]
fn a_long_prompt_is_not_caught_up_for_a_few_tokens() {
    let run = |prompt: u32, tokens: usize| {
        let json = format!(r#"{{"max_new_tokens": {tokens}, "ignore_eos": true}}"#);
        let (main, draft) = ((Model::Ngram, LIMITS), (Model::Ngram, LIMITS));
        let (mut engine, _, draft_log) = engine_with_draft(main, draft, config(4));
        pollster::block_on(engine.generate(&[request(&words(prompt, 0), &json)])).unwrap();
        draft_log.borrow().steps
    };
    assert_eq!(run(200, 6), 0);
    assert!(run(200, 20) > 0);
    assert!(run(20, 6) > 0);
}

#[test]
fn no_first_token_waits_for_a_draft() {
    let json = r#"{"max_new_tokens": 40, "ignore_eos": true, "temperature": 0}"#;
    let (main, draft) = ((Model::Ngram, LIMITS), (Model::Ngram, LIMITS));
    let (mut engine, _, draft_log) = engine_with_draft(main, draft, config(4));
    // One token, which is run as one of a text that goes on would be.
    engine.submit(&request(&[7], json)).unwrap();
    pollster::block_on(engine.step()).unwrap();
    assert_eq!(draft_log.borrow().steps, 0);
    pollster::block_on(engine.step()).unwrap();
    let steps = draft_log.borrow().steps;
    assert!(steps > 0);
    // Nor does it wait for another's.
    engine.submit(&request(&[8], json)).unwrap();
    pollster::block_on(engine.step()).unwrap();
    assert_eq!(draft_log.borrow().steps, steps);
    pollster::block_on(engine.step()).unwrap();
    assert!(draft_log.borrow().steps > steps);
}

#[test]
fn a_model_of_other_tokens_is_refused_and_one_of_a_longer_table_is_not() {
    let (mut engine, log) = engine_with(Model::Ngram, LIMITS, config(4));
    let mut set = |tokenizer: &Tokenizer| {
        let set = engine.set_draft_model(Mock::new(Model::Ngram, LIMITS), tokenizer);
        set.map_err(|error| error.to_string())
    };
    set(&tokenizer()).unwrap();
    set(&other_tokenizer("▁w99", 28, None)).unwrap();
    assert_eq!(
        set(&other_tokenizer("▁ham", 28, None)).unwrap_err(),
        r#"the model cannot draft: its token 99 is " ham", not " w99"; expected a model of the same vocabulary"#
    );
    // No text depends on what the other one would end with.
    set(&other_tokenizer("▁w99", 0, Some(5))).unwrap();
    log.borrow_mut().length_matters = true;
    let error = set(&tokenizer()).unwrap_err();
    assert!(error.contains("depends on the length"), "{error}");
}

/// What happens to a request.
#[derive(Debug, Clone)]
struct Life {
    tokens: usize,
    prompt: u32,
    arrival: usize,
    cancelled: Option<usize>,
    sampling: &'static str,
    more: &'static str,
}

/// What a request may want besides.
const MORE: [&str; 5] = [
    "",
    r#", "num_return_sequences": 3"#,
    r#", "stop": ["w9", "w2 w", "7 w3"]"#,
    r#", "prompt_logprobs": 1"#,
    r#", "stop_token_ids": [20, 21, 22, 23], "num_return_sequences": 2"#,
];

fn life() -> impl Strategy<Value = Life> {
    let sampling = prop::sample::select(SAMPLINGS.to_vec());
    let cancelled = prop::option::weighted(0.2, 1usize..60);
    let more = prop::sample::select(MORE.to_vec());
    (1usize..70, 1u32..90, 0usize..40, cancelled, sampling, more).prop_map(
        |(tokens, prompt, arrival, cancelled, sampling, more)| Life {
            tokens,
            prompt,
            arrival,
            cancelled,
            sampling,
            more,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_is_generated_is_the_same_with_any_drafting_model_whoever_comes_and_goes(
        lives in prop::collection::vec(life(), 1..7),
        draft in prop::option::of(1u64..8),
        speculate in 1usize..9,
        blocks in 6usize..40,
        draft_blocks in 1usize..30,
        draft_tokens in 1usize..60,
        draft_context in 20usize..256,
        draft_vocab in 50usize..=VOCAB,
        candidates in prop::option::of(0usize..6),
        prefix_cache in any::<bool>(),
        draft_shares in any::<bool>(),
        ahead in any::<bool>(),
    ) {
        let limits = ExecutorLimits { blocks, ..LIMITS };
        let draft_limits = ExecutorLimits {
            blocks: draft_blocks,
            step_tokens: draft_tokens,
            context: draft_context,
            vocab: draft_vocab,
            ..LIMITS
        };
        let draft = draft.map_or(Model::Ngram, Model::Astray);
        let run = |drafts: bool| {
            let config = EngineConfig {
                prefix_cache,
                run_ahead: Some(ahead),
                ..config(speculate)
            };
            let (mut engine, log) = engine_with(Model::Ngram, limits, config);
            log.borrow_mut().candidates = candidates;
            if drafts {
                let draft = Mock::new(draft.clone(), draft_limits);
                draft.log.borrow_mut().candidates = candidates;
                draft.log.borrow_mut().length_matters = !draft_shares;
                engine.set_draft_model(draft, &tokenizer()).unwrap();
            } else {
                engine.set_speculate(Some(0));
            }
            let mut ids = BTreeMap::new();
            let mut texts: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
            for step in 0.. {
                for (number, life) in lives.iter().enumerate() {
                    if life.arrival == step {
                        let Life { tokens, prompt, sampling, more, .. } = life;
                        let json = format!(
                            r#"{{{sampling}{more}, "seed": {number}, "max_new_tokens": {tokens}, "min_new_tokens": {}}}"#,
                            tokens / 3
                        );
                        let request = request(&words(*prompt, number as u32 % 3), &json);
                        ids.insert(engine.submit(&request).unwrap(), number);
                    }
                    let own = ids.iter().find(|(_, own)| **own == number);
                    if life.cancelled == Some(step) && let Some((id, _)) = own {
                        engine.cancel(*id);
                    }
                }
                if step >= 40 && !engine.has_work() {
                    break;
                }
                for event in pollster::block_on(engine.step()).unwrap() {
                    let seen = match &event {
                        Event::Token(t) => {
                            format!("{} {:?} {:?} {:?}", t.id, t.text, t.logprob, t.top_logprobs)
                        }
                        Event::Finished(finished) => format!("{:?}", finished.reason),
                        other => format!("{other:?}"),
                    };
                    let own = (ids[&event.request()], event.index());
                    texts.entry(own).or_default().push(seen);
                }
                let stats = engine.stats();
                assert!(stats.draft_used_blocks <= draft_blocks);
            }
            let stats = engine.stats();
            assert_eq!((stats.used_blocks, stats.draft_used_blocks), (0, 0));
            texts
        };
        let (drafted, plain) = (run(true), run(false));
        let all = lives.iter().enumerate();
        for (number, life) in all.flat_map(|(at, life)| (0..3).map(move |own| ((at, own), life))) {
            let [own, other] = [&drafted, &plain].map(|all| all.get(&number));
            if life.cancelled.is_none() {
                prop_assert_eq!(own, other, "request {:?}", number);
                continue;
            }
            // A request that is cancelled has come as far as it has.
            let [own, other] = [own, other].map(|all| all.map_or(&[][..], Vec::as_slice));
            let common = own.len().min(other.len());
            prop_assert_eq!(&own[..common], &other[..common], "request {:?}", number);
        }
    }
}
