//! Cross-encoders against transformers: pairs of texts, their logits and scores, of tiny random checkpoints, on the CPU
//! twins and on the adapter.

use std::fs;
use std::path::{Path, PathBuf};

use fireside::{DeviceChoice, Error, Loading, RankParams, Ranked, Reranking, Task};
use fireside_model::ranking::ScoreActivation;
use fireside_tests::{choices, fixture};
use serde::Deserialize;

/// Largest difference of a logit, some units large, in f32.
const TOLERANCE: f32 = 1e-3;

const MODELS: [(&str, ScoreActivation, usize); 2] = [
    ("bert-sigmoid", ScoreActivation::Sigmoid, 96),
    ("bert-identity", ScoreActivation::Identity, 48),
];
const CUT: RankParams = RankParams {
    truncate: true,
    raw_scores: None,
};

#[derive(Deserialize)]
struct Expected {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    query: String,
    texts: Vec<String>,
    tokens: Vec<Vec<u32>>,
    types: Vec<Vec<u32>>,
    logits: Vec<f32>,
    scores: Vec<f32>,
}

fn cases(name: &str) -> Vec<Case> {
    let path = fixture("rerankers").join(name).join("expected.json");
    let expected: Expected = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    expected.cases
}

fn try_load(folder: &Path, device: DeviceChoice) -> Result<Reranking, Error> {
    let loading = Loading::new(folder.to_str().unwrap()).device(device);
    pollster::block_on(loading.reranking())
}

fn load(name: &str, device: DeviceChoice) -> Reranking {
    try_load(&fixture("rerankers").join(name), device).unwrap()
}

fn rank(reranking: &mut Reranking, case: &Case, params: RankParams) -> Vec<Ranked> {
    pollster::block_on(reranking.rank(&case.query, &case.texts, params)).unwrap()
}

/// Every text once, the best first, each with its score.
fn assert_ranked(found: &[Ranked], wanted: &[f32], what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let mut places: Vec<usize> = found.iter().map(|one| one.index).collect();
    assert!(found.is_sorted_by(|a, b| a.score >= b.score), "{what}");
    for one in found {
        let off = (one.score - wanted[one.index]).abs();
        assert!(off < TOLERANCE, "{what}, text {}: {off}", one.index);
    }
    places.sort_unstable();
    assert!(places.into_iter().eq(0..wanted.len()), "{what}");
}

#[test]
fn pairs_and_their_scores_are_those_of_transformers() {
    for device in choices("pairs_and_their_scores_are_those_of_transformers") {
        for (name, activation, most) in MODELS {
            let mut reranking = load(name, device);
            assert_eq!(reranking.texts().activation(), activation);
            assert_eq!(reranking.texts().limits().max_tokens, most);
            for case in cases(name) {
                let what = format!("{name}, {device:?}, {}", case.query);
                let texts = reranking.texts();
                let query = texts.query(&case.query, CUT).unwrap();
                for (place, text) in case.texts.iter().enumerate() {
                    let pair = texts.pair(&query, text, CUT).unwrap();
                    assert_eq!(pair.ids, case.tokens[place], "{what}, {text}");
                    assert_eq!(pair.types, case.types[place], "{what}, {text}");
                }
                assert_ranked(&rank(&mut reranking, &case, CUT), &case.scores, &what);
                let raw = RankParams {
                    raw_scores: Some(true),
                    ..CUT
                };
                assert_ranked(&rank(&mut reranking, &case, raw), &case.logits, &what);
                let likely = RankParams {
                    raw_scores: Some(false),
                    ..CUT
                };
                let sigmoid = |logit: &f32| 1.0 / (1.0 + (-logit).exp());
                let wanted: Vec<f32> = case.logits.iter().map(sigmoid).collect();
                assert_ranked(&rank(&mut reranking, &case, likely), &wanted, &what);
            }
        }
    }
}

#[test]
fn many_texts_are_ranked_in_groups_and_in_the_order_of_their_logits() {
    let mut reranking = load("bert-sigmoid", DeviceChoice::Cpu);
    let texts: Vec<&str> = (0..300)
        .map(|at| {
            if at == 290 {
                "stone"
            } else {
                "the wolf sleeps"
            }
        })
        .collect();
    let ranked = pollster::block_on(reranking.rank("cold wolf", &texts, CUT)).unwrap();
    assert_eq!(ranked[0].index, 290);
    let others = ranked[1..].iter().map(|one| one.index);
    assert!(others.eq((0..300).filter(|at| *at != 290)));
    // Logits so large that their probabilities are the same have their order still.
    let ranked = reranking.texts().ranked(&[30.0, 50.0, 40.0], CUT);
    let places: Vec<usize> = ranked.iter().map(|one| one.index).collect();
    assert_eq!(places, [1, 2, 0]);
    assert!(ranked.iter().all(|one| one.score == 1.0));
    let none: [&str; 0] = [];
    let ranked = pollster::block_on(reranking.rank("cold wolf", &none, CUT)).unwrap();
    assert!(ranked.is_empty());
}

