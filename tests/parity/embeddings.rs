//! Embedding models against transformers: hidden states and embeddings of tiny random checkpoints, and of
//! all-MiniLM-L6-v2's real file, on the CPU twins and on the adapter.

use std::path::PathBuf;

use fireside::{DeviceChoice, EmbedParams, Error, FeatureExtraction, Loading, Pipeline, Task};
use fireside_engine::{EmbedEngine, EmbedTokens, Embedder};
use fireside_model::device::ComputeDevice;
use fireside_model::path::OpenModel;
use fireside_model::{Embedding, Pooling};
use fireside_tests::{choices, fixture, minilm};
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
            assert_eq!(features.len(), expected.texts.len());
            assert_eq!(expected.states.len(), 3);
            for (own, tokens) in features.iter().zip(&expected.tokens) {
                assert_eq!(&own.token_ids, tokens, "{name}");
            }
            for (own, wanted) in features.iter().zip(&expected.states) {
                assert_eq!(own.states.len(), wanted.len());
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
fn many_texts_take_several_steps() {
    let params = EmbedParams::default();
    let folder = fixture("embeddings").join("bert-mean");
    let mut extraction = load(folder, DeviceChoice::Cpu);
    let texts = vec!["wolf"; 150];
    let all = pollster::block_on(extraction.embed(&texts, &params)).unwrap();
    assert!(all.iter().all(|one| one == &all[0]));
    assert_eq!(all.len(), 150);
}

#[test]
fn a_decoders_long_text_takes_steps_of_its_own() {
    let files = fixture("embeddings").join("qwen3-last");
    let open = OpenModel::open(&files).unwrap();
    let loaded = open.load(ComputeDevice::cpu(), &mut |_, _| {}).unwrap();
    let embedding = Embedding {
        max_tokens: None,
        pooling: Pooling::Mean,
        ..loaded.embedding.unwrap()
    };
    let ids: Vec<u32> = (0..700).map(|at| 4 + at * 7 % 100).collect();
    let (tokens, begin) = (EmbedTokens::from(ids.clone()), ids[..300].to_vec().into());
    let tokenizer = loaded.text.tokenizer;
    let mut embedder = Embedder::new(loaded.model, tokenizer, embedding, None).unwrap();
    assert!(embedder.texts().limits().step_tokens < tokens.len());
    let whole = pollster::block_on(embedder.states(&[&tokens])).unwrap();
    assert_eq!(whole[0].len(), tokens.len());
    // A token sees only those before it: the states of a beginning are those of the whole.
    let begin = pollster::block_on(embedder.states(&[&begin])).unwrap();
    for (long, short) in whole[0].iter().zip(&begin[0]) {
        assert!(largest(long, short) < 1e-4);
    }
    // The last ones, computed behind another cut.
    let last = pollster::block_on(embedder.embed(&[&tokens])).unwrap();
    let mean = fireside_model::embedding::mean(whole[0].iter().map(Vec::as_slice));
    assert!(largest(last[0].as_ref().unwrap(), &mean) < 1e-5);
}

#[test]
fn requests_share_steps_and_can_leave() {
    let folder = fixture("embeddings").join("bert-mean");
    let expected = expected(folder.join("expected.json"));
    let mut engine = EmbedEngine::new(load(folder, DeviceChoice::Cpu).into_embedder());
    let tokens: Vec<EmbedTokens> = expected.tokens.into_iter().map(Into::into).collect();
    let first = engine.submit(tokens.clone()).unwrap();
    let many = vec![tokens[0].clone(); 150];
    let second = engine.submit(many).unwrap();
    let third = engine.submit(vec![tokens[1].clone()]).unwrap();
    assert!(engine.submit(vec![EmbedTokens::default()]).is_err());
    assert_eq!(engine.waiting(), tokens.len() + 151);
    let mut ended = pollster::block_on(engine.step()).unwrap();
    assert_eq!(ended.len(), 1, "the first fits a step, the second does not");
    assert_eq!(ended[0].request, first);
    engine.cancel(second);
    while engine.has_work() {
        ended.extend(pollster::block_on(engine.step()).unwrap());
    }
    assert_eq!(ended.len(), 2);
    assert_eq!(ended[1].request, third);
    let alone = ended.remove(1).states.unwrap().remove(0);
    let among = ended.remove(0).states.unwrap().remove(1);
    assert!(largest(&alone, &among) < 1e-6);
    assert_eq!(engine.steps(), 2);
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
    let made_for = |folder: String| Loading::new(folder).made_for().unwrap();
    assert_eq!(made_for(folder("qwen3-last")), Task::FeatureExtraction);
    let llama = fixture("tiny-llama").join("tied").display().to_string();
    assert_eq!(made_for(llama), Task::TextGeneration);
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
