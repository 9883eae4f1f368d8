//! The router and the products with chosen experts against their twins.

use burn::tensor::{Int, Tensor};
use fireside_kernels::device::ComputeDevice;
use fireside_kernels::layout::{Layout, padded};
use fireside_kernels::ops::{self, ExpertsExtras};
use fireside_kernels::params::{Activation, ExpertsParams, MatrixShape, NO_EXPERT, RouteParams};
use fireside_kernels::twin;

use super::common::{Numbers, close, on_each_profile, planes, upload};
use super::{FUNCTION_TOLERANCE, SUM_TOLERANCE, activations, clear_row, floats, matrix, words};

fn routes_of(
    logits: &[f32],
    stride: usize,
    params: &RouteParams,
    device: &ComputeDevice,
) -> (Vec<u32>, Vec<u32>) {
    let tokens = logits.len() / stride;
    let mut expected = vec![0; tokens * 2 * params.chosen];
    twin::route(logits, stride, params, &mut expected);
    let logits = matrix(logits.to_vec(), stride, device);
    (words(ops::route(&logits, params.clone())), expected)
}

#[test]
fn routes_equal_their_twin_and_ties_go_to_the_lower_id() {
    let test = "routes_equal_their_twin_and_ties_go_to_the_lower_id";
    on_each_profile(test, |device| {
        for (experts, chosen, tokens) in [
            (1, 1, 1),
            (3, 2, 5),
            (8, 8, 1),
            (60, 4, 2),
            (128, 8, 3),
            (301, 32, 2),
        ] {
            for normalized in [false, true] {
                let numbers = &mut Numbers::new((experts * 7 + chosen) as u64);
                let mut logits = activations(tokens, experts, numbers);
                logits.iter_mut().for_each(|v| *v *= 6.0);
                // All alike in the last row: the first ones are chosen.
                let stride = padded(experts);
                logits[(tokens - 1) * stride..][..experts].fill(0.5);
                let params = RouteParams {
                    experts,
                    chosen,
                    normalized,
                    profile: device.profile(),
                };
                let (actual, expected) = routes_of(&logits, stride, &params, device);
                let ids = |all: &[u32]| all.iter().step_by(2).copied().collect::<Vec<_>>();
                let name = format!("{chosen} of {experts}, normalized {normalized}");
                assert_eq!(ids(&actual), ids(&expected), "{name}");
                let last = &actual[(tokens - 1) * 2 * chosen..];
                assert_eq!(ids(last), (0..chosen as u32).collect::<Vec<_>>(), "{name}");
                let weights = |all: &[u32]| -> Vec<f32> {
                    let odd = all.iter().skip(1).step_by(2);
                    odd.map(|bits| f32::from_bits(*bits)).collect()
                };
                let (actual, expected) = (weights(&actual), weights(&expected));
                close(&name, &actual, &expected, FUNCTION_TOLERANCE);
            }
        }
    });
}

#[test]
fn broken_logits_still_choose_experts_that_there_are() {
    let test = "broken_logits_still_choose_experts_that_there_are";
    on_each_profile(test, |device| {
        let mut logits = vec![0.25; 64];
        logits[..32].fill(f32::NAN);
        logits[33] = f32::NAN;
        logits[36] = f32::NEG_INFINITY;
        let params = RouteParams {
            experts: 7,
            chosen: 4,
            normalized: true,
            profile: device.profile(),
        };
        let (actual, _) = routes_of(&logits, 32, &params, device);
        for routes in actual.chunks(8) {
            let mut ids: Vec<u32> = routes.iter().step_by(2).copied().collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), 4, "{routes:?}");
            assert!(ids.iter().all(|id| *id < 7), "{routes:?}");
        }
    });
}

