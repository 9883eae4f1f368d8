//! Promises of sampling: all ways lead to the same token, and tokens are as frequent as they should.

use fireside_model::Selection;
use proptest::prelude::*;

use super::*;

const WANTED: Wanted = Wanted {
    logprobs: None,
    candidates: 64,
    logits: false,
};

const OPEN: Filters = Filters {
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
    typical_p: 1.0,
};

/// What a device gives for a row of logits.
fn device(logits: &[f32], row: &RowSelection) -> Selected {
    let inverse = 1.0 / row.temperature;
    let sound = || {
        (0u32..)
            .zip(logits.iter().copied())
            .filter(|(_, l)| *l > f32::MIN)
    };
    let max = sound().map(|(_, l)| l).fold(f32::MIN, f32::max);
    let sum: f64 = sound().map(|(_, l)| f64::from(l - max).exp()).sum();
    let tempered: f64 = sound()
        .map(|(_, l)| f64::from((l - max) * inverse).exp())
        .sum();
    let mut best = (f32::MIN, u32::MAX);
    for (id, l) in sound() {
        let key = match row.noise {
            Some((seed, draw)) => l * inverse + fireside_model::gumbel(seed, draw, id),
            None => l,
        };
        if key > best.0 {
            best = (key, id);
        }
    }
    Selected {
        selection: Selection {
            token: best.1,
            max,
            log_sum_exp: max + sum.ln() as f32,
            tempered_log_sum_exp: max * inverse + tempered.ln() as f32,
            broken: logits.iter().filter(|l| l.is_nan()).count() as u32,
            target_logit: f32::MIN,
            candidates: rank(logits, row.candidates),
        },
        logits: row.logits.then(|| logits.to_vec()),
    }
}

/// The outcome of the way that `wanted` asks for.
fn outcome(sampling: &Sampling, logits: &[f32], draw: Draw, wanted: Wanted) -> Outcome {
    let row = sampling.row(draw, wanted);
    sampling.choose(&device(logits, &row), draw, wanted, logits.len())
}

fn chosen(outcome: Outcome) -> Choice {
    match outcome {
        Outcome::Chosen(choice) => choice,
        other => panic!("{other:?}"),
    }
}

/// By definition, over the whole row and without any of the short ways.
fn by_definition(logits: &[f32], temperature: f32, filters: &Filters, draw: Draw) -> u32 {
    let row = RowSelection {
        temperature,
        ..RowSelection::default()
    };
    let all = rank(logits, logits.len());
    let ranking = Ranking {
        candidates: &all,
        complete: true,
        inverse_temperature: 1.0 / temperature,
        log_sum_exp: device(logits, &row).selection.tempered_log_sum_exp,
    };
    let mut kept = filters.keep(&ranking).unwrap().into_owned();
    kept.sort_unstable_by_key(|candidate| candidate.0);
    let key = |c: &Candidate| {
        c.1 * (1.0 / temperature) + fireside_model::gumbel(draw.seed, draw.number, c.0)
    };
    let mut best = kept[0];
    for candidate in kept {
        if key(&candidate) > key(&best) {
            best = candidate;
        }
    }
    best.0
}

fn filters() -> impl Strategy<Value = Filters> {
    let share = || prop_oneof![Just(1.0f32), 0.01f32..1.0];
    (
        prop_oneof![Just(0usize), 1usize..100],
        share(),
        prop_oneof![Just(0.0f32), 0.0f32..0.5],
        share(),
    )
        .prop_map(|(top_k, top_p, min_p, typical_p)| Filters {
            top_k,
            top_p,
            min_p,
            typical_p,
        })
}

fn logits() -> impl Strategy<Value = Vec<f32>> {
    (1usize..400, 0.1f32..8.0, any::<u64>()).prop_map(|(vocab, spread, seed)| {
        (0..vocab as u32)
            // Rounded, so that some are equal.
            .map(|id| (fireside_model::gumbel(seed, 0, id) * spread * 8.0).round() / 8.0)
            .collect()
    })
}

