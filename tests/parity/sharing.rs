//! Sharing changes nothing: greedy tokens of models with and without a prefix from the cache, and
//! alone and among others, on the CPU twins and on the adapter.

use std::collections::BTreeMap;
use std::path::Path;

use fireside::{DeviceChoice, Event, GenerationParams, KvDtype, Loading, Message, Pipeline};
use fireside_engine::{
    Completion, Engine, EngineConfig, GenerationDefaults, ModelExecutor, Request,
};
use fireside_model::device::ComputeDevice;
use fireside_model::path::load_path;
use fireside_tests::{devices, fixture, gpu, skip, smollm2};

const BLOCK: usize = fireside_model::BLOCK;

fn engine(
    path: &Path,
    device: &ComputeDevice,
    positions: usize,
    config: EngineConfig,
) -> Engine<ModelExecutor> {
    let loaded = load_path(path, device.clone()).unwrap();
    let executor = ModelExecutor::new(loaded.model, positions, KvDtype::F16).unwrap();
    let defaults = GenerationDefaults::default();
    Engine::new(executor, loaded.text.tokenizer, defaults, config).unwrap()
}

fn greedy(prompt: Vec<u32>, new: usize) -> Request {
    Request::new(prompt).with_params(GenerationParams {
        max_new_tokens: Some(new),
        do_sample: Some(false),
        ignore_eos: Some(true),
        logprobs: Some(0),
        ..Default::default()
    })
}

fn complete(engine: &mut Engine<ModelExecutor>, request: &Request) -> Completion {
    let one = std::slice::from_ref(request);
    let mut all = pollster::block_on(engine.generate(one)).unwrap();
    all.remove(0).remove(0)
}

/// Largest difference of the log-probabilities of two equal generations.
#[track_caller]
fn same(what: &str, actual: &Completion, expected: &Completion) -> f32 {
    assert_eq!(actual.token_ids, expected.token_ids, "{what}");
    actual
        .logprobs
        .iter()
        .zip(&expected.logprobs)
        .map(|(a, e)| (a - e).abs())
        .fold(0.0, f32::max)
}

/// The tiny checkpoints whose vocabularies hold the tokens below.
fn checkpoints() -> [&'static str; 6] {
    [
        "biases",
        "gqa-1-float16",
        "gqa-3-float16",
        "gqa-8-bfloat16",
        "head-dim",
        "rope-yarn-options",
    ]
}

/// Tokens of a made-up prompt.
fn prompt(seed: u32, len: u32) -> Vec<u32> {
    (0..len)
        .map(|at| (seed * 31 + at * at * 7 + at) % 61)
        .collect()
}

/// Two turns of a chat, the second with the tokens of the first before it.
fn two_turns(engine: &mut Engine<ModelExecutor>, prompt: &[u32], new: usize) -> [Completion; 2] {
    let first = complete(engine, &greedy(prompt.to_vec(), new));
    let more = [7, 5, 3, 11, 2];
    let next = [prompt, &first.token_ids, &more].concat();
    let second = complete(engine, &greedy(next, new));
    [first, second]
}

fn check_two_turns(what: &str, with: &mut Engine<ModelExecutor>, prompt: &[u32], new: usize) {
    let turns = two_turns(with, prompt, new);
    let cached = turns.each_ref().map(|turn| turn.stats.cached_tokens);
    let kept = (prompt.len() + new - 1) / BLOCK * BLOCK;
    assert_eq!(cached, [0, kept], "{what}");
    let [_, again] = two_turns(with, prompt, new);
    let len = prompt.len() + new + 5;
    assert_eq!(again.stats.cached_tokens, (len - 1) / BLOCK * BLOCK);

    with.clear_prefix_cache();
    let next = [prompt, &turns[0].token_ids, &[7, 5, 3, 11, 2]].concat();
    let without = complete(with, &greedy(next, new));
    assert_eq!(without.stats.cached_tokens, 0);
    let difference = same(what, &turns[1], &without);
    same(what, &again, &without);
    println!("{what}: log-probabilities differ by {difference:e} at most");
}

#[test]
fn a_second_turn_reuses_the_first_and_gives_the_same_tokens() {
    let test = "a_second_turn_reuses_the_first_and_gives_the_same_tokens";
    for (place, device) in devices(test) {
        for name in checkpoints() {
            let path = fixture("tiny-llama").join(name);
            let mut engine = engine(&path, &device, 512, EngineConfig::default());
            for (seed, len) in [(1, 40), (2, 64), (3, 100)] {
                let what = format!("{name} on {place}, {len} tokens");
                check_two_turns(&what, &mut engine, &prompt(seed, len), 30);
            }
        }
    }
}

#[test]
fn positions_that_depend_on_the_length_are_not_shared() {
    let path = fixture("tiny-llama").join("rope-dynamic");
    let cpu = ComputeDevice::cpu();
    let mut engine = engine(&path, &cpu, 128, EngineConfig::default());
    assert!(!engine.config().prefix_cache);
    let request = greedy(prompt(1, 40), 2);
    let first = complete(&mut engine, &request);
    let second = complete(&mut engine, &request);
    assert_eq!(second.stats.cached_tokens, 0);
    same("rope-dynamic", &second, &first);
}

