//! LoRA adapters against PEFT: logits with and without them, many in one step, come and gone while others run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fireside_engine::{
    Completion, Engine, EngineConfig, Error, GenerationDefaults, GenerationParams, ModelExecutor,
    Request,
};
use fireside_formats::WeightFile;
use fireside_model::device::ComputeDevice;
use fireside_model::path::{load_path, open_lora};
use fireside_model::step::{Chunk, RowSelection, Step};
use fireside_model::{BLOCK, DecoderConfig, KvDtype, Lora};
use fireside_tests::references::{Expected, TOLERANCE, close, logits};
use fireside_tests::{devices, fixture};

/// The adapters of one checkpoint, `tiny-llama/head-dim`.
const LLAMAS: [&str; 3] = ["llama", "llama-attention", "llama-patterns"];

fn folder(name: &str) -> PathBuf {
    fixture("lora").join(name)
}

/// The checkpoint that an adapter is for.
fn base(name: &str) -> PathBuf {
    let path = std::fs::read_to_string(folder(name).join("base.txt")).unwrap();
    fixture(path.trim())
}

fn expected(name: &str, which: &str) -> Expected {
    let file = folder(name).join("expected.safetensors");
    Expected::read(format!("{name} ({which})"), &file, which)
}

fn read(name: &str, model: &DecoderConfig) -> Arc<Lora> {
    let lora = open_lora(&folder(name), model);
    Arc::new(lora.unwrap_or_else(|e| panic!("{name}: {e}")))
}

