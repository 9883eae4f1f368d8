//! One seed, one text: sampling with the real model gives the same tokens on the CPU and on the
//! adapter, and on every run.

use fireside::{DeviceChoice, GenerationParams, Loading, Message};
use fireside_tests::{gpu, skip, smollm2};

fn sampled(path: &std::path::Path, device: DeviceChoice) -> Vec<Vec<u32>> {
    let loading = Loading::new(path.to_str().unwrap())
        .device(device)
        .context(Some(512));
    let mut pipeline = pollster::block_on(loading.load()).unwrap();
    let base = GenerationParams {
        max_new_tokens: Some(16),
        do_sample: Some(true),
        seed: Some(7),
        ..Default::default()
    };
    let settings = [
        GenerationParams {
            temperature: Some(0.9),
            top_p: Some(0.9),
            ..base.clone()
        },
        GenerationParams {
            temperature: Some(1.3),
            top_k: Some(20),
            seed: Some(11),
            ..base.clone()
        },
        GenerationParams {
            min_p: Some(0.05),
            repetition_penalty: Some(1.2),
            ..base.clone()
        },
        GenerationParams {
            typical_p: Some(0.8),
            frequency_penalty: Some(0.4),
            ..base
        },
    ];
    let prompt = vec![Message::new(
        "user",
        "Name three rivers and what they are known for.",
    )];
    let run = |pipeline: &mut fireside::Pipeline, params: &GenerationParams| {
        let outputs = pollster::block_on(pipeline.generate(prompt.clone(), params)).unwrap();
        outputs[0].completion.token_ids.clone()
    };
    let first: Vec<_> = settings.iter().map(|p| run(&mut pipeline, p)).collect();
    let second: Vec<_> = settings.iter().map(|p| run(&mut pipeline, p)).collect();
    assert_eq!(first, second, "two runs on {device:?} differ");
    first
}

#[test]
fn a_seed_gives_the_same_tokens_on_cpu_and_adapter() {
    let test = "a_seed_gives_the_same_tokens_on_cpu_and_adapter";
    let Some(path) = smollm2(test) else { return };
    if gpu().is_none() {
        return skip(test, "no gpu adapter: install mesa-vulkan-drivers");
    }
    let cpu = sampled(&path, DeviceChoice::Cpu);
    assert_eq!(cpu, sampled(&path, DeviceChoice::Gpu));
    assert!(cpu.iter().any(|tokens| *tokens != cpu[0]));
}
