//! Every kernel against its twin: a table of awkward shapes, in each profile the adapter can run.

mod common;

use burn::tensor::{DType, Int, Tensor, TensorData};
use common::{Numbers, close, on_each_profile, planes, upload};
use fireside_kernels::device::{ComputeDevice, read_floats, read_words};
use fireside_kernels::layout::{Block, Layout, Planes, padded};
use fireside_kernels::ops::{self, LinearExtras};
use fireside_kernels::params::{
    Activation, AdjustParams, AttentionParams, BLOCK, EmbedParams, GluParams, HeadNorm, KvDtype,
    LinearParams, MatrixShape, NO_TARGET, NormParams, RopeParams, SELECT_SETTINGS, SelectParams,
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
}

fn check_linear(
    device: &ComputeDevice,
    layout: Layout,
    [rows, columns, tokens]: [usize; 3],
    product: Product,
) {
    let name = format!(
        "{layout:?} {rows}x{columns}, {tokens} tokens, norm {}, gate {:?}, bias {}, residual {}, {:?}",
        product.norm,
        product.glu,
        product.bias,
        product.residual,
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
        pollster::block_on(fireside_kernels::check::self_test(device)).unwrap();
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
fn a_table_in_shards_serves_every_token() {
    on_each_profile("a_table_in_shards_serves_every_token", |device| {
        let numbers = &mut Numbers::new(3);
        let shards = [
            planes(Layout::Q8, 64, 32, numbers),
            planes(Layout::Q8, 30, 32, numbers),
        ];
        let step = vec![63, 64, 0, 93];
        let mut expected = vec![0.0; 4 * 32];
        let mut actual = None;
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
    });
}

#[test]
fn norms_of_chosen_rows_equal_their_twin() {
    on_each_profile("norms_of_chosen_rows_equal_their_twin", |device| {
        for width in [1, 31, 64, 576, 1000] {
            let numbers = &mut Numbers::new(width as u64);
            let x = activations(6, width, numbers);
            let mut gain = numbers.floats(padded(width));
            gain[width..].fill(0.0);
            let step = vec![7, 5, 0, 3];
            let params = NormParams {
                width,
                eps: 1e-6,
                rows: 3,
                rows_at: 1,
                profile: device.profile(),
            };
            let mut expected = vec![0.0; 3 * padded(width)];
            twin::rms_norm(&x, &gain, &step, &params, &mut expected);
            let actual = ops::rms_norm(
                &matrix(x, padded(width), device),
                &device.floats(gain).unwrap(),
                &device.words(step).unwrap(),
                params,
            );
            close(
                &format!("width {width}"),
                &floats(actual),
                &expected,
                FUNCTION_TOLERANCE,
            );
        }
    });
}

#[test]
fn gated_halves_equal_their_twin() {
    on_each_profile("gated_halves_equal_their_twin", |device| {
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
            let params = GluParams {
                width,
                offset,
                activation,
                profile: device.profile(),
            };
            let mut expected = vec![0.0; 3 * offset];
            twin::glu(&x, 2 * offset, &params, &mut expected);
            let actual = ops::glu(matrix(x, 2 * offset, device), params);
            close(
                &format!("{activation:?} {width}"),
                &floats(actual),
                &expected,
                FUNCTION_TOLERANCE,
            );
        }
    });
}

/// Sequences of a step: tokens already cached, tokens of this step.
type Sequences = &'static [(usize, usize)];

/// Runs rope and attention over sequences whose blocks lie scattered in the cache, on the
/// device and on the twins, and compares queries, cache and result.
fn check_attention(
    device: &ComputeDevice,
    heads: [usize; 3],
    sequences: Sequences,
    kv: KvDtype,
    window: usize,
    normed: bool,
) {
    let [heads, kv_heads, head_dim] = heads;
    let name = format!(
        "{heads}/{kv_heads} heads of {head_dim}, {sequences:?}, {kv:?}, window {window}, normed {normed}, {:?}",
        device.profile()
    );
    let numbers = &mut Numbers::new((heads * head_dim) as u64);
    let rotary = head_dim / 4 * 2;
    let tile_tokens = if sequences.iter().any(|(_, n)| *n > 1) {
        (12 / (heads / kv_heads)).max(1)
    } else {
        1
    };
    let tokens: usize = sequences.iter().map(|(_, n)| n).sum();
    let blocks: usize = sequences.iter().map(|(c, n)| (c + n).div_ceil(BLOCK)).sum();

    // Step buffer: slots, angles, tiles, tables; block numbers count down across the cache.
    let mut next = blocks as u32;
    let tables: Vec<Vec<u32>> = sequences
        .iter()
        .map(|(c, n)| {
            (0..(c + n).div_ceil(BLOCK))
                .map(|_| {
                    next -= 1;
                    next
                })
                .collect()
        })
        .collect();
    let mut step = Vec::new();
    for ((cached, new), table) in sequences.iter().zip(&tables) {
        step.extend(
            (*cached..cached + new).map(|p| table[p / BLOCK] * BLOCK as u32 + (p % BLOCK) as u32),
        );
    }
    let angles_at = step.len();
    let angles: Vec<f32> = (0..tokens * rotary / 2)
        .map(|_| numbers.float() * 3.0)
        .collect();
    step.extend(angles.iter().map(|a| a.cos().to_bits()));
    step.extend(angles.iter().map(|a| a.sin().to_bits()));
    let tiles_at = step.len();
    let tiles: usize = sequences.iter().map(|(_, n)| n.div_ceil(tile_tokens)).sum();
    let mut table_at = tiles_at + tiles * 4;
    let mut first = 0;
    for ((cached, new), table) in sequences.iter().zip(&tables) {
        for offset in (0..*new).step_by(tile_tokens) {
            let count = tile_tokens.min(new - offset);
            step.extend([first + offset, count, table_at, cached + offset].map(|n| n as u32));
        }
        first += new;
        table_at += table.len();
    }
    step.extend(tables.iter().flatten());

    let elements = blocks * BLOCK * kv_heads * head_dim;
    let cache = |numbers: &mut Numbers| -> Vec<u32> {
        match kv {
            KvDtype::F32 => (0..elements).map(|_| numbers.float().to_bits()).collect(),
            KvDtype::F16 => (0..elements / 2)
                .map(|_| {
                    let mut half = || u32::from(half::f16::from_f32(numbers.float()).to_bits());
                    half() | half() << 16
                })
                .collect(),
        }
    };
    let (mut keys, mut values) = (cache(numbers), cache(numbers));
    let width = (heads + 2 * kv_heads) * head_dim;
    let qkv = activations(tokens, width, numbers);
    let rope = RopeParams {
        tokens,
        heads,
        kv_heads,
        head_dim,
        rotary,
        slots_at: 0,
        angles_at,
        norm: normed.then_some(HeadNorm {
            width: head_dim,
            eps: 1e-5,
        }),
        kv,
        profile: device.profile(),
    };
    let gains = normed.then(|| numbers.floats(2 * head_dim));
    let attention = AttentionParams {
        heads,
        kv_heads,
        head_dim,
        scale: 1.0 / (head_dim as f32).sqrt(),
        window,
        tiles,
        tiles_at,
        tile_tokens,
        kv,
        profile: device.profile(),
    };

    let step_tensor = device.words(step.clone()).unwrap();
    let (q, device_keys, device_values) = ops::rope_kv(
        matrix(qkv.clone(), padded(width), device),
        device.words(keys.clone()).unwrap(),
        device.words(values.clone()).unwrap(),
        &step_tensor,
        gains
            .as_ref()
            .map(|gains| device.floats(gains.clone()).unwrap())
            .as_ref(),
        rope.clone(),
    );
    let attended = ops::attention(
        q.clone(),
        &device_keys,
        &device_values,
        &step_tensor,
        attention.clone(),
    );

    let stride = padded(heads * head_dim);
    let mut expected_q = vec![0.0; tokens * stride];
    twin::rope_kv(
        &qkv,
        &mut keys,
        &mut values,
        &step,
        gains.as_deref(),
        &rope,
        &mut expected_q,
    );
    // An inverse square root differs in its last bits.
    let tolerance = if normed { 1e-5 } else { 1e-6 };
    close(&format!("{name}: q"), &floats(q), &expected_q, tolerance);
    let same = |what: &str, actual: Vec<u32>, expected: &[u32]| match kv {
        KvDtype::F32 => {
            let float = |w: &[u32]| w.iter().map(|b| f32::from_bits(*b)).collect::<Vec<_>>();
            close(
                &format!("{name}: {what}"),
                &float(&actual),
                &float(expected),
                tolerance,
            );
        }
        // A product may be rounded or fused; then a half may differ in its last bit.
        KvDtype::F16 => {
            let float = |w: &[u32]| {
                w.iter()
                    .flat_map(|b| [*b as u16, (*b >> 16) as u16])
                    .map(|h| half::f16::from_bits(h).to_f32())
                    .collect::<Vec<_>>()
            };
            close(
                &format!("{name}: {what}"),
                &float(&actual),
                &float(expected),
                1e-3,
            );
        }
    };
    let (device_keys, device_values) = (words(device_keys), words(device_values));
    same("keys", device_keys.clone(), &keys);
    same("values", device_values.clone(), &values);
    let mut expected = vec![0.0; tokens * stride];
    twin::attention(
        &expected_q,
        &device_keys,
        &device_values,
        &step,
        &attention,
        &mut expected,
    );
    close(
        &format!("{name}: attention"),
        &floats(attended),
        &expected,
        FUNCTION_TOLERANCE,
    );
}

#[test]
fn rope_and_attention_equal_their_twins() {
    on_each_profile("rope_and_attention_equal_their_twins", |device| {
        let shapes: &[[usize; 3]] = &[
            [1, 1, 8],
            [3, 3, 12],
            [9, 3, 64],
            [8, 1, 64],
            [2, 1, 80],
            [4, 2, 128],
            [1, 1, 256],
        ];
        for heads in shapes {
            for kv in [KvDtype::F32, KvDtype::F16] {
                for normed in [false, true] {
                    check_attention(device, *heads, &[(0, 1)], kv, 0, normed);
                }
                check_attention(device, *heads, &[(33, 1), (0, 1), (64, 1)], kv, 0, false);
            }
            check_attention(device, *heads, &[(0, 37)], KvDtype::F16, 0, true);
            check_attention(
                device,
                *heads,
                &[(31, 5), (100, 1), (0, 3)],
                KvDtype::F16,
                0,
                false,
            );
        }
        for window in [1, 5, 32, 40] {
            check_attention(
                device,
                [4, 2, 32],
                &[(70, 9), (3, 1)],
                KvDtype::F16,
                window,
                false,
            );
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