proptest! {
    #[test]
    fn candidates_give_the_token_of_the_whole_row_or_ask_for_it(
        logits in logits(),
        filters in filters(),
        temperature in 0.2f32..3.0,
        seed in any::<u64>(),
        number in 0u32..1000,
        candidates in 0usize..80,
    ) {
        let draw = Draw { seed, number };
        let expected = by_definition(&logits, temperature, &filters, draw);
        let sampling = Sampling::Filtered { temperature, filters };
        let wanted = Wanted { candidates, ..WANTED };
        let whole = Wanted { logits: true, ..wanted };
        prop_assert_eq!(chosen(outcome(&sampling, &logits, draw, whole)).token, expected);
        match outcome(&sampling, &logits, draw, wanted) {
            Outcome::Chosen(choice) => prop_assert_eq!(choice.token, expected),
            other => prop_assert_eq!(other, Outcome::NeedsLogits),
        }
    }

    #[test]
    fn filters_that_pass_all_give_the_devices_own_sample(
        logits in logits(),
        temperature in 0.2f32..3.0,
        seed in any::<u64>(),
    ) {
        let draw = Draw { seed, number: 3 };
        let device = Sampling::new(temperature, OPEN);
        prop_assert_eq!(device, Sampling::All { temperature });
        let host = Sampling::Filtered { temperature, filters: OPEN };
        let whole = Wanted { logits: true, ..WANTED };
        prop_assert_eq!(
            chosen(outcome(&device, &logits, draw, WANTED)).token,
            chosen(outcome(&host, &logits, draw, whole)).token
        );
    }

    #[test]
    fn asking_for_logprobs_changes_no_token_and_they_are_the_softmax(
        logits in logits(),
        filters in filters(),
        temperature in 0.0f32..3.0,
        seed in any::<u64>(),
        listed in 0usize..21,
    ) {
        let draw = Draw { seed, number: 0 };
        let sampling = Sampling::new(temperature, filters);
        let settle = |wanted: Wanted| match outcome(&sampling, &logits, draw, wanted) {
            Outcome::Chosen(choice) => choice,
            Outcome::NeedsLogits => {
                chosen(outcome(&sampling, &logits, draw, Wanted { logits: true, ..wanted }))
            }
            other => panic!("{other:?}"),
        };
        let plain = settle(WANTED);
        let choice = settle(Wanted { logprobs: Some(listed), ..WANTED });
        prop_assert_eq!(choice.token, plain.token);
        prop_assert_eq!(plain.logprob, None);
        prop_assert_eq!(choice.top.len(), listed.min(logits.len()));
        let sum: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        let softmax = |token: u32| (f64::from(logits[token as usize]) - sum.ln()) as f32;
        prop_assert!((choice.logprob.unwrap() - softmax(choice.token)).abs() < 1e-3);
        for entry in &choice.top {
            prop_assert!((entry.logprob - softmax(entry.token)).abs() < 1e-3);
        }
    }
}

