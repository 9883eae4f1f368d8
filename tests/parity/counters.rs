//! What a token of a real model costs the adapter's queue. The counts are the process's, so this
//! test is alone in its file.

use std::path::Path;

use fireside::{DeviceChoice, GenerationParams, Loading, Pipeline};
use fireside_model::device::ComputeDevice;
use fireside_model::path::load_path;
use fireside_model::step::RowSelection;
use fireside_model::{Counters, KvDtype};
use fireside_tests::{Runner, fixture, gemma3, gpu, skip, smollm2};
use serde::Deserialize;

/// Launches of a token besides those of layers.
const OTHERS: u64 = 10;

/// What a greedy decode step costs on a software adapter; in the browser it is the same.
#[derive(Deserialize)]
struct Step {
    dispatches: u64,
    submits: u64,
    readback_bytes: u64,
}

#[test]
fn a_token_is_one_submission_of_few_launches_and_bytes() {
    let test = "a_token_is_one_submission_of_few_launches_and_bytes";
    let Some(device) = gpu() else {
        return skip(test, "no gpu adapter: install mesa-vulkan-drivers");
    };
    let software = device.adapter().is_some_and(|adapter| adapter.software);
    check_experts(device);
    // Layers, and launches of a layer at the most: Gemma 3 has two norms more.
    if let Some(path) = smollm2(test) {
        let step = check(&path, 30 * 6 + OTHERS);
        if software {
            let text = std::fs::read_to_string(fixture("smollm2-step.json")).unwrap();
            let expected: Step = serde_json::from_str(&text).unwrap();
            assert_eq!(step.dispatches, 8 * expected.dispatches);
            assert_eq!(step.submits, 8 * expected.submits);
            assert_eq!(step.read, 8 * expected.readback_bytes);
        }
    }
    if let Some(path) = gemma3(test) {
        check(&path, 18 * 8 + OTHERS);
    }
}

/// A layer of experts is four launches, two more than a dense feed-forward layer, whatever is chosen.
fn check_experts(device: ComputeDevice) {
    let loaded = load_path(&fixture("families/qwen3-moe"), device).unwrap();
    let mut runner = Runner::new(&loaded.model, 64, KvDtype::F16).unwrap();
    let mut step = |token| {
        let before = Counters::now();
        runner
            .run(&[token], true, &RowSelection::default())
            .unwrap();
        Counters::now().since(before)
    };
    step(3);
    for token in [5, 90, 41] {
        let cost = step(token);
        // Attention's four and the experts' four in two layers; the embedding, the last norm, the head and
        // the selection's two.
        assert_eq!(
            (cost.dispatches, cost.submits),
            (2 * (4 + 4) + 5, 1),
            "{cost:?}"
        );
    }
}

/// Runs a model, checks what its tokens cost, and gives the cost of eight greedy ones.
fn check(path: &Path, dispatches: u64) -> Counters {
    let loading = Loading::new(path.to_str().unwrap())
        .device(DeviceChoice::Gpu)
        .context(Some(256));
    let Pipeline::TextGeneration(mut pipeline) = pollster::block_on(loading.load()).unwrap() else {
        panic!("{} generates no text", path.display());
    };
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
    let mut cost_with = |run_ahead, params: &GenerationParams, tokens: usize| {
        let params = GenerationParams {
            max_new_tokens: Some(tokens),
            ignore_eos: Some(true),
            ..params.clone()
        };
        pipeline.engine().set_run_ahead(run_ahead);
        let before = Counters::now();
        pollster::block_on(pipeline.generate("The hearth", &params)).unwrap();
        Counters::now().since(before)
    };
    let mut cost = |params: &GenerationParams, tokens| cost_with(None, params, tokens);
    for params in [&greedy, &sampled] {
        // What first requests take was compiled beside the weights.
        assert_eq!(cost(params, 3).pipelines, 0, "shaders of first requests");
        // The prompt's step is in both, so what remains is decode.
        let (short, long) = (cost(params, 2), cost(params, 10));
        let of = |count: fn(&Counters) -> u64| count(&long) - count(&short);
        assert_eq!(of(|c| c.submits), 8, "submissions of eight tokens");
        assert!(of(|c| c.dispatches) <= 8 * dispatches, "{long:?}");
        assert!(of(|c| c.read) <= 8 * 4096, "{long:?}");
        assert_eq!(long.pipelines + short.pipelines, 0, "late shaders");
    }
    let step = cost(&greedy, 9).since(cost(&greedy, 1));
    assert!(step.read <= 8 * 64, "{step:?} for eight greedy tokens");
    // Each is submitted before the token before it is read, and costs no more for that. The first one comes
    // after the prompt's step.
    let ahead = cost_with(Some(true), &greedy, 10);
    let ahead = ahead.since(cost_with(Some(true), &greedy, 2));
    assert_eq!(ahead.ahead, 8, "{ahead:?}");
    assert_eq!(
        (ahead.dispatches, ahead.submits, ahead.read),
        (step.dispatches, step.submits, step.read)
    );
    step
}
