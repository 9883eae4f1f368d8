//! Drafts on a real device: the same tokens as without them, in fewer steps.

use fireside::Loading;
use fireside_engine::{
    Completion, Engine, EngineConfig, EngineStats, GenerationDefaults, GenerationParams,
    ModelExecutor, Request,
};
use fireside_model::KvDtype;
use fireside_model::device::ComputeDevice;
use fireside_model::path::load_path;
use fireside_tests::references::close;
use fireside_tests::{choices, devices, fixture, smollm2};

/// An engine over a tiny model that drafts so many tokens, from another one if there is any.
fn engine(
    device: &ComputeDevice,
    checkpoint: &str,
    draft: Option<&str>,
    speculate: usize,
) -> Engine<ModelExecutor> {
    let load = |checkpoint: &str| {
        let path = fixture("tiny-llama").join(checkpoint);
        let loaded = load_path(&path, device.clone()).unwrap();
        let executor = ModelExecutor::new(loaded.model, 512, KvDtype::F32).unwrap();
        (executor, loaded.text.tokenizer)
    };
    let (executor, tokenizer) = load(checkpoint);
    let config = EngineConfig {
        speculate: Some(speculate),
        ..EngineConfig::default()
    };
    let defaults = GenerationDefaults::default();
    let mut engine = Engine::new(executor, tokenizer, defaults, config).unwrap();
    if let Some(draft) = draft {
        let (executor, tokenizer) = load(draft);
        engine.set_draft_model(executor, &tokenizer).unwrap();
    }
    engine
}

/// What an engine makes of prompts that repeat themselves, and of what.
fn generate(engine: &mut Engine<ModelExecutor>) -> (Vec<Completion>, EngineStats) {
    let vocab = engine.limits().vocab as u32;
    let params = |temperature, top_k| GenerationParams {
        max_new_tokens: Some(60),
        do_sample: Some(temperature > 0.0),
        temperature: Some(temperature),
        top_k,
        seed: Some(5),
        ignore_eos: Some(true),
        logprobs: Some(0),
        ..Default::default()
    };
    let prompt: Vec<u32> = (0..30).map(|at| 3 + at % 7 * 5 % (vocab - 3)).collect();
    let requests = [params(0.0, None), params(0.1, None), params(0.2, Some(3))];
    let requests = requests.map(|params| Request::new(prompt.clone()).with_params(params));
    // Together they may take as many steps as the one with the fewest drafts.
    let mut all = Vec::new();
    for request in &requests {
        let one = pollster::block_on(engine.generate(std::slice::from_ref(request)));
        all.extend(one.unwrap().into_iter().flatten());
    }
    (all, engine.stats())
}

/// The same tokens, and as probable.
#[track_caller]
fn same(what: &str, drafted: &[Completion], plain: &[Completion]) {
    for (one, other) in drafted.iter().zip(plain) {
        assert_eq!(one.token_ids, other.token_ids, "{what}");
        let logprobs = [one, other].map(|own| [own.logprobs.clone()]);
        close(what, &logprobs[0], &logprobs[1], 1e-3);
    }
}

#[test]
fn drafts_give_the_same_tokens_in_fewer_steps_on_every_device() {
    let test = "drafts_give_the_same_tokens_in_fewer_steps_on_every_device";
    for (place, device) in devices(test) {
        let (plain, all) = generate(&mut engine(&device, "tied", None, 0));
        // Sixteen rows and more take the kernels of prefill.
        for speculate in [4, 24] {
            let (drafted, stats) = generate(&mut engine(&device, "tied", None, speculate));
            same(&format!("{place}, drafts of {speculate}"), &drafted, &plain);
            assert!(stats.accepted_tokens > 20, "{place}: {stats:?}");
            assert!(stats.steps < all.steps, "{place}: {stats:?}");
        }
    }
}

#[test]
fn a_model_that_drafts_gives_the_same_tokens_whatever_it_guesses_on_every_device() {
    let test = "a_model_that_drafts_gives_the_same_tokens_whatever_it_guesses_on_every_device";
    for (place, device) in devices(test) {
        let (plain, _) = generate(&mut engine(&device, "tied", None, 0));
        for (draft, knows) in [("tied", true), ("biases", false)] {
            let (drafted, stats) = generate(&mut engine(&device, "tied", Some(draft), 4));
            same(&format!("{place}, {draft} drafts"), &drafted, &plain);
            assert!(stats.draft_steps > 0);
            // Near ties aside, a model guesses all of its own tokens.
            let (right, all) = (stats.accepted_tokens, stats.drafted_tokens);
            assert!(!knows || 10 * right > 8 * all, "{place}: {stats:?}");
        }
    }
}

#[test]
fn a_real_model_that_drafts_for_itself_writes_the_same_text_in_a_third_of_the_steps() {
    let test = "a_real_model_that_drafts_for_itself_writes_the_same_text_in_a_third_of_the_steps";
    let Some(path) = smollm2(test) else { return };
    // The best place there is: the other one is slow, and the test above has both.
    let place = choices(test).pop().unwrap();
    let path = path.to_str().unwrap();
    let run = |draft: Option<&str>| {
        let loading = Loading::new(path).device(place).context(Some(256));
        let loading = loading.draft_model(draft.map(str::to_owned));
        let mut pipeline = pollster::block_on(loading.text_generation()).unwrap();
        let mut all = Vec::new();
        for (temperature, top_p) in [(0.0, None), (0.7, None), (0.7, Some(0.9))] {
            let params = GenerationParams {
                max_new_tokens: Some(48),
                do_sample: Some(temperature > 0.0),
                temperature: Some(temperature),
                top_p,
                top_k: Some(0),
                seed: Some(7),
                ignore_eos: Some(true),
                ..Default::default()
            };
            let prompt = "The history of the city of Paris begins";
            let outputs = pollster::block_on(pipeline.generate(prompt, &params)).unwrap();
            all.extend(outputs.into_iter().map(|output| output.text));
        }
        (all, pipeline.engine().stats())
    };
    let (plain, all) = run(None);
    let (drafted, stats) = run(Some(path));
    assert_eq!(drafted, plain);
    assert_eq!(all.steps, 3 * 48);
    assert!(3 * stats.steps < all.steps, "{stats:?}");
    assert!(stats.draft_total_blocks * fireside_model::BLOCK <= 256);
}
