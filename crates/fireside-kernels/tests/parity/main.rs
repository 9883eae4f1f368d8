//! Every kernel against its twin: a table of awkward shapes, in each profile the adapter can run.

mod attention;
#[path = "../common/mod.rs"]
mod common;
mod experts;

use burn::tensor::{DType, Int, Tensor, TensorData};
use common::{Numbers, close, on_each_profile, planes, upload};
use fireside_kernels::check::{Product as Tested, self_test};
use fireside_kernels::device::{ComputeDevice, read_floats, read_words};
use fireside_kernels::layout::{Block, Layout, Planes, padded};
use fireside_kernels::ops::{self, LinearExtras, NormExtras};
use fireside_kernels::params::{
    Activation, AdjustParams, EmbedParams, GluParams, LinearParams, MatrixShape, NO_TARGET,
    NormParams, SELECT_SETTINGS, SelectParams,
};
use fireside_kernels::selection::Selection;
use fireside_kernels::twin;

/// Products and norms: sums of up to some thousand terms of unit size in another order.
const SUM_TOLERANCE: f32 = 2e-5;
/// Functions that adapters compute with their own precision.
const FUNCTION_TOLERANCE: f32 = 2e-5;

fn matrix(values: Vec<f32>, stride: usize, device: &ComputeDevice) -> Tensor<2> {
    let rows = values.len() / stride;
    Tensor::from_data(
        TensorData::new(values, [rows, stride]),
        (device.burn(), DType::F32),
    )
}

/// Rows of random activations with zeros in the padding.
fn activations(rows: usize, width: usize, numbers: &mut Numbers) -> Vec<f32> {
    let stride = padded(width);
    (0..rows * stride)
        .map(|i| {
            if i % stride < width {
                numbers.float()
            } else {
                0.0
            }
        })
        .collect()
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    pollster::block_on(read_floats(tensor)).unwrap()
}

fn words<const D: usize>(tensor: Tensor<D, Int>) -> Vec<u32> {
    pollster::block_on(read_words(tensor)).unwrap()
}

#[derive(Clone, Copy, Default)]
struct Product {
    norm: bool,
    glu: Option<Activation>,
    bias: bool,
    residual: bool,
    activation: Option<Activation>,
    cap: Option<f32>,
}

fn check_linear(
    device: &ComputeDevice,
    layout: Layout,
    [rows, columns, tokens]: [usize; 3],
    product: Product,
) {
    let name = format!(
        "{layout:?} {rows}x{columns}, {tokens} tokens, norm {}, gate {:?}, bias {}, residual {}, {:?}, cap {:?}, {:?}",
        product.norm,
        product.glu,
        product.bias,
        product.residual,
        product.activation,
        product.cap,
        device.profile()
    );
    let numbers = &mut Numbers::new((rows * 31 + columns * 7 + tokens) as u64);
    let half = padded(rows);
    let all = if product.glu.is_some() {
        2 * half
    } else {
        rows
    };
    let mut packed = planes(layout, all, columns, numbers);
    if product.glu.is_some() {
        // Rows between the halves' ends and their padding are zeros.
        for row in (rows..half).chain(half + rows..2 * half) {
            clear_row(&mut packed, row);
        }
    }
    let x = activations(tokens, columns, numbers);
    let mut gain = numbers.floats(padded(columns));
    gain[columns..].fill(0.0);
    let mut bias = numbers.floats(padded(rows));
    bias[rows..].fill(0.0);
    let residual = activations(tokens, rows, numbers);
    let params = LinearParams {
        matrix: MatrixShape {
            layout,
            rows: all,
            columns,
        },
        tokens,
        y_stride: padded(rows),
        row_offset: 0,
        rows_out: padded(rows),
        glu: product.glu.map(|activation| (half, activation)),
        norm: product.norm.then_some((columns, 1e-5)),
        activation: product.activation,
        cap: product.cap,
        profile: device.profile(),
    };

    let mut expected = vec![0.0; tokens * padded(rows)];
    twin::linear(
        &packed.view(),
        &x,
        product.norm.then_some(&gain[..]),
        product.bias.then_some(&bias[..]),
        product.residual.then_some(&residual[..]),
        &params,
        &mut expected,
    );
    let gain = device.floats(gain).unwrap();
    let bias = device.floats(bias).unwrap();
    let residual = matrix(residual, padded(rows), device);
    let actual = ops::linear(
        &matrix(x, padded(columns), device),
        &upload(&packed, device),
        LinearExtras {
            gain: product.norm.then_some(&gain),
            bias: product.bias.then_some(&bias),
            residual: product.residual.then_some(&residual),
        },
        None,
        params,
    );
    close(&name, &floats(actual), &expected, SUM_TOLERANCE);
}

