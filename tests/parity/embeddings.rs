//! Embedding models against transformers: hidden states and embeddings of tiny random checkpoints, and of
//! all-MiniLM-L6-v2's real file, on the CPU twins and on the adapter.

use std::path::PathBuf;

use fireside::{DeviceChoice, EmbedParams, Error, FeatureExtraction, Loading, Pipeline, Task};
use fireside_tests::{fixture, gpu, minilm, skip};
use serde::Deserialize;

/// Largest difference of a hidden state, of size 1, in f32.
const STATE_TOLERANCE: f32 = 1e-3;
/// The same of a decoder, whose keys and values are rounded to halves.
const HALF_TOLERANCE: f32 = 2e-2;

#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    tokens: Vec<Vec<u32>>,
    embeddings: Vec<Vec<f32>>,
    #[serde(default)]
    states: Vec<Vec<Vec<f32>>>,
}

fn expected(path: PathBuf) -> Expected {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The CPU, and the adapter where there is one.
fn choices(test: &str) -> Vec<DeviceChoice> {
    let mut all = vec![DeviceChoice::Cpu];
    if gpu().is_some() {
        all.push(DeviceChoice::Gpu);
    } else {
        skip(test, "no gpu adapter: install mesa-vulkan-drivers");
    }
    all
}

fn load(path: PathBuf, device: DeviceChoice) -> FeatureExtraction {
    let loading = Loading::new(path.to_str().unwrap()).device(device);
    pollster::block_on(loading.feature_extraction()).unwrap()
}

fn largest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

const TINY: [(&str, f32); 5] = [
    ("bert-mean", STATE_TOLERANCE),
    ("bert-cls", STATE_TOLERANCE),
    ("bert-bare", STATE_TOLERANCE),
    ("nomic-mean", STATE_TOLERANCE),
    ("qwen3-last", HALF_TOLERANCE),
];

#[test]
fn hidden_states_and_embeddings_are_those_of_transformers() {
    for device in choices("hidden_states_and_embeddings_are_those_of_transformers") {
        for (name, tolerance) in TINY {
            let folder = fixture("embeddings").join(name);
            let expected = expected(folder.join("expected.json"));
            let mut extraction = load(folder, device);
            let params = EmbedParams::default();
            // All texts as one batch: what stands beside a text must not matter.
            let features = extraction.features(&expected.texts, &params);
            let features = pollster::block_on(features).unwrap();
            for (own, tokens) in features.iter().zip(&expected.tokens) {
                assert_eq!(&own.token_ids, tokens, "{name}");
            }
            for (own, wanted) in features.iter().zip(&expected.states) {
                for (token, (own, wanted)) in own.states.iter().zip(wanted).enumerate() {
                    let off = largest(own, wanted);
                    assert!(off < tolerance, "{name}, {device:?}, token {token}: {off}");
                }
            }
            let embedded = pollster::block_on(extraction.embed(&expected.texts, &params)).unwrap();
            assert_eq!(embedded.len(), expected.texts.len());
            for (own, wanted) in embedded.iter().zip(&expected.embeddings) {
                let off = largest(&own.embedding, wanted);
                assert!(off < tolerance, "{name}, {device:?}: {off}");
            }
        }
    }
}

#[test]
fn an_embedding_does_not_depend_on_who_shares_its_step() {
    for device in choices("an_embedding_does_not_depend_on_who_shares_its_step") {
        let folder = fixture("embeddings").join("bert-mean");
        let expected = expected(folder.join("expected.json"));
        let mut extraction = load(folder, device);
        let params = EmbedParams::default();
        let together = pollster::block_on(extraction.embed(&expected.texts, &params)).unwrap();
        for (text, shared) in expected.texts.iter().zip(&together) {
            let alone = pollster::block_on(extraction.embed([text], &params)).unwrap();
            let off = largest(&alone[0].embedding, &shared.embedding);
            assert!(off < 1e-6, "{text}: {off}");
        }
    }
}

#[test]
fn many_texts_and_long_ones_take_several_steps() {
    let folder = fixture("embeddings").join("qwen3-last");
    let mut extraction = load(folder, DeviceChoice::Cpu);
    let params = EmbedParams::default();
    let long = "fire ".repeat(900);
    let texts: Vec<&str> = [&long[..], "snow"]
        .into_iter()
        .chain(["wolf"; 150])
        .collect();
    let refused = pollster::block_on(extraction.embed(&texts, &params)).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("901 tokens exceeds the context of 64")
    );
    let folder = fixture("embeddings").join("bert-mean");
    let mut extraction = load(folder, DeviceChoice::Cpu);
    let texts = vec!["wolf"; 150];
    let all = pollster::block_on(extraction.embed(&texts, &params)).unwrap();
    assert!(all.iter().all(|one| one == &all[0]));
    assert_eq!(all.len(), 150);
}