#[test]
fn tokens_are_drawn_as_often_as_the_filtered_softmax_says() {
    let logits: Vec<f32> = (0..200)
        .map(|id| ((id * 37) % 200) as f32 * -0.05)
        .collect();
    for (temperature, filters) in [
        (1.0, OPEN),
        (0.8, Filters { top_k: 12, ..OPEN }),
        (0.5, Filters { top_p: 0.7, ..OPEN }),
        (1.5, Filters { min_p: 0.3, ..OPEN }),
        (
            1.0,
            Filters {
                top_k: 40,
                typical_p: 0.6,
                ..OPEN
            },
        ),
    ] {
        let sampling = Sampling::new(temperature, filters);
        let whole = Wanted {
            logits: true,
            ..WANTED
        };
        let draws = 4000u32;
        let mut counts = vec![0u32; logits.len()];
        for number in 0..draws {
            let draw = Draw { seed: 99, number };
            counts[chosen(outcome(&sampling, &logits, draw, whole)).token as usize] += 1;
        }
        let all = rank(&logits, logits.len());
        let row = RowSelection {
            temperature,
            ..RowSelection::default()
        };
        let ranking = Ranking {
            candidates: &all,
            complete: true,
            inverse_temperature: 1.0 / temperature,
            log_sum_exp: device(&logits, &row).selection.tempered_log_sum_exp,
        };
        let kept = filters.keep(&ranking).unwrap().into_owned();
        let weight = |c: &Candidate| f64::from(c.1 / temperature).exp();
        let sum: f64 = kept.iter().map(weight).sum();
        // Tokens that are drawn a few times at the most count as one: the sum is a chi-square's only where each
        // is expected some times.
        let mut cells = Vec::new();
        let mut rare = (0.0, 0u32);
        let mut drawn = 0;
        for candidate in &kept {
            let expected = f64::from(draws) * weight(candidate) / sum;
            let count = counts[candidate.0 as usize];
            drawn += count;
            if expected < 5.0 {
                rare = (rare.0 + expected, rare.1 + count);
            } else {
                cells.push((expected, count));
            }
        }
        cells.extend((rare.0 >= 5.0).then_some(rare));
        assert_eq!(drawn, draws, "a token was drawn that {filters:?} exclude");
        let off =
            |(expected, count): &(f64, u32)| (f64::from(*count) - expected).powi(2) / expected;
        let square: f64 = cells.iter().map(off).sum();
        // Chi-square has the mean n and the deviation sqrt(2 n).
        let freedom = (cells.len() - 1) as f64;
        let bound = freedom + 4.0 * (2.0 * freedom).sqrt();
        assert!(square < bound, "{filters:?}: {square} over {freedom}");
    }
}

#[test]
fn the_device_is_asked_for_no_more_than_needed() {
    let draw = Draw { seed: 5, number: 7 };
    let row = |sampling: Sampling, wanted| {
        let row = sampling.row(draw, wanted);
        (row.noise.is_some(), row.candidates, row.logits)
    };
    let sampling = |filters| Sampling::new(1.0, filters);
    assert_eq!(row(Sampling::Greedy, WANTED), (false, 0, false));
    assert_eq!(
        row(
            Sampling::Greedy,
            Wanted {
                logprobs: Some(5),
                ..WANTED
            }
        ),
        (false, 5, false)
    );
    assert_eq!(row(sampling(OPEN), WANTED), (true, 0, false));
    assert_eq!(
        row(sampling(Filters { top_k: 9, ..OPEN }), WANTED),
        (false, 9, false)
    );
    assert_eq!(
        row(sampling(Filters { top_p: 0.9, ..OPEN }), WANTED),
        (false, 64, false)
    );
    assert_eq!(
        row(sampling(Filters { top_k: 65, ..OPEN }), WANTED),
        (false, 0, true)
    );
    assert_eq!(
        row(
            sampling(Filters {
                typical_p: 0.9,
                ..OPEN
            }),
            WANTED
        ),
        (false, 0, true)
    );
    let bounded = Filters {
        typical_p: 0.9,
        top_k: 20,
        ..OPEN
    };
    assert_eq!(row(sampling(bounded), WANTED), (false, 20, false));
}

#[test]
fn a_temperature_of_zero_or_a_top_k_of_one_is_greedy() {
    assert_eq!(
        Sampling::new(0.0, Filters { top_p: 0.5, ..OPEN }),
        Sampling::Greedy
    );
    assert_eq!(
        Sampling::new(0.7, Filters { top_k: 1, ..OPEN }),
        Sampling::Greedy
    );
}

#[test]
fn a_row_without_any_token_is_told_apart_from_one_that_needs_its_logits() {
    let draw = Draw { seed: 5, number: 7 };
    let sampling = Sampling::new(1.0, Filters { top_p: 0.5, ..OPEN });
    let excluded = vec![f32::MIN; 300];
    assert_eq!(
        outcome(&sampling, &excluded, draw, WANTED),
        Outcome::NoToken
    );
    let even = vec![0.0; 300];
    assert_eq!(
        outcome(&sampling, &even, draw, WANTED),
        Outcome::NeedsLogits
    );
}