fn clear_row(planes: &mut Planes, row: usize) {
    if planes.layout.scale_group() == 0 {
        planes.set_row(row, &vec![0.0; planes.columns]);
        return;
    }
    let zero = Block {
        quants: [0; 32],
        scale: [0.0; 2],
        minimum: [0.0; 2],
    };
    for index in 0..planes.columns.div_ceil(32) {
        planes.set_block(row, index, &zero);
    }
}

#[test]
fn a_working_adapter_passes_its_self_test() {
    on_each_profile("a_working_adapter_passes_its_self_test", |device| {
        for layout in Layout::ALL {
            let products = [(false, 1), (true, 1), (true, 32)].map(|(residual, tokens)| Tested {
                layout,
                residual,
                tokens,
            });
            pollster::block_on(self_test(device, &products)).unwrap();
        }
    });
}

#[test]
fn products_equal_their_twin_over_shapes_and_layouts() {
    on_each_profile(
        "products_equal_their_twin_over_shapes_and_layouts",
        |device| {
            for layout in Layout::ALL {
                for shape in [
                    [1, 1, 1],
                    [33, 70, 1],
                    [64, 32, 2],
                    [65, 576, 3],
                    [100, 100, 7],
                    [192, 65, 17],
                    [130, 96, 40],
                ] {
                    check_linear(device, layout, shape, Product::default());
                }
            }
        },
    );
}

#[test]
fn norm_gate_bias_and_residual_equal_their_twin() {
    on_each_profile("norm_gate_bias_and_residual_equal_their_twin", |device| {
        for layout in [Layout::Q4, Layout::Q8, Layout::Q8Group, Layout::F16] {
            for tokens in [1, 2, 4, 5, 14, 19] {
                let shape = [67, 101, tokens];
                for norm in [false, true] {
                    check_linear(
                        device,
                        layout,
                        shape,
                        Product {
                            norm,
                            residual: true,
                            bias: true,
                            ..Default::default()
                        },
                    );
                    check_linear(
                        device,
                        layout,
                        shape,
                        Product {
                            norm,
                            glu: Some(Activation::Silu),
                            ..Default::default()
                        },
                    );
                }
            }
        }
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
            check_linear(
                device,
                Layout::F32,
                [40, 33, 2],
                Product {
                    glu: Some(activation),
                    ..Default::default()
                },
            );
        }
    });
}

#[test]
fn capped_and_activated_products_equal_their_twin() {
    let test = "capped_and_activated_products_equal_their_twin";
    on_each_profile(test, |device| {
        for (activation, tokens) in [
            (Activation::Gelu, 1),
            (Activation::GeluTanh, 3),
            (Activation::Relu, 7),
            (Activation::Gelu, 20),
        ] {
            let product = Product {
                activation: Some(activation),
                bias: true,
                ..Default::default()
            };
            check_linear(device, Layout::Q4, [101, 67, tokens], product);
        }
        for layout in [Layout::Q8, Layout::Q8Group, Layout::BF16] {
            for (tokens, cap) in [(1, 0.5), (3, 30.0), (7, 2.0), (20, 4.0)] {
                let product = Product {
                    cap: Some(cap),
                    ..Default::default()
                };
                check_linear(device, layout, [101, 67, tokens], product);
            }
        }
    });
}