/// Made-up routes of tokens to experts, with an expert that none takes where there are several.
fn made_up(tokens: usize, experts: usize, chosen: usize, numbers: &mut Numbers) -> Vec<u32> {
    let used = experts.saturating_sub(1).max(chosen);
    let mut routes = Vec::new();
    for _ in 0..tokens {
        let first = numbers.bits() as usize;
        for slot in 0..chosen {
            routes.push(((first + slot) % used) as u32);
            routes.push((0.1 + numbers.float().abs()).to_bits());
        }
    }
    routes
}

/// Products with experts in planes of these counts, one call for each.
fn check_experts(
    device: &ComputeDevice,
    layout: Layout,
    [rows, columns, tokens, chosen]: [usize; 4],
    held: &[usize],
    gated: Option<Activation>,
    norm: bool,
) {
    let name = format!(
        "{layout:?} {rows}x{columns}, {tokens} tokens, {chosen} of {held:?}, gate {gated:?}, norm {norm}, {:?}",
        device.profile()
    );
    let numbers = &mut Numbers::new((rows * 31 + columns * 7 + tokens) as u64);
    let experts = held.iter().sum();
    let expert_rows = padded(rows);
    let routes = made_up(tokens, experts, chosen, numbers);
    let halves = if gated.is_some() { 2 } else { 1 };
    let (x_rows, results) = match gated {
        Some(_) => (tokens, tokens * chosen),
        None => (tokens * chosen, tokens),
    };
    let x = activations(x_rows, columns, numbers);
    let mut gain = numbers.floats(padded(columns));
    gain[columns..].fill(0.0);
    let residual = gated.is_none().then(|| activations(results, rows, numbers));

    let on_device = matrix(x.clone(), padded(columns), device);
    let routed: Tensor<2, Int> = device
        .words(routes.clone())
        .unwrap()
        .reshape([tokens, 2 * chosen]);
    let gains = device.floats(gain.clone()).unwrap();
    let mut expected = vec![0.0; results * expert_rows];
    let mut before = residual.clone();
    let mut actual = residual.map(|r| matrix(r, expert_rows, device));
    let mut first = 0;
    for count in held {
        let mut packed = planes(layout, halves * count * expert_rows, columns, numbers);
        for row in 0..halves * count * expert_rows {
            if row % expert_rows >= rows {
                clear_row(&mut packed, row);
            }
        }
        let params = ExpertsParams {
            matrix: MatrixShape {
                layout,
                rows: packed.rows,
                columns,
            },
            held: (first, *count),
            expert_rows,
            chosen,
            routes_at: 0,
            y_stride: expert_rows,
            glu: gated.map(|function| (count * expert_rows, function)),
            norm: norm.then_some((columns, 1e-5)),
            profile: device.profile(),
        };
        twin::experts(
            &packed.view(),
            &x,
            &routes,
            norm.then_some(&gain[..]),
            before.as_deref(),
            &params,
            &mut expected,
        );
        before = before.map(|_| expected.clone());
        let extras = ExpertsExtras {
            gain: norm.then_some(&gains),
            residual: actual.as_ref().filter(|_| gated.is_none()),
        };
        let out = actual.clone().filter(|_| gated.is_some());
        let planes = upload(&packed, device);
        actual = Some(ops::experts(
            &on_device, &planes, &routed, extras, out, params,
        ));
        first += count;
    }
    close(&name, &floats(actual.unwrap()), &expected, SUM_TOLERANCE);
}

#[test]
fn products_with_chosen_experts_equal_their_twin_over_shapes_and_layouts() {
    let test = "products_with_chosen_experts_equal_their_twin_over_shapes_and_layouts";
    on_each_profile(test, |device| {
        for layout in Layout::ALL {
            // A product with a gate and one without are shaders of their own, which take longer to compile
            // than to run.
            for (shape, gated) in [
                ([1, 1, 1, 1], None),
                ([33, 70, 1, 2], Some(Activation::Silu)),
                ([100, 576, 3, 1], None),
                ([192, 65, 19, 2], Some(Activation::Silu)),
            ] {
                check_experts(device, layout, shape, &[5], gated, false);
            }
        }
    });
}

