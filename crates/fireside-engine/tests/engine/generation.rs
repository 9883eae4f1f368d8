//! What one request gets: tokens, text, its end, and its errors.

use crate::mock::{EOS, LIMITS, Mock, Model, engine, engine_with, request};
use fireside_engine::{
    Completion, EngineConfig, Error, Event, FinishReason, GenerationDefaults, Request,
};

fn complete(model: Model, request: &Request) -> Completion {
    let (mut engine, _) = engine(model);
    let mut completions =
        pollster::block_on(engine.generate(std::slice::from_ref(request))).unwrap();
    completions.remove(0).remove(0)
}

fn script(tokens: &[u32]) -> Model {
    Model::Script(tokens.to_vec())
}

#[test]
fn greedy_tokens_are_the_models_own_however_the_prompt_is_cut() {
    let prompt: Vec<u32> = (0..150).map(|at| 5 + at * 7 % 90).collect();
    let expected = Model::Ngram.greedy(&prompt, 40);
    for step_tokens in [1, 7, 32, 149, 150, 512] {
        let config = EngineConfig {
            step_tokens,
            ..EngineConfig::default()
        };
        let (mut engine, log) = engine_with(Model::Ngram, LIMITS, config);
        let request = request(&prompt, r#"{"max_new_tokens": 40, "ignore_eos": true}"#);
        let completions = pollster::block_on(engine.generate(&[request])).unwrap();
        assert_eq!(completions[0][0].token_ids, expected);
        assert_eq!(completions[0][0].finish_reason, FinishReason::Length);
        assert_eq!(log.borrow().steps, 150usize.div_ceil(step_tokens) + 39);
        assert_eq!(log.borrow().rewrites, 0);
        assert!(log.borrow().most_tokens <= step_tokens);
        assert_eq!(
            (
                engine.stats().prefill_tokens,
                engine.stats().generated_tokens
            ),
            (150, 40)
        );
    }
}

#[test]
fn the_text_is_what_the_tokenizer_makes_of_all_tokens() {
    let completion = complete(Model::Ngram, &request(&[1, 9], r#"{"max_new_tokens": 30}"#));
    let whole =
        crate::mock::tokenizer().decode(&[&[1, 9], &completion.token_ids[..]].concat(), true);
    assert_eq!(completion.text, whole.strip_prefix("w9").unwrap());
}

#[test]
fn no_new_tokens_are_no_steps() {
    let (mut engine, log) = engine(Model::Ngram);
    let id = engine
        .submit(&request(&[1, 5], r#"{"max_new_tokens": 0}"#))
        .unwrap();
    let events = pollster::block_on(engine.step()).unwrap();
    let [Event::Finished(finished)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(
        (finished.request, finished.reason),
        (id, FinishReason::Length)
    );
    assert_eq!(
        (
            finished.stats.prompt_tokens,
            finished.stats.generated_tokens
        ),
        (2, 0)
    );
    assert_eq!(log.borrow().steps, 0);
    assert!(!engine.has_work());
}

#[test]
fn one_new_token_is_one_step() {
    let completion = complete(Model::Ngram, &request(&[1, 5], r#"{"max_new_tokens": 1}"#));
    assert_eq!(completion.token_ids, Model::Ngram.greedy(&[1, 5], 1));
    assert_eq!(completion.finish_reason.openai(), "length");
}

#[test]
fn a_prompt_of_just_the_context_gets_its_one_token_and_a_longer_one_is_refused() {
    let (mut engine, _) = engine(Model::Ngram);
    let prompt = vec![7; LIMITS.context];
    let request = request(&prompt, r#"{"max_new_tokens": 50, "ignore_eos": true}"#);
    let completions = pollster::block_on(engine.generate(&[request])).unwrap();
    assert_eq!(completions[0][0].token_ids.len(), 1);
    assert_eq!(completions[0][0].finish_reason, FinishReason::Length);
    let longer = Request::new(vec![7; LIMITS.context + 1]);
    let error = engine.submit(&longer).unwrap_err();
    assert_eq!(
        error.to_string(),
        "prompt of 257 tokens exceeds the context of 256 tokens"
    );
    assert!(!engine.has_work());
}

#[test]
fn generation_ends_where_the_context_does() {
    let request = request(&[7; 200], r#"{"max_new_tokens": 500, "ignore_eos": true}"#);
    let completion = complete(Model::Ngram, &request);
    assert_eq!(completion.token_ids.len(), LIMITS.context - 200 + 1);
    assert_eq!(completion.finish_reason, FinishReason::Length);
}

#[test]
fn what_the_cache_cannot_hold_is_refused_unless_nobody_asked_for_it() {
    let limits = fireside_engine::ExecutorLimits {
        blocks: 3,
        ..LIMITS
    };
    let (mut engine, _) = engine_with(Model::Ngram, limits, EngineConfig::default());
    let error = engine
        .submit(&request(&[7; 90], r#"{"max_new_tokens": 20}"#))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "prompt of 90 tokens plus 20 new ones exceeds the KV cache of 96 positions"
    );
    let request = request(&[7; 90], r#"{"ignore_eos": true}"#);
    let completions = pollster::block_on(engine.generate(&[request])).unwrap();
    assert_eq!(completions[0][0].token_ids.len(), 7);
    engine.submit(&Request::new(vec![7; 97])).unwrap_err();
}

#[test]
fn prompts_that_mean_nothing_are_refused() {
    let (mut engine, _) = engine(Model::Ngram);
    assert_eq!(
        engine.submit(&Request::new(Vec::new())),
        Err(Error::EmptyPrompt)
    );
    assert_eq!(
        engine.submit(&Request::new(vec![5, 100])),
        Err(Error::PromptToken {
            position: 1,
            token: 100,
            vocab: 100
        })
    );
    let error = engine
        .submit(&request(&[5], r#"{"temperature": -1}"#))
        .unwrap_err();
    assert!(
        error.to_string().starts_with("temperature is -1; expected"),
        "{error}"
    );
}

#[test]
fn the_end_token_ends_the_text_and_is_no_part_of_it() {
    let completion = complete(script(&[10, 11, EOS, 12]), &Request::new(vec![1]));
    assert_eq!(completion.text, "w10 w11");
    assert_eq!(completion.token_ids, [10, 11, EOS]);
    assert_eq!(completion.finish_reason, FinishReason::Eos);
    assert_eq!(completion.stats.generated_tokens, 3);
}

#[test]
fn end_tokens_of_the_generation_config_count_too() {
    let defaults = GenerationDefaults {
        eos_token_id: Some(vec![-1, 11, 100_000]),
        ..Default::default()
    };
    let executor = Mock::new(script(&[10, 11, 12]), LIMITS);
    let config = EngineConfig::default();
    let mut engine =
        fireside_engine::Engine::new(executor, crate::mock::tokenizer(), defaults, config).unwrap();
    assert_eq!(engine.eos_tokens(), [EOS, 11]);
    let completions = pollster::block_on(engine.generate(&[Request::new(vec![1])])).unwrap();
    assert_eq!(completions[0][0].text, "w10");
    assert_eq!(completions[0][0].finish_reason, FinishReason::Eos);
}

#[test]
fn ignored_end_tokens_do_not_end_anything() {
    let request = request(&[1], r#"{"ignore_eos": true, "max_new_tokens": 4}"#);
    let completion = complete(script(&[10, EOS, 12, 13]), &request);
    assert_eq!(completion.token_ids, [10, EOS, 12, 13]);
    assert_eq!(completion.text, "w10 w12 w13");
    assert_eq!(completion.finish_reason, FinishReason::Length);
}

#[test]
fn no_end_comes_before_the_least_number_of_tokens() {
    let request = request(
        &[1],
        r#"{"min_new_tokens": 3, "stop_token_ids": [12], "stop": ["w10"], "max_new_tokens": 9}"#,
    );
    let (mut engine, log) = engine(script(&[10, EOS, 12, EOS]));
    let completions = pollster::block_on(engine.generate(&[request])).unwrap();
    let completion = &completions[0][0];
    // Where the model wants a forbidden token it gives the next best one, which has id 0.
    assert_eq!(completion.token_ids, [10, 0, 0, EOS]);
    assert_eq!(completion.finish_reason, FinishReason::Eos);
    assert!(log.borrow().last_rows[0].adjustments.is_empty());
}

#[test]
fn stop_tokens_end_the_generation_and_are_named() {
    let request = request(&[1], r#"{"stop_token_ids": [30, 11]}"#);
    let completion = complete(script(&[10, 11, 12]), &request);
    assert_eq!(completion.token_ids, [10, 11]);
    assert_eq!(completion.finish_reason, FinishReason::StopToken(11));
    assert_eq!(completion.finish_reason.openai(), "stop");
}

#[test]
fn no_part_of_a_stop_string_across_tokens_is_ever_emitted() {
    let (mut engine, _) = engine(script(&[10, 11, 12, 13, 14]));
    engine
        .submit(&request(&[1], r#"{"stop": ["zz", "1 w12 w"]}"#))
        .unwrap();
    let mut texts = Vec::new();
    let mut reason = None;
    while engine.has_work() {
        for event in pollster::block_on(engine.step()).unwrap() {
            match event {
                Event::Token(token) => texts.push(token.text),
                Event::Finished(finished) => reason = Some(finished.reason),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(texts, ["w10", " w1", "", ""]);
    assert_eq!(reason, Some(FinishReason::StopString(1)));
    assert_eq!(reason.unwrap().tgi(), "stop_sequence");
}

#[test]
fn text_held_back_for_a_stop_string_comes_with_the_last_token() {
    let request = request(&[1], r#"{"stop": [" w11 w12 w99"], "max_new_tokens": 3}"#);
    let completion = complete(script(&[10, 11, 12]), &request);
    assert_eq!(completion.text, "w10 w11 w12");
    assert_eq!(completion.finish_reason, FinishReason::Length);
}

#[test]
fn half_a_character_is_held_back_until_it_is_whole() {
    let (mut engine, _) = engine(script(&[10, 3, 4, 3]));
    engine
        .submit(&request(&[1], r#"{"max_new_tokens": 4}"#))
        .unwrap();
    let mut texts = Vec::new();
    while engine.has_work() {
        for event in pollster::block_on(engine.step()).unwrap() {
            if let Event::Token(token) = event {
                texts.push(token.text);
            }
        }
    }
    assert_eq!(texts, ["w10", "", "é", "\u{FFFD}"]);
}

#[test]
fn log_probabilities_are_those_of_the_models_softmax() {
    let request = request(
        &[1, 9],
        r#"{"max_new_tokens": 5, "logprobs": 3, "temperature": 2}"#,
    );
    let completion = complete(Model::Ngram, &request);
    let mut history = vec![1, 9];
    for (at, token) in completion.token_ids.iter().enumerate() {
        let logits = Model::Ngram.logits(&history);
        let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        let expected = (f64::from(logits[*token as usize]) - sum.ln()) as f32;
        assert!((completion.logprobs[at] - expected).abs() < 1e-4);
        assert_eq!(completion.top_logprobs[at].len(), 3);
        assert!(completion.top_logprobs[at].is_sorted_by(|a, b| a.logprob >= b.logprob));
        history.push(*token);
    }
    assert_eq!(completion.logprobs.len(), 5);
}

#[test]
fn penalties_and_biases_change_the_tokens_as_defined() {
    let penalized = complete(
        script(&[10]),
        &request(
            &[1],
            r#"{"max_new_tokens": 5, "presence_penalty": 2, "frequency_penalty": 2}"#,
        ),
    );
    // After three times 9 - 6 - 2 is still the largest, after four times 9 - 8 - 2 is not.
    assert_eq!(penalized.token_ids, [10, 10, 10, 10, 0]);
    let biased = complete(
        script(&[10]),
        &request(
            &[1],
            r#"{"max_new_tokens": 2, "logit_bias": {"10": -100, "44": 1.5}}"#,
        ),
    );
    assert_eq!(biased.token_ids, [44, 44]);
    let prompt = [1, 10];
    let repeated = request(
        &prompt,
        r#"{"max_new_tokens": 2, "repetition_penalty": 20, "logit_bias": {"44": 1}}"#,
    );
    // Token 10 is in the prompt: 9 / 20 falls below the bias of 44, which no penalty divides.
    assert_eq!(complete(script(&[10]), &repeated).token_ids, [44, 44]);
}

#[test]
fn without_a_seed_texts_differ_and_the_told_seed_repeats_them() {
    let free = request(&[1, 9], r#"{"max_new_tokens": 20, "temperature": 1.5}"#);
    let (mut engine, _) = engine(Model::Ngram);
    let both = pollster::block_on(engine.generate(&[free.clone(), free.clone()])).unwrap();
    assert_ne!(both[0][0].token_ids, both[1][0].token_ids);
    let mut again = free;
    again.params.seed = Some(both[1][0].seed);
    assert_eq!(
        complete(Model::Ngram, &again).token_ids,
        both[1][0].token_ids
    );
}

#[test]
fn several_sequences_of_one_prompt_differ_and_the_first_is_the_only_ones() {
    let one = request(
        &[1, 9],
        r#"{"max_new_tokens": 20, "do_sample": true, "seed": 5}"#,
    );
    let mut many = one.clone();
    many.params.num_return_sequences = Some(3);
    let (mut engine, _) = engine(Model::Ngram);
    let completions = pollster::block_on(engine.generate(&[many])).unwrap();
    let [first, second, third] = &completions[0][..] else {
        panic!("{completions:?}")
    };
    assert_eq!(first.token_ids, complete(Model::Ngram, &one).token_ids);
    assert_ne!(first.token_ids, second.token_ids);
    assert_ne!(second.token_ids, third.token_ids);
    // Each of them can be had alone by its own seed.
    let mut alone = one;
    alone.params.seed = Some(third.seed);
    assert_eq!(complete(Model::Ngram, &alone).token_ids, third.token_ids);
}

#[test]
fn rows_that_candidates_do_not_prove_are_run_again_and_counted() {
    let flat = r#"{"max_new_tokens": 30, "ignore_eos": true, "seed": 3, "temperature": 3,
        "top_k": 0, "top_p": 0.9}"#;
    let run = |candidates, given| {
        let config = EngineConfig {
            candidates,
            ..EngineConfig::default()
        };
        let (mut engine, log) = engine_with(Model::Ngram, LIMITS, config);
        log.borrow_mut().candidates = given;
        let request = request(&[1, 9], flat);
        let completion = pollster::block_on(engine.generate(&[request]))
            .unwrap()
            .remove(0)
            .remove(0);
        let log = log.borrow();
        assert_eq!(log.rewrites as u64, completion.stats.fallbacks);
        assert_eq!(engine.stats().fallbacks, completion.stats.fallbacks);
        (
            completion.token_ids,
            completion.stats.fallbacks,
            log.whole_rows,
        )
    };
    let (tokens, fallbacks, whole) = run(100, None);
    assert_eq!((fallbacks, whole), (0, 0));
    // After the first row was not proven the next ones are asked for whole, not run twice.
    assert_eq!(run(4, None), (tokens.clone(), 1, 30));
    assert_eq!(run(100, Some(4)), (tokens.clone(), 1, 30));
    assert_eq!(run(100, Some(0)), (tokens, 1, 30));
}

#[test]
fn times_and_counts_fit_together() {
    let completion = complete(
        Model::Ngram,
        &request(&[1, 9, 8], r#"{"max_new_tokens": 4}"#),
    );
    let stats = completion.stats;
    assert_eq!(stats.prompt_tokens, 3);
    assert_eq!(stats.generated_tokens, completion.token_ids.len());
    assert_eq!(
        stats.time_to_first_token,
        Some(stats.queued + stats.prefill)
    );
    assert_eq!((stats.fallbacks, stats.preemptions), (0, 0));
}