#[test]
fn a_vocabulary_sized_product_equals_its_twin() {
    on_each_profile("a_vocabulary_sized_product_equals_its_twin", |device| {
        check_linear(device, Layout::Q8, [49152, 64, 1], Product::default());
        check_linear(device, Layout::Q4, [50257, 32, 2], Product::default());
    });
}

#[test]
fn a_matrix_in_parts_fills_one_result() {
    on_each_profile("a_matrix_in_parts_fills_one_result", |device| {
        let numbers = &mut Numbers::new(5);
        let (columns, tokens) = (64, 3);
        let parts = [
            planes(Layout::Q4, 64, columns, numbers),
            planes(Layout::F16, 45, columns, numbers),
        ];
        let x = activations(tokens, columns, numbers);
        let y_stride = padded(64 + 45);
        let mut expected = vec![0.0; tokens * y_stride];
        let mut actual = None;
        let mut offset = 0;
        for (index, part) in parts.iter().enumerate() {
            let params = LinearParams {
                matrix: MatrixShape {
                    layout: part.layout,
                    rows: part.rows,
                    columns,
                },
                tokens,
                y_stride,
                row_offset: offset,
                rows_out: if index == 1 {
                    y_stride - offset
                } else {
                    part.rows
                },
                glu: None,
                norm: None,
                activation: None,
                cap: None,
                profile: device.profile(),
            };
            twin::linear(&part.view(), &x, None, None, None, &params, &mut expected);
            actual = Some(ops::linear(
                &matrix(x.clone(), padded(columns), device),
                &upload(part, device),
                LinearExtras::default(),
                actual,
                params,
            ));
            offset += part.rows;
        }
        close("parts", &floats(actual.unwrap()), &expected, SUM_TOLERANCE);
    });
}

#[test]
fn embedding_rows_equal_the_unpacked_table() {
    on_each_profile("embedding_rows_equal_the_unpacked_table", |device| {
        for layout in Layout::ALL {
            for (rows, columns) in [(1, 8), (70, 33), (301, 576)] {
                let numbers = &mut Numbers::new(9);
                let table = planes(layout, rows, columns, numbers);
                let step: Vec<u32> = [9, 9]
                    .into_iter()
                    .chain((0..5).map(|i| (i * 67) % rows as u32))
                    .collect();
                let params = EmbedParams {
                    table: MatrixShape {
                        layout,
                        rows,
                        columns,
                    },
                    tokens: 5,
                    tokens_at: 2,
                    first: 0,
                    scale: 1.0,
                    add: false,
                    profile: device.profile(),
                };
                let mut expected = vec![0.0; 5 * padded(columns)];
                twin::embed(&table.view(), &step, &params, &mut expected);
                let actual = ops::embed(
                    &upload(&table, device),
                    &device.words(step).unwrap(),
                    None,
                    params,
                );
                close(
                    &format!("{layout:?} {rows}x{columns}"),
                    &floats(actual),
                    &expected,
                    1e-6,
                );
            }
        }
    });
}

#[test]
fn a_table_in_shards_serves_every_token_and_is_added() {
    let test = "a_table_in_shards_serves_every_token_and_is_added";
    on_each_profile(test, |device| {
        let numbers = &mut Numbers::new(3);
        let shards = [
            planes(Layout::Q8, 64, 32, numbers),
            planes(Layout::Q8, 30, 32, numbers),
        ];
        let step = vec![63, 64, 0, 93];
        let before = activations(4, 32, numbers);
        for add in [false, true] {
            let mut expected = before.clone();
            let mut actual = add.then(|| matrix(before.clone(), 32, device));
            for (index, shard) in shards.iter().enumerate() {
                let params = EmbedParams {
                    table: MatrixShape {
                        layout: Layout::Q8,
                        rows: shard.rows,
                        columns: 32,
                    },
                    tokens: 4,
                    tokens_at: 0,
                    first: index * 64,
                    scale: 2.0,
                    add,
                    profile: device.profile(),
                };
                twin::embed(&shard.view(), &step, &params, &mut expected);
                actual = Some(ops::embed(
                    &upload(shard, device),
                    &device.words(step.clone()).unwrap(),
                    actual,
                    params,
                ));
            }
            close("shards", &floats(actual.unwrap()), &expected, 1e-6);
        }
    });
}

