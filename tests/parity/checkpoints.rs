//! Tiny random checkpoints of every family against transformers: logits of a prefill, a chunked prefill
//! and decode steps, and log-probabilities of prompts through the engine, on the CPU twins and on the
//! adapter, from safetensors and from GGUF.

use std::path::{Path, PathBuf};

use fireside_engine::{
    Engine, EngineConfig, GenerationDefaults, GenerationParams, ModelExecutor, PromptToken, Request,
};
use fireside_model::path::load_path;
use fireside_model::step::RowSelection;
use fireside_model::{KvDtype, Model};
use fireside_tests::references::{self, Expected, TOLERANCE, close};
use fireside_tests::{Runner, checkpoints, devices, fixture};

/// The same where keys and values are rounded to halves.
const HALF_TOLERANCE: f32 = 3e-2;
/// The mean difference where they are rounded to bytes: errors of up to 1/254 of the largest of a head add up in
/// some logits of many.
const BYTE_TOLERANCE: f32 = 5e-2;

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn expectations(folder: &Path) -> Vec<Expected> {
    let variant = name_of(folder);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = name_of(&path);
        if !name.starts_with("expected") {
            continue;
        }
        let name = format!("{variant}/{name}");
        all.push(Expected::read(name, &path, "logits"));
    }
    assert!(!all.is_empty(), "{variant} has no expected logits");
    all
}

/// What a checkpoint can be loaded from: its folder, and where it has one, its GGUF file.
fn forms(folder: &Path) -> Vec<PathBuf> {
    let gguf = folder.join("model.gguf");
    let mut forms = vec![folder.to_path_buf()];
    forms.extend(gguf.exists().then_some(gguf));
    forms
}

fn run(model: &Model, tokens: &[u32], sizes: &[usize], kv: KvDtype) -> Vec<Vec<f32>> {
    references::logits(model, tokens, sizes, kv, None)
}

fn check(test: &str, kv: KvDtype, tolerance: f32) {
    for (place, device) in devices(test) {
        for folder in checkpoints() {
            let expectations = expectations(&folder);
            for form in forms(&folder) {
                let loaded = load_path(&form, device.clone())
                    .unwrap_or_else(|e| panic!("{}: {e}", form.display()));
                for expected in &expectations {
                    // The prompt at once, then one token a step, as the reference ran it.
                    let actual = run(&loaded.model, &expected.tokens, &[expected.prompt, 1], kv);
                    close(
                        &format!("{} from {} on {place}", expected.name, name_of(&form)),
                        &actual,
                        &expected.logits,
                        tolerance,
                    );
                }
            }
        }
    }
}

#[test]
fn logits_of_prefill_and_decode_equal_transformers() {
    check(
        "logits_of_prefill_and_decode_equal_transformers",
        KvDtype::F32,
        TOLERANCE,
    );
}

#[test]
fn a_cache_of_halves_stays_close_to_transformers() {
    check(
        "a_cache_of_halves_stays_close_to_transformers",
        KvDtype::F16,
        HALF_TOLERANCE,
    );
}

#[test]
fn a_cache_of_bytes_stays_close_to_transformers_on_the_whole() {
    let test = "a_cache_of_bytes_stays_close_to_transformers_on_the_whole";
    for (place, device) in devices(test) {
        for folder in checkpoints() {
            let loaded = load_path(&folder, device.clone()).unwrap();
            for expected in &expectations(&folder) {
                let sizes = [expected.prompt, 1];
                let actual = run(&loaded.model, &expected.tokens, &sizes, KvDtype::Q8);
                let pairs = actual
                    .iter()
                    .flatten()
                    .zip(expected.logits.iter().flatten());
                let off: Vec<f32> = pairs.map(|(a, e)| (a - e).abs()).collect();
                let mean = off.iter().sum::<f32>() / off.len() as f32;
                let name = &expected.name;
                assert!(mean <= BYTE_TOLERANCE, "{name} on {place}: {mean} off");
            }
        }
    }
}

#[test]
fn chunked_prefill_equals_whole_prefill_and_steps_equal_a_longer_prefill() {
    let test = "chunked_prefill_equals_whole_prefill_and_steps_equal_a_longer_prefill";
    for (place, device) in devices(test) {
        for folder in checkpoints() {
            let variant = name_of(&folder);
            let loaded = load_path(&folder, device.clone()).unwrap();
            // Where frequencies depend on the length, they depend on how the tokens came, by definition.
            if loaded.model.config().depends_on_length() {
                continue;
            }
            let tokens = &expectations(&folder)[0].tokens;
            let whole = run(&loaded.model, tokens, &[tokens.len()], KvDtype::F32);
            for sizes in [&[7][..], &[1], &[tokens.len() - 1, 1], &[2, 17, 5]] {
                let parts = run(&loaded.model, tokens, sizes, KvDtype::F32);
                close(
                    &format!("{variant} on {place} in chunks of {sizes:?}"),
                    &parts,
                    &whole,
                    1e-4,
                );
            }
        }
    }
}

/// Log-probabilities of a row of logits, the highest first, and that of one token.
fn log_softmax(logits: &[f32], token: u32) -> (Vec<f32>, f32) {
    let top = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|l| f64::from(l - top).exp()).sum();
    let of = |l: &f32| l - top - sum.ln() as f32;
    let mut all: Vec<f32> = logits.iter().map(of).collect();
    let own = all[token as usize];
    all.sort_by(|a, b| b.total_cmp(a));
    (all, own)
}

