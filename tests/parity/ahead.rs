//! Steps that run before the last one's tokens are read, on a real device: the same tokens as without them,
//! while sequences end, come and go.

use fireside_engine::{
    Engine, EngineConfig, Event, GenerationDefaults, GenerationParams, ModelExecutor, Request,
};
use fireside_model::device::ComputeDevice;
use fireside_model::path::load_path;
use fireside_model::{Counters, KvDtype};
use fireside_tests::{devices, fixture};

/// The tokens of requests of several lengths, of which some come later and one is cancelled, and how many steps
/// had run ahead.
fn generate(model: &str, device: &ComputeDevice, run_ahead: bool) -> (Vec<Vec<u32>>, u64) {
    let loaded = load_path(&fixture(model), device.clone()).unwrap();
    let vocab = loaded.model.config().vocab as u32;
    let executor = ModelExecutor::new(loaded.model, 512, KvDtype::F16).unwrap();
    let config = EngineConfig {
        run_ahead: Some(run_ahead),
        ..EngineConfig::default()
    };
    let defaults = GenerationDefaults::default();
    let mut engine = Engine::new(executor, loaded.text.tokenizer, defaults, config).unwrap();
    let request = |number: usize| {
        let prompt = (0..20 + number as u32).map(|at| 3 + at * 5 % (vocab - 3));
        Request::new(prompt.collect()).with_params(GenerationParams {
            max_new_tokens: Some(12 + 9 * number),
            do_sample: Some(number % 2 == 1),
            top_k: Some(0),
            seed: Some(number as u64),
            ignore_eos: Some(true),
            ..Default::default()
        })
    };
    let before = Counters::now();
    let mut ids = Vec::new();
    let mut tokens = vec![Vec::new(); 4];
    for step in 0.. {
        for number in 0..4 {
            if step == number * 7 {
                ids.push(engine.submit(&request(number)).unwrap());
            }
        }
        if step == 30 {
            engine.cancel(ids[2]);
        }
        if ids.len() == 4 && !engine.has_work() {
            break;
        }
        for event in pollster::block_on(engine.step()).unwrap() {
            if let Event::Token(token) = event {
                let number = ids.iter().position(|id| *id == token.request).unwrap();
                tokens[number].push(token.id);
            }
        }
    }
    (tokens, Counters::now().since(before).ahead)
}

#[test]
fn running_ahead_gives_the_same_tokens_on_every_device() {
    let test = "running_ahead_gives_the_same_tokens_on_every_device";
    for (place, device) in devices(test) {
        for model in ["tiny-llama/tied", "families/qwen3-moe"] {
            let (plain, none) = generate(model, &device, false);
            let (tokens, ahead) = generate(model, &device, true);
            assert_eq!(tokens, plain, "{model}, {place}");
            assert_eq!(none, 0, "{model}, {place}");
            // The CPU records nothing, and so runs nothing ahead.
            let records = device.adapter().is_some();
            assert_eq!(ahead > 20, records, "{model}, {place}: {ahead}");
        }
    }
}
