//! What a token of a real model costs the adapter's queue. The counts are the process's, so this
//! test is alone in its file.

use std::path::Path;

use fireside::{DeviceChoice, GenerationParams, Loading};
use fireside_model::Counters;
use fireside_tests::{gemma3, gpu, skip, smollm2};

/// Launches of a token besides those of layers.
const OTHERS: u64 = 10;

#[test]
fn a_token_is_one_submission_of_few_launches_and_bytes() {
    let test = "a_token_is_one_submission_of_few_launches_and_bytes";
    if gpu().is_none() {
        return skip(test, "no gpu adapter: install mesa-vulkan-drivers");
    }
    // Layers, and launches of a layer at the most: Gemma 3 has two norms more.
    for (path, layers, each) in [(smollm2(test), 30, 6), (gemma3(test), 18, 8)] {
        if let Some(path) = path {
            check(&path, layers * each + OTHERS);
        }
    }
}

fn check(path: &Path, dispatches: u64) {
    let loading = Loading::new(path.to_str().unwrap())
        .device(DeviceChoice::Gpu)
        .context(Some(256));
    let mut pipeline = pollster::block_on(loading.load()).unwrap();
    let greedy = GenerationParams {
        do_sample: Some(false),
        ..Default::default()
    };
    let sampled = GenerationParams {
        do_sample: Some(true),
        temperature: Some(0.8),
        top_p: Some(0.9),
        top_k: Some(40),
        seed: Some(3),
        ..Default::default()
    };
    let mut cost = |params: &GenerationParams, tokens: usize| {
        let params = GenerationParams {
            max_new_tokens: Some(tokens),
            min_new_tokens: Some(tokens),
            ..params.clone()
        };
        let before = Counters::now();
        pollster::block_on(pipeline.generate("The hearth", &params)).unwrap();
        Counters::now().since(before)
    };
    for params in [&greedy, &sampled] {
        cost(params, 3);
        // The prompt's step is in both, so what remains is decode.
        let (short, long) = (cost(params, 2), cost(params, 10));
        let of = |count: fn(&Counters) -> u64| count(&long) - count(&short);
        assert_eq!(of(|c| c.submits), 8, "submissions of eight tokens");
        assert!(of(|c| c.dispatches) <= 8 * dispatches, "{long:?}");
        assert!(of(|c| c.read) <= 8 * 4096, "{long:?}");
        assert_eq!(long.pipelines + short.pipelines, 0, "late shaders");
    }
    let greedy = cost(&greedy, 9).read - cost(&greedy, 1).read;
    assert!(greedy <= 8 * 64, "{greedy} bytes for eight greedy tokens");
}