#[test]
fn dimensions_norms_prompts_and_cuts_are_as_asked() {
    let folder = fixture("embeddings").join("bert-mean");
    let mut extraction = load(folder, DeviceChoice::Cpu);
    let mut embed = |text: &str, params: &EmbedParams| {
        let embedded = pollster::block_on(extraction.embed([text], params));
        embedded.map(|mut all| all.remove(0))
    };
    let plain = EmbedParams::default();
    let whole = embed("the old wolf", &plain).unwrap();
    let length = |v: &[f32]| v.iter().map(|v| v * v).sum::<f32>().sqrt();
    assert!((length(&whole.embedding) - 1.0).abs() < 1e-5);

    let short = EmbedParams {
        dimensions: Some(16),
        ..plain.clone()
    };
    let short = embed("the old wolf", &short).unwrap().embedding;
    assert_eq!(short.len(), 16);
    assert!((length(&short) - 1.0).abs() < 1e-5);
    assert!((short[3] / short[0] - whole.embedding[3] / whole.embedding[0]).abs() < 1e-4);

    let raw = EmbedParams {
        normalize: Some(false),
        ..plain.clone()
    };
    assert!((length(&embed("the old wolf", &raw).unwrap().embedding) - 1.0).abs() > 1e-2);

    let query = EmbedParams {
        prompt_name: Some("query".into()),
        ..plain.clone()
    };
    let asked = embed("the old wolf", &query).unwrap();
    let written = embed("we burn the old wolf", &plain).unwrap();
    assert_eq!(asked, written);

    let long = "fire ".repeat(300);
    let error = embed(&long, &plain).unwrap_err().to_string();
    assert_eq!(
        error,
        "prompt of 302 tokens exceeds the context of 64 tokens"
    );
    let cut = EmbedParams {
        truncate: true,
        ..plain.clone()
    };
    assert_eq!(embed(&long, &cut).unwrap().tokens, 64);

    for (params, message) in [
        (
            EmbedParams {
                dimensions: Some(49),
                ..plain.clone()
            },
            "dimensions is 49; expected 1 to 48",
        ),
        (
            EmbedParams {
                prompt_name: Some("title".into()),
                ..plain.clone()
            },
            "prompt_name is \"title\"; expected one of document, query",
        ),
    ] {
        assert_eq!(embed("a", &params).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_model_for_another_task_says_so() {
    let folder = |name: &str| fixture("embeddings").join(name).display().to_string();
    let load = |task, name: &str| {
        let loading = Loading::new(folder(name))
            .task(task)
            .device(DeviceChoice::Cpu);
        pollster::block_on(loading.load())
    };
    let error = load(Task::TextGeneration, "bert-mean").unwrap_err();
    assert!(matches!(error, Error::WrongModel { .. }), "{error}");
    let mut pipeline: Pipeline = load(Task::FeatureExtraction, "bert-mean").unwrap();
    let error = pollster::block_on(pipeline.generate("a", &Default::default())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the pipeline's task is feature-extraction; this call needs one for text-generation"
    );
    assert!(Loading::new(folder("qwen3-last")).embeds().unwrap());
    let llama = fixture("tiny-llama").join("tied").display().to_string();
    assert!(!Loading::new(llama).embeds().unwrap());
}

#[test]
fn minilm_gives_the_embeddings_of_transformers() {
    let test = "minilm_gives_the_embeddings_of_transformers";
    let Some(folder) = minilm(test) else { return };
    let expected = expected(fixture("embeddings").join("minilm.json"));
    for device in choices(test) {
        let mut extraction = load(folder.clone(), device);
        let params = EmbedParams::default();
        let embedded = pollster::block_on(extraction.embed(&expected.texts, &params)).unwrap();
        for (place, (own, wanted)) in embedded.iter().zip(&expected.embeddings).enumerate() {
            assert_eq!(own.tokens, expected.tokens[place].len());
            let off = largest(&own.embedding, wanted);
            assert!(off < 1e-4, "{device:?}, {:?}: {off}", expected.texts[place]);
        }
    }
}