#[test]
fn a_second_turn_with_the_real_model_reuses_the_first_and_gives_the_same_tokens() {
    let test = "a_second_turn_with_the_real_model_reuses_the_first_and_gives_the_same_tokens";
    let Some(path) = smollm2(test) else { return };
    let say = |role, text: &str| Message::new(role, text);
    let params = GenerationParams {
        max_new_tokens: Some(8),
        do_sample: Some(false),
        ..Default::default()
    };
    for (place, device) in [("cpu", DeviceChoice::Cpu), ("gpu", DeviceChoice::Gpu)] {
        if place == "gpu" && gpu().is_none() {
            return skip(test, "no gpu adapter: install mesa-vulkan-drivers");
        }
        let load = |cache| {
            let config = EngineConfig {
                prefix_cache: cache,
                ..EngineConfig::default()
            };
            let loading = Loading::new(path.to_str().unwrap());
            let loading = loading.device(device).context(Some(512)).engine(config);
            pollster::block_on(loading.load()).unwrap()
        };
        let turn = |pipeline: &mut Pipeline, chat: &[Message]| {
            let all = pollster::block_on(pipeline.generate(chat.to_vec(), &params)).unwrap();
            (all[0].text.clone(), all[0].completion.clone())
        };
        let (mut with, mut without) = (load(true), load(false));
        let mut chat = vec![say("user", "Name three rivers of Europe, please.")];
        let (answer, first) = turn(&mut with, &chat);
        assert_eq!(first.stats.cached_tokens, 0);
        chat.push(say("assistant", &answer));
        chat.push(say("user", "And the longest of them?"));
        let (_, second) = turn(&mut with, &chat);
        let (_, plain) = turn(&mut without, &chat);
        assert_eq!(plain.stats.cached_tokens, 0);
        assert_eq!(second.token_ids, plain.token_ids, "on {place}");
        // The first turn's prompt is a prefix of the second's.
        let shared = first.stats.prompt_tokens / BLOCK * BLOCK;
        assert!(second.stats.cached_tokens >= shared, "on {place}");
        println!(
            "{place}: {} of {} prompt tokens cached",
            second.stats.cached_tokens, second.stats.prompt_tokens
        );
    }
}

/// Runs requests that come one after the other, a few steps apart, and gives what came of each.
fn staggered(
    engine: &mut Engine<ModelExecutor>,
    requests: &[Request],
) -> Vec<(Vec<u32>, Vec<f32>)> {
    let mut all = vec![(Vec::new(), Vec::new()); requests.len()];
    let mut places = BTreeMap::new();
    let mut next = requests.iter().enumerate();
    loop {
        for (place, request) in next.by_ref().take(3) {
            places.insert(engine.submit(request).unwrap(), place);
        }
        if !engine.has_work() {
            return all;
        }
        for event in pollster::block_on(engine.step()).unwrap() {
            match event {
                Event::Token(token) => {
                    let own = &mut all[places[&token.request]];
                    own.0.push(token.id);
                    own.1.extend(token.logprob);
                }
                Event::Finished(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn check_batch(what: &str, engine: &mut Engine<ModelExecutor>, requests: &[Request]) {
    let together = staggered(engine, requests);
    let stats = engine.stats();
    let mut difference = 0f32;
    for (request, (tokens, logprobs)) in requests.iter().zip(together) {
        let alone = complete(engine, request);
        assert_eq!(tokens, alone.token_ids, "{what}");
        let pairs = logprobs.iter().zip(&alone.logprobs);
        difference = pairs.map(|(a, b)| (a - b).abs()).fold(difference, f32::max);
    }
    println!(
        "{what}: {} steps for {} tokens; log-probabilities differ by {difference:e} at most",
        stats.steps, stats.generated_tokens
    );
    assert!(stats.steps < stats.generated_tokens / 3, "{what}: no batch");
}

#[test]
fn a_request_gives_the_same_tokens_alone_and_among_fifteen_others() {
    let test = "a_request_gives_the_same_tokens_alone_and_among_fifteen_others";
    let config = EngineConfig {
        step_tokens: 40,
        prefix_cache: false,
        ..EngineConfig::default()
    };
    let requests: Vec<Request> = (0..16)
        .map(|at| greedy(prompt(at, 1 + at * 9 % 70), 24))
        .collect();
    for (place, device) in devices(test) {
        for name in checkpoints() {
            let path = fixture("tiny-llama").join(name);
            let mut engine = engine(&path, &device, 2048, config.clone());
            check_batch(&format!("{name} on {place}"), &mut engine, &requests);
        }
    }
}

#[test]
fn the_real_model_gives_the_same_tokens_alone_and_among_fifteen_others() {
    let test = "the_real_model_gives_the_same_tokens_alone_and_among_fifteen_others";
    let Some(path) = smollm2(test) else { return };
    let Some(device) = gpu() else {
        return skip(test, "no gpu adapter: install mesa-vulkan-drivers");
    };
    let config = EngineConfig {
        prefix_cache: false,
        ..EngineConfig::default()
    };
    let mut engine = engine(&path, &device, 1024, config);
    let things = [
        "rivers", "cities", "trees", "birds", "metals", "planets", "songs", "colours", "tools",
        "games", "fruits", "rocks", "seas", "books", "winds", "roads",
    ];
    let requests: Vec<Request> = things
        .iter()
        .map(|thing| {
            let text = format!("Here is a list of some well known {thing}:\n1.");
            greedy(engine.tokenizer().encode(&text, true).unwrap(), 4)
        })
        .collect();
    check_batch("SmolLM2 on gpu", &mut engine, &requests);
}