#[test]
fn norms_of_chosen_rows_equal_their_twin_and_are_added() {
    let test = "norms_of_chosen_rows_equal_their_twin_and_are_added";
    on_each_profile(test, |device| {
        for (width, centred, added) in [1, 31, 64, 576, 1000].into_iter().flat_map(|width| {
            [(false, false), (false, true), (true, false), (true, true)].map(|(c, a)| (width, c, a))
        }) {
            let numbers = &mut Numbers::new(width as u64);
            let stride = padded(width);
            // Far from zero, which a layer norm takes away.
            let mut x = activations(6, width, numbers);
            if centred {
                x.iter_mut().filter(|v| **v != 0.0).for_each(|v| *v += 5.0);
            }
            let mut vector = || {
                let mut all = numbers.floats(stride);
                all[width..].fill(0.0);
                all
            };
            let (gain, bias) = (vector(), centred.then(&mut vector));
            let residual = added.then(|| activations(3, width, numbers));
            let step = vec![7, 5, 0, 3];
            let params = NormParams {
                width,
                eps: 1e-6,
                rows: 3,
                rows_at: 1,
                profile: device.profile(),
            };
            let mut expected = vec![0.0; 3 * stride];
            twin::norm(
                &x,
                &gain,
                &step,
                bias.as_deref(),
                residual.as_deref(),
                &params,
                &mut expected,
            );
            let bias = bias.map(|bias| device.floats(bias).unwrap());
            let residual = residual.map(|residual| matrix(residual, stride, device));
            let actual = ops::norm(
                &matrix(x, stride, device),
                &device.floats(gain).unwrap(),
                &device.words(step).unwrap(),
                NormExtras {
                    bias: bias.as_ref(),
                    residual: residual.as_ref(),
                },
                params,
            );
            close(
                &format!("width {width}, centred {centred}, added {added}"),
                &floats(actual),
                &expected,
                FUNCTION_TOLERANCE,
            );
        }
    });
}

#[test]
fn activations_with_and_without_a_gate_equal_their_twin() {
    let test = "activations_with_and_without_a_gate_equal_their_twin";
    on_each_profile(test, |device| {
        for (width, activation) in [
            (1, Activation::Silu),
            (33, Activation::Gelu),
            (100, Activation::GeluTanh),
            (64, Activation::Relu),
        ] {
            let numbers = &mut Numbers::new(width as u64);
            let offset = padded(width);
            let x: Vec<f32> = numbers
                .floats(3 * 2 * offset)
                .into_iter()
                .map(|v| v * 8.0)
                .collect();
            for up in [Some(offset), None] {
                let params = GluParams {
                    width,
                    offset: up,
                    activation,
                    profile: device.profile(),
                };
                let mut expected = vec![0.0; 3 * offset];
                twin::glu(&x, 2 * offset, &params, &mut expected);
                let actual = ops::glu(matrix(x.clone(), 2 * offset, device), params);
                close(
                    &format!("{activation:?} {width}, up half at {up:?}"),
                    &floats(actual),
                    &expected,
                    FUNCTION_TOLERANCE,
                );
            }
        }
    });
}

fn settings(temperature: f32, noise: Option<(u64, u32)>) -> [u32; 8] {
    let (seed, draw) = noise.unwrap_or((0, 0));
    [
        (1.0 / temperature).to_bits(),
        u32::from(noise.is_some()),
        seed as u32,
        (seed >> 32) as u32,
        draw,
        NO_TARGET,
        0,
        0,
    ]
}

