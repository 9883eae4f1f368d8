//! Drafts on a real device: the same tokens as without them, in fewer steps.

use fireside_engine::{
    Completion, Engine, EngineConfig, GenerationDefaults, GenerationParams, ModelExecutor, Request,
};
use fireside_model::KvDtype;
use fireside_model::device::ComputeDevice;
use fireside_model::path::load_path;
use fireside_tests::references::close;
use fireside_tests::{devices, fixture};

/// What a tiny model makes of prompts that repeat themselves, with so many drafted tokens, and in how many steps.
fn generate(checkpoint: &str, device: &ComputeDevice, speculate: usize) -> (Vec<Completion>, u64) {
    let path = fixture("tiny-llama").join(checkpoint);
    let loaded = load_path(&path, device.clone()).unwrap();
    let vocab = loaded.model.config().vocab as u32;
    let executor = ModelExecutor::new(loaded.model, 512, KvDtype::F32).unwrap();
    let config = EngineConfig {
        speculate,
        ..EngineConfig::default()
    };
    let defaults = GenerationDefaults::default();
    let mut engine = Engine::new(executor, loaded.text.tokenizer, defaults, config).unwrap();
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
    let stats = engine.stats();
    assert!(speculate == 0 || stats.accepted_tokens > 20, "{stats:?}");
    (all, stats.steps)
}

#[test]
fn drafts_give_the_same_tokens_in_fewer_steps_on_every_device() {
    let test = "drafts_give_the_same_tokens_in_fewer_steps_on_every_device";
    for (place, device) in devices(test) {
        let (plain, steps) = generate("tied", &device, 0);
        // Sixteen rows and more take the kernels of prefill.
        for speculate in [4, 24] {
            let (drafted, fewer) = generate("tied", &device, speculate);
            for (one, other) in drafted.iter().zip(&plain) {
                let what = format!("{place}, drafts of {speculate}");
                assert_eq!(one.token_ids, other.token_ids, "{what}");
                let logprobs = [one, other].map(|own| [own.logprobs.clone()]);
                close(&what, &logprobs[0], &logprobs[1], 1e-3);
            }
            assert!(
                fewer < steps,
                "{place}: {fewer} steps, without drafts {steps}"
            );
        }
    }
}