#[test]
fn experts_in_parts_and_after_a_norm_equal_their_twin() {
    let test = "experts_in_parts_and_after_a_norm_equal_their_twin";
    on_each_profile(test, |device| {
        for layout in [Layout::Q4, Layout::Q8Group, Layout::BF16] {
            for (tokens, gate, norm) in [
                (1, Some(Activation::GeluTanh), true),
                (4, Some(Activation::GeluTanh), true),
                (9, Some(Activation::GeluTanh), false),
                (9, None, false),
            ] {
                let shape = [67, 101, tokens, 3];
                for held in [&[7][..], &[3, 1, 4]] {
                    check_experts(device, layout, shape, held, gate, norm);
                }
            }
        }
    });
}

#[test]
fn products_follow_routes_among_other_words_and_skip_those_to_no_expert() {
    let test = "products_follow_routes_among_other_words_and_skip_those_to_no_expert";
    on_each_profile(test, |device| {
        let numbers = &mut Numbers::new(5);
        let packed = planes(Layout::F32, 3 * 64, 48, numbers);
        let x = activations(5, 48, numbers);
        let chosen = [1, NO_EXPERT, 0, 2, NO_EXPERT];
        let routes: Vec<u32> = chosen.iter().flat_map(|expert| [*expert, 0]).collect();
        let words = [&[7; 6][..], &routes, &[9; 5]].concat();
        let words = device.words(words).unwrap();
        let params = |routes_at| ExpertsParams {
            matrix: MatrixShape {
                layout: Layout::F32,
                rows: packed.rows,
                columns: 48,
            },
            held: (0, 3),
            expert_rows: 64,
            chosen: 1,
            routes_at,
            y_stride: 64,
            glu: None,
            norm: None,
            profile: device.profile(),
        };
        for residual in [None, Some(activations(5, 64, numbers))] {
            let mut expected = vec![0.0; 5 * 64];
            let (view, before) = (packed.view(), residual.as_deref());
            twin::experts(&view, &x, &routes, None, before, &params(0), &mut expected);
            let none = &expected[64..128];
            assert_eq!(none, before.map_or(&[0.0; 64][..], |own| &own[64..128]));
            let residual = residual.map(|own| matrix(own, 64, device));
            let extras = ExpertsExtras {
                gain: None,
                residual: residual.as_ref(),
            };
            let x = matrix(x.clone(), 64, device);
            let planes = upload(&packed, device);
            let actual = ops::experts(&x, &planes, &words, extras, None, params(6));
            close("routes in words", &floats(actual), &expected, SUM_TOLERANCE);
        }
    });
}

#[test]
fn the_experts_of_a_token_do_not_depend_on_its_company() {
    let test = "the_experts_of_a_token_do_not_depend_on_its_company";
    on_each_profile(test, |device| {
        let numbers = &mut Numbers::new(11);
        let packed = planes(Layout::Q4, 2 * 6 * 64, 96, numbers);
        let x = activations(40, 96, numbers);
        let routes = made_up(40, 6, 2, numbers);
        let run = |tokens: usize| {
            let params = ExpertsParams {
                matrix: MatrixShape {
                    layout: Layout::Q4,
                    rows: packed.rows,
                    columns: 96,
                },
                held: (0, 6),
                expert_rows: 64,
                chosen: 2,
                routes_at: 0,
                y_stride: 64,
                glu: Some((6 * 64, Activation::Silu)),
                norm: None,
                profile: device.profile(),
            };
            let routes = device.words(routes[..tokens * 4].to_vec()).unwrap();
            floats(ops::experts(
                &matrix(x[..tokens * 96].to_vec(), 96, device),
                &upload(&packed, device),
                &routes.reshape([tokens, 4]),
                ExpertsExtras::default(),
                None,
                params,
            ))
        };
        let (alone, all) = (run(1), run(40));
        assert_eq!(alone, all[..alone.len()], "bit for bit");
    });
}