#[test]
fn selection_equals_its_twin() {
    on_each_profile("selection_equals_its_twin", |device| {
        for vocab in [1, 2, 31, 1000, 49152, 70001] {
            for keep in [0, 1, 64] {
                let numbers = &mut Numbers::new(vocab as u64);
                let stride = padded(vocab);
                let rows = 3;
                let mut logits: Vec<f32> = numbers
                    .floats(rows * stride)
                    .iter()
                    .map(|v| v * 10.0)
                    .collect();
                // Ties in the first row; the lower id must come first.
                if vocab > 100 {
                    for id in [3, 77, 99] {
                        logits[id] = 11.0;
                    }
                }
                let mut step = vec![1, 2, 3];
                step.extend(settings(1.0, None));
                step.extend(settings(0.7, Some((0x1234_5678_9abc, 5))));
                step.extend(settings(1.5, None));
                // Targets: of any rank, none, and the last one.
                step[3 + 5] = (vocab / 3) as u32;
                step[3 + 2 * SELECT_SETTINGS + 5] = (vocab - 1) as u32;
                let params = SelectParams {
                    vocab,
                    keep,
                    rows_at: 3,
                    profile: device.profile(),
                };
                let width = params.out_stride();
                let mut expected = vec![0; rows * width];
                twin::select(&logits, stride, &step, &params, &mut expected);
                let actual = words(ops::select(
                    &matrix(logits, stride, device),
                    &device.words(step).unwrap(),
                    params,
                ));
                for row in 0..rows {
                    let name = format!("vocabulary {vocab}, keep {keep}, row {row}");
                    let actual = Selection::from_words(&actual[row * width..][..width]);
                    let expected = Selection::from_words(&expected[row * width..][..width]);
                    assert_eq!(actual.token, expected.token, "{name}: token");
                    assert_eq!(actual.candidates, expected.candidates, "{name}: candidates");
                    close(
                        &format!("{name}: sums"),
                        &[actual.max, actual.log_sum_exp, actual.tempered_log_sum_exp],
                        &[
                            expected.max,
                            expected.log_sum_exp,
                            expected.tempered_log_sum_exp,
                        ],
                        FUNCTION_TOLERANCE,
                    );
                    assert_eq!(actual.target_logit, expected.target_logit, "{name}: target");
                    assert_eq!(actual.broken, 0);
                }
            }
        }
    });
}

#[test]
fn broken_logits_are_counted_and_never_chosen() {
    on_each_profile("broken_logits_are_counted_and_never_chosen", |device| {
        let mut logits = vec![0.5; 64];
        logits[7] = f32::NAN;
        logits[9] = f32::NEG_INFINITY;
        logits[12] = 0.75;
        let params = SelectParams {
            vocab: 64,
            keep: 8,
            rows_at: 0,
            profile: device.profile(),
        };
        let actual = words(ops::select(
            &matrix(logits, 64, device),
            &device.words(settings(1.0, None).to_vec()).unwrap(),
            params,
        ));
        let selection = Selection::from_words(&actual);
        assert_eq!(selection.broken, 1);
        assert_eq!(selection.token, 12);
        assert_eq!(selection.candidates[0], (12, 0.75));
        assert!(selection.log_sum_exp.is_finite());
    });
}

#[test]
fn adjusted_logits_equal_their_twin() {
    on_each_profile("adjusted_logits_equal_their_twin", |device| {
        let numbers = &mut Numbers::new(1);
        let mut logits = numbers.floats(2 * 128);
        let mut step = vec![0; 3];
        for (row, token, repetition, add) in [
            (0u32, 0u32, 1.3f32, 0.0f32),
            (0, 100, 1.0, -2.5),
            (1, 5, 0.5, 1.0),
        ] {
            step.extend([row, token, repetition.to_bits(), add.to_bits()]);
        }
        let params = AdjustParams {
            count: 3,
            entries_at: 3,
            profile: device.profile(),
        };
        let actual = ops::adjust_logits(
            matrix(logits.clone(), 128, device),
            &device.words(step.clone()).unwrap(),
            params.clone(),
        );
        twin::adjust_logits(&mut logits, 128, &step, &params);
        close("adjusted", &floats(actual), &logits, 1e-6);
    });
}