#[test]
fn what_is_too_long_is_refused_unless_it_is_to_be_cut() {
    let mut reranking = load("bert-identity", DeviceChoice::Cpu);
    let long = "fire ".repeat(100);
    let plain = RankParams::default();
    let mut refuses = |query: &str, text: &str| {
        let ranked = pollster::block_on(reranking.rank(query, &[text], plain));
        ranked.unwrap_err().to_string()
    };
    assert_eq!(
        refuses("wolf", &long),
        "prompt of 104 tokens exceeds the context of 48 tokens"
    );
    assert_eq!(
        refuses(&long, "wolf"),
        "prompt of 103 tokens exceeds the context of 48 tokens"
    );
    // A query of a megabyte is cut before anything is joined with it.
    let huge = "fire ".repeat(200_000);
    let ranked = pollster::block_on(reranking.rank(&huge, &["wolf", &huge], CUT)).unwrap();
    assert_eq!(ranked.len(), 2);
}

#[test]
fn a_model_for_another_task_says_so() {
    let folder = |name: &str| fixture(name).display().to_string();
    let loading = |name: &str| Loading::new(folder(name)).device(DeviceChoice::Cpu);
    assert_eq!(
        loading("rerankers/bert-sigmoid").made_for().unwrap(),
        Task::Reranking
    );
    let load = |name: &str, task| {
        let loaded = pollster::block_on(loading(name).task(task).load());
        loaded.map(|own| own.task()).unwrap_err().to_string()
    };
    for (name, task, message) in [
        (
            "rerankers/bert-sigmoid",
            Task::TextGeneration,
            "makes scores of texts; the task text-generation needs a model that makes text",
        ),
        (
            "rerankers/bert-sigmoid",
            Task::FeatureExtraction,
            "makes scores of texts; the task feature-extraction needs a model that makes embeddings",
        ),
        (
            "embeddings/bert-mean",
            Task::Reranking,
            "makes embeddings; the task text-ranking needs a model that makes scores of texts",
        ),
        (
            "tiny-llama/tied",
            Task::Reranking,
            "makes text; the task text-ranking needs a model that makes scores of texts",
        ),
    ] {
        let error = load(name, task);
        assert!(error.ends_with(message), "{name}: {error}");
    }
}

/// A copy of a checkpoint in which some text of a file, where it first comes, has another one in its place.
fn altered(name: &str, file: &str, [old, new]: [&str; 2]) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("fireside-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let source = fixture("rerankers/bert-sigmoid");
    for own in ["config.json", "tokenizer.json", "model.safetensors"] {
        let mut bytes = fs::read(source.join(own)).unwrap();
        if own == file {
            let mut windows = bytes.windows(old.len());
            let place = windows.position(|w| w == old.as_bytes()).unwrap();
            bytes.splice(place..place + old.len(), new.bytes());
        }
        fs::write(folder.join(own), bytes).unwrap();
    }
    folder
}

#[test]
fn a_checkpoint_that_cannot_score_is_refused_by_name() {
    let types = ["\"type_vocab_size\": 2", "\"type_vocab_size\": 1"];
    let first = r#"{ "Sequence": { "id": "A", "type_id": 0 } },"#;
    let twice = format!("\"pair\": [{first}");
    for (name, file, change, message) in [
        (
            "types",
            "config.json",
            types,
            "type_vocab_size is 1, it must be above the token types of a pair in tokenizer.json",
        ),
        (
            "twice",
            "tokenizer.json",
            ["\"pair\": [", &twice],
            "does not have each text of a pair once",
        ),
        (
            "pooler",
            "model.safetensors",
            ["bert.pooler.dense.weight", "bert.pooler.dense.wrongs"],
            "pooler.dense.weight",
        ),
        (
            "classifier",
            "model.safetensors",
            ["classifier.weight", "classifier.wrongs"],
            "classifier.weight",
        ),
    ] {
        let folder = altered(name, file, change);
        let error = try_load(&folder, DeviceChoice::Cpu).unwrap_err();
        fs::remove_dir_all(&folder).unwrap();
        assert!(error.to_string().contains(message), "{error}");
    }
}