#[test]
fn logits_with_every_adapter_equal_peft_and_without_it_transformers() {
    let test = "logits_with_every_adapter_equal_peft_and_without_it_transformers";
    let mut names: Vec<String> = std::fs::read_dir(fixture("lora"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 13, "only {names:?}");
    for (place, device) in devices(test) {
        for name in &names {
            let gguf = base(name).join("model.gguf");
            let mut forms = vec![base(name)];
            forms.extend(gguf.exists().then_some(gguf));
            for form in forms {
                let mut model = load_path(&form, device.clone()).unwrap().model;
                let lora = read(name, model.config());
                // Twice, so that numbers above the first one are used.
                model.set_loras(&[Arc::clone(&lora), lora]).unwrap();
                for (which, loras) in [("logits", &[Some(0), Some(1)][..]), ("plain", &[None])] {
                    let expected = expected(name, which);
                    for lora in loras {
                        for sizes in [&[expected.prompt, 1][..], &[4, 3, 1]] {
                            let tokens = &expected.tokens;
                            let actual = logits(&model, tokens, sizes, KvDtype::F32, *lora);
                            let what = format!(
                                "{} from {} on {place} in {sizes:?}",
                                expected.name,
                                form.display()
                            );
                            close(&what, &actual, &expected.logits, TOLERANCE);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn sequences_with_different_adapters_and_with_none_share_a_step() {
    let test = "sequences_with_different_adapters_and_with_none_share_a_step";
    for (place, device) in devices(test) {
        let mut model = load_path(&base("llama"), device).unwrap().model;
        let loras = LLAMAS.map(|name| read(name, model.config()));
        model.set_loras(&loras).unwrap();
        let mut all: Vec<_> = LLAMAS.map(|name| expected(name, "logits")).into();
        all.push(expected("llama", "plain"));
        let each = all[0].tokens.len().div_ceil(BLOCK);
        let mut cache = model.cache(each * all.len(), KvDtype::F32).unwrap();
        let mut found: Vec<Vec<Vec<f32>>> = vec![Vec::new(); all.len()];
        let selection = RowSelection {
            logits: true,
            ..Default::default()
        };
        // The prompts at once, then one token of each in a step.
        let mut start = 0;
        while start < all[0].tokens.len() {
            let end = if start == 0 { all[0].prompt } else { start + 1 };
            let chunks = all.iter().enumerate().map(|(number, own)| Chunk {
                tokens: own.tokens[start..end].to_vec(),
                start,
                blocks: (number * each..(number + 1) * each)
                    .map(|b| b as u32)
                    .collect(),
                lora: (number < LLAMAS.len()).then_some(number),
                rows: (0..end - start).map(|r| (r, selection.clone())).collect(),
                ..Default::default()
            });
            let step = Step {
                chunks: chunks.collect(),
                next: None,
            };
            let mut rows = pollster::block_on(model.step(&mut cache, &step))
                .unwrap()
                .into_iter();
            for found in &mut found {
                let own = rows.by_ref().take(end - start);
                found.extend(own.map(|row| row.logits.unwrap()));
            }
            start = end;
        }
        for (found, expected) in found.iter().zip(&all) {
            let what = format!("{} on {place}, in company", expected.name);
            close(&what, found, &expected.logits, TOLERANCE);
        }
    }
}

fn engine(device: ComputeDevice) -> Engine<ModelExecutor> {
    let loaded = load_path(&base("llama"), device).unwrap();
    let executor = ModelExecutor::new(loaded.model, 1024, KvDtype::F32).unwrap();
    let config = EngineConfig {
        max_loras: 3,
        ..EngineConfig::default()
    };
    let defaults = GenerationDefaults::default();
    Engine::new(executor, loaded.text.tokenizer, defaults, config).unwrap()
}

fn greedy(tokens: &[u32], lora: Option<&str>) -> Request {
    let request = Request::new(tokens.to_vec()).with_params(GenerationParams {
        max_new_tokens: Some(8),
        do_sample: Some(false),
        ignore_eos: Some(true),
        logprobs: Some(0),
        ..Default::default()
    });
    match lora {
        Some(name) => request.with_lora(name),
        None => request,
    }
}

fn generate(engine: &mut Engine<ModelExecutor>, requests: &[Request]) -> Vec<Completion> {
    let all = pollster::block_on(engine.generate(requests)).unwrap();
    all.into_iter().map(|mut one| one.remove(0)).collect()
}

#[track_caller]
fn same(what: &str, actual: &Completion, expected: &Completion) {
    assert_eq!(actual.token_ids, expected.token_ids, "{what}");
    let (actual, expected) = (actual.logprobs.clone(), expected.logprobs.clone());
    close(what, &[actual], &[expected], 1e-4);
}

#[test]
fn adapters_come_and_go_while_the_engine_serves_and_never_share_a_cached_prefix() {
    let test = "adapters_come_and_go_while_the_engine_serves_and_never_share_a_cached_prefix";
    for (place, device) in devices(test) {
        // Two full blocks, so that a shared prefix could be found.
        let prompt: Vec<u32> = (0..70).map(|at| 3 + at * 7 % 60).collect();
        // Each alone in an engine of its own.
        let alone: Vec<Completion> = [None, Some("llama"), Some("llama-attention")]
            .into_iter()
            .map(|name| {
                let mut engine = engine(device.clone());
                if let Some(name) = name {
                    let lora = read(name, engine.executor().model().config());
                    engine.add_lora(name, lora).unwrap();
                }
                generate(&mut engine, &[greedy(&prompt, name)]).remove(0)
            })
            .collect();
        assert_ne!(alone[0].token_ids, alone[1].token_ids, "{place}");

        let mut engine = engine(device);
        let config = engine.executor().model().config().clone();
        let plain = greedy(&prompt, None);
        same(
            place,
            &generate(&mut engine, std::slice::from_ref(&plain))[0],
            &alone[0],
        );
        engine.add_lora("first", read("llama", &config)).unwrap();
        let first = greedy(&prompt, Some("first"));
        let done = generate(&mut engine, &[first.clone(), plain.clone()]);
        same(place, &done[0], &alone[1]);
        same(place, &done[1], &alone[0]);
        assert_eq!(
            done[0].stats.cached_tokens, 0,
            "{place}: nothing was run with it"
        );
        assert_eq!(done[1].stats.cached_tokens, 2 * BLOCK, "{place}");

        // Another one takes its name and its place.
        engine
            .add_lora("other", read("llama-patterns", &config))
            .unwrap();
        engine.remove_lora("first").unwrap();
        engine
            .add_lora("first", read("llama-attention", &config))
            .unwrap();
        let done = generate(&mut engine, &[first.clone(), plain, first.clone()]);
        same(place, &done[0], &alone[2]);
        same(place, &done[1], &alone[0]);
        same(place, &done[2], &alone[2]);
        let names: Vec<&str> = engine.loras().map(|(name, _)| name).collect();
        assert_eq!(names, ["other", "first"]);

        // One that is in use stays; one that is gone is not found.
        let id = engine.submit(&first).unwrap();
        let error = engine.remove_lora("first").unwrap_err();
        assert!(
            matches!(error, Error::LoraInUse { requests: 1, .. }),
            "{error}"
        );
        engine.cancel(id);
        engine.remove_lora("first").unwrap();
        let error = engine.submit(&first).unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no LoRA adapter \"first\": loaded are other"
        );
        let error = engine
            .add_lora("other", read("llama", &config))
            .unwrap_err();
        let wanted = "lora_name is \"other\"; expected a name that no other adapter has";
        assert_eq!(error.to_string(), wanted);
        for name in ["a", "b"] {
            engine.add_lora(name, read("llama", &config)).unwrap();
        }
        let error = engine.add_lora("c", read("llama", &config)).unwrap_err();
        let wanted =
            "max_loras is 3; expected at most 3 LoRA adapters at once: unload one, or allow more";
        assert_eq!(error.to_string(), wanted);
    }
}

#[test]
fn adapters_in_parts_of_small_bindings_give_the_same_logits() {
    let test = "adapters_in_parts_of_small_bindings_give_the_same_logits";
    let Some(gpu) = fireside_tests::gpu() else {
        return fireside_tests::skip(test, "no gpu adapter: install mesa-vulkan-drivers");
    };
    // Too small for the planes of two adapters.
    let device = gpu.with_max_binding(40 << 10);
    let mut model = load_path(&base("llama"), device).unwrap().model;
    let loras = LLAMAS.map(|name| read(name, model.config()));
    model.set_loras(&loras).unwrap();
    for (number, name) in LLAMAS.into_iter().enumerate() {
        let expected = expected(name, "logits");
        let sizes = [expected.prompt, 1];
        let actual = logits(&model, &expected.tokens, &sizes, KvDtype::F32, Some(number));
        close(name, &actual, &expected.logits, TOLERANCE);
    }
}

/// Why an adapter's folder is refused for a checkpoint.
fn refusal(adapter: &Path, checkpoint: &Path) -> String {
    let model = load_path(checkpoint, ComputeDevice::cpu()).unwrap().model;
    open_lora(adapter, model.config()).unwrap_err().to_string()
}

#[test]
fn an_adapter_for_another_model_is_refused_in_one_line_that_says_which() {
    let shape = refusal(&folder("llama"), &fixture("families").join("mistral"));
    assert!(
        shape.starts_with("tensor \"base_model.model.model.layers.0.self_attn.")
            && shape.contains(" of the LoRA adapter has shape [")
            && shape.ends_with("the adapter says it is for \"fireside/tiny-llama/head-dim\""),
        "{shape}"
    );
    let names = refusal(&folder("gpt2"), &base("llama"));
    assert!(
        names.starts_with("tensor \"base_model.model.transformer.h.0.")
            && names.contains(" fits nothing in this model: "),
        "{names}"
    );
    for error in [shape, names] {
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_broken_adapter_names_the_file_or_the_tensor() {
    let scratch = std::env::temp_dir().join(format!("fireside-lora-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).unwrap();
    let config = folder("llama").join("adapter_config.json");
    let missing = refusal(&scratch, &base("llama"));
    assert!(missing.contains("adapter_config.json: "), "{missing}");
    std::fs::copy(&config, scratch.join("adapter_config.json")).unwrap();
    let missing = refusal(&scratch, &base("llama"));
    assert!(missing.contains("adapter_model.safetensors"), "{missing}");
    std::fs::write(scratch.join("adapter_model.bin"), b"pickle").unwrap();
    let pickled = refusal(&scratch, &base("llama"));
    assert!(
        pickled.ends_with("save the adapter as adapter_model.safetensors"),
        "{pickled}"
    );

    // Half of a pair: the same file with the name of one tensor changed in its header.
    let whole = std::fs::read(folder("llama").join("adapter_model.safetensors")).unwrap();
    let model = load_path(&base("llama"), ComputeDevice::cpu())
        .unwrap()
        .model;
    let read = |bytes: Vec<u8>| {
        let config = std::fs::read(&config).unwrap();
        let files = [("adapter_model.safetensors".to_owned(), bytes)];
        let file = WeightFile::from_safetensors(files).unwrap();
        Lora::read(model.config(), &config, &file).map(drop)
    };
    read(whole.clone()).unwrap();
    let at = whole.windows(7).position(|own| own == b".lora_B").unwrap();
    let mut half = whole;
    half[at + 6] = b'C';
    let error = read(half).unwrap_err().to_string();
    assert!(error.contains("lora_B"), "{error}");
    let empty = b"\x02\0\0\0\0\0\0\0{}".to_vec();
    let error = read(empty).unwrap_err().to_string();
    assert!(
        error.starts_with("the LoRA adapter has no tensors"),
        "{error}"
    );
    std::fs::remove_dir_all(scratch).unwrap();
}
