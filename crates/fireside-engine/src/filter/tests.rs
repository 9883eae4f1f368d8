//! The filters against transformers' own, over kept fixtures.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Row {
    logits: Vec<f32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    params: Params,
    kept: Vec<u32>,
}

#[derive(Deserialize)]
struct Params {
    temperature: f32,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
}

fn log_sum_exp(logits: &[f32], inverse_temperature: f32) -> f32 {
    let top = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|l| f64::from((l - top) * inverse_temperature).exp())
        .sum();
    top * inverse_temperature + sum.ln() as f32
}

#[test]
fn the_same_tokens_pass_as_in_transformers() {
    let rows: Vec<Row> =
        serde_json::from_str(include_str!("../../tests/fixtures/filters.json")).unwrap();
    let mut cases = 0;
    for Row {
        logits,
        cases: list,
    } in &rows
    {
        for Case { params, kept } in list {
            let filters = Filters {
                top_k: params.top_k.unwrap_or(0),
                top_p: params.top_p.unwrap_or(1.0),
                min_p: params.min_p.unwrap_or(0.0),
                typical_p: params.typical_p.unwrap_or(1.0),
            };
            let inverse_temperature = 1.0 / params.temperature;
            let ranking = Ranking {
                candidates: &rank(logits, usize::MAX),
                complete: true,
                inverse_temperature,
                log_sum_exp: log_sum_exp(logits, inverse_temperature),
            };
            let mut ids: Vec<u32> = filters
                .keep(&ranking)
                .unwrap()
                .iter()
                .map(|candidate| candidate.0)
                .collect();
            ids.sort_unstable();
            assert_eq!(ids, *kept, "{filters:?} over {} logits", logits.len());
            cases += 1;
        }
    }
    assert!(cases > 100);
}

#[test]
fn equal_logits_are_ranked_by_id_and_top_k_keeps_just_so_many() {
    let logits = [1.0, 2.0, 2.0, 2.0, 0.0];
    let candidates = rank(&logits, 2);
    assert_eq!(candidates, [(1, 2.0), (2, 2.0)]);
    let filters = Filters {
        top_k: 2,
        top_p: 1.0,
        min_p: 0.0,
        typical_p: 1.0,
    };
    let ranking = Ranking {
        candidates: &candidates,
        complete: false,
        inverse_temperature: 1.0,
        log_sum_exp: log_sum_exp(&logits, 1.0),
    };
    assert_eq!(filters.keep(&ranking).unwrap().len(), 2);
}

#[test]
fn what_is_not_a_number_or_excluded_is_not_ranked() {
    assert_eq!(
        rank(&[f32::NAN, 1.0, f32::MIN, -f32::INFINITY, 3.0], 9),
        [(4, 3.0), (1, 1.0)]
    );
}

#[test]
fn candidates_that_do_not_reach_the_wanted_probability_prove_nothing() {
    let logits = vec![0.0; 1000];
    let candidates = rank(&logits, 64);
    let ranking = Ranking {
        candidates: &candidates,
        complete: false,
        inverse_temperature: 1.0,
        log_sum_exp: log_sum_exp(&logits, 1.0),
    };
    let none = Filters {
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        typical_p: 1.0,
    };
    assert_eq!(Filters { top_p: 0.5, ..none }.keep(&ranking), None);
    assert_eq!(Filters { min_p: 0.5, ..none }.keep(&ranking), None);
    assert_eq!(
        Filters {
            typical_p: 0.5,
            ..none
        }
        .keep(&ranking),
        None
    );
    assert_eq!(Filters { top_k: 65, ..none }.keep(&ranking), None);
    assert_eq!(
        Filters {
            top_k: 65,
            top_p: 0.01,
            ..none
        }
        .keep(&ranking),
        None
    );
    assert_eq!(
        Filters {
            top_p: 0.0495,
            ..none
        }
        .keep(&ranking)
        .unwrap()
        .len(),
        50
    );
}