/// The scores of a prompt against transformers' logits.
#[track_caller]
fn check_scores(what: &str, scores: &[PromptToken], expected: &Expected, top: usize) {
    assert_eq!(scores.len(), expected.tokens.len(), "{what}");
    assert_eq!(scores[0].logprob, None, "{what}");
    for (at, score) in scores.iter().enumerate().skip(1) {
        let (all, own) = log_softmax(&expected.logits[at - 1], score.id);
        let mut actual = vec![score.logprob.unwrap()];
        actual.extend(score.top_logprobs.iter().map(|top| top.logprob));
        let mut wanted = vec![own];
        wanted.extend(&all[..top]);
        close(what, &[actual], &[wanted], TOLERANCE);
    }
}

#[test]
fn log_probabilities_of_prompts_equal_transformers_alone_in_chunks_in_company_and_when_cached() {
    let test = "log_probabilities_of_prompts_equal_transformers_alone_in_chunks_in_company_and_when_cached";
    for (place, device) in devices(test) {
        for folder in checkpoints() {
            // Families have the same heads; and dynamic scaling depends on how the tokens came, by definition.
            let variant = name_of(&folder);
            if !folder.starts_with(fixture("tiny-llama")) || variant.contains("dynamic") {
                continue;
            }
            for (step_tokens, top) in [(512, 3), (7, 0)] {
                let loaded = load_path(&folder, device.clone()).unwrap();
                let vocab = loaded.model.config().vocab as u32;
                let executor = ModelExecutor::new(loaded.model, 512, KvDtype::F32).unwrap();
                let config = EngineConfig {
                    step_tokens,
                    ..EngineConfig::default()
                };
                let defaults = GenerationDefaults::default();
                let tokenizer = loaded.text.tokenizer;
                let mut engine = Engine::new(executor, tokenizer, defaults, config).unwrap();
                let request = |tokens: Vec<u32>, scored: Option<usize>, new| {
                    Request::new(tokens).with_params(GenerationParams {
                        max_new_tokens: Some(new),
                        do_sample: Some(false),
                        ignore_eos: Some(true),
                        prompt_logprobs: scored,
                        ..Default::default()
                    })
                };
                let expected = &expectations(&folder)[0];
                let tokens = &expected.tokens;
                let alone = request(tokens.clone(), Some(top), 0);
                let other = |seed: u32| (0..20).map(|at| (seed + at * 5) % vocab).collect();
                let all = [
                    request(other(3), None, 9),
                    request(tokens.clone(), Some(top), 4),
                    request(other(8), Some(1), 2),
                ];
                let what = format!("{} on {place}, {step_tokens} a step", expected.name);
                let mut run = |requests: &[Request], which: usize| {
                    let all = pollster::block_on(engine.generate(requests)).unwrap();
                    check_scores(&what, &all[which][0].prompt_logprobs, expected, top);
                };
                run(std::slice::from_ref(&alone), 0);
                // Now its front is cached.
                run(&all, 1);
            }
        }
    }
}

#[test]
fn matrices_in_parts_give_the_same_logits_and_selections() {
    let test = "matrices_in_parts_give_the_same_logits_and_selections";
    let Some(gpu) = fireside_tests::gpu() else {
        return fireside_tests::skip(test, "no gpu adapter: install mesa-vulkan-drivers");
    };
    // Heads of their own and tied ones, a cap on logits, projections in one tensor, experts.
    for name in ["gemma", "gemma2", "olmo2", "phi3", "qwen3-moe"] {
        let folder = fixture("families").join(name);
        // 64 rows of 64 columns in bfloat16: every matrix with more rows is cut.
        let device = gpu.clone().with_max_binding(64 * 64 * 2);
        let model = load_path(&folder, device).unwrap().model;
        let matrices = model.decoder().matrices();
        let cut = matrices.filter(|m| m.layouts().count() > 1).count();
        assert!(cut > model.config().layers, "{name} is not cut");
        let expected = &expectations(&folder)[0];
        let actual = run(
            &model,
            &expected.tokens,
            &[expected.prompt, 1],
            KvDtype::F32,
        );
        close(
            &format!("{name} in parts"),
            &actual,
            &expected.logits,
            TOLERANCE,
        );
        // What is selected comes from all parts; a step of one token is recorded.
        let mut runner = Runner::new(&model, expected.tokens.len(), KvDtype::F32).unwrap();
        for (token, logits) in expected.tokens.iter().zip(&expected.logits) {
            let target = expected.tokens[0];
            let wanted = RowSelection {
                target: Some(target),
                ..Default::default()
            };
            let found = &runner.run(&[*token], true, &wanted).unwrap()[0].selection;
            let top = logits.iter().copied().fold(f32::MIN, f32::max);
            assert!((logits[found.token as usize] - top).abs() <= TOLERANCE);
            let (_, own) = log_softmax(logits, target);
            let found = found.target_logit - found.log_sum_exp;
            assert!(
                (found - own).abs() <= TOLERANCE,
                "{name}: {found} for {own}"
            );
        }
    }
}

#[test]
fn a_model_or_cache_past_the_adapters_bindings_is_refused_by_name() {
    let test = "a_model_or_cache_past_the_adapters_bindings_is_refused_by_name";
    let Some(gpu) = fireside_tests::gpu() else {
        return fireside_tests::skip(test, "no gpu adapter: install mesa-vulkan-drivers");
    };
    let path = fixture("tiny-llama").join("tied");
    let error = load_path(&path, gpu.clone().with_max_binding(64)).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("too small for this model: 64 rows of"),
        "{error}"
    );

    let model = load_path(&path, gpu.with_max_binding(1 << 20))
        .unwrap()
        .model;
    let error = model.cache(1 << 40, KvDtype::F16).unwrap_err().to_string();
    assert!(error.contains("a kv cache of"), "{error}");
    assert!(error.contains("it allows 1048576"), "{error}");
}
