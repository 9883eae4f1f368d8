//! The rotary embedding, its norms and the cache write, and attention, against their twins.

use fireside_kernels::device::ComputeDevice;
use fireside_kernels::layout::padded;
use fireside_kernels::ops;
use fireside_kernels::params::{AttentionParams, BLOCK, HeadNorm, KvDtype, RopeParams};
use fireside_kernels::twin;

use crate::common::{Numbers, close, on_each_profile};
use crate::{FUNCTION_TOLERANCE, activations, floats, matrix, words};

/// How queries and keys are normed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Normed {
    #[default]
    No,
    Each,
    Whole,
}

/// What attention does besides.
#[derive(Debug, Clone, Copy, Default)]
struct Switches {
    window: usize,
    norm: Normed,
    cap: Option<f32>,
    /// A query sees all of its sequence.
    whole: bool,
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
    switches: Switches,
) {
    let [heads, kv_heads, head_dim] = heads;
    let Switches {
        window,
        norm,
        cap,
        whole,
    } = switches;
    let normed = norm != Normed::No;
    let name = format!(
        "{heads}/{kv_heads} heads of {head_dim}, {sequences:?}, {kv:?}, {switches:?}, {:?}",
        device.profile()
    );
    let numbers = &mut Numbers::new((heads * head_dim) as u64);
    let rotary = head_dim / 4 * 2;
    let tile_tokens = if sequences.iter().any(|(_, n)| *n > 1) {
        let profile = device.profile();
        profile.attention_tokens(heads / kv_heads, head_dim)
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
    let ends_at = tiles_at + tiles * 4;
    let mut table_at = ends_at + tiles;
    let mut first = 0;
    let mut ends = Vec::new();
    for ((cached, new), table) in sequences.iter().zip(&tables) {
        for offset in (0..*new).step_by(tile_tokens) {
            let count = tile_tokens.min(new - offset);
            step.extend([first + offset, count, table_at, cached + offset].map(|n| n as u32));
            ends.push((cached + new) as u32);
        }
        first += new;
        table_at += table.len();
    }
    step.extend(ends);
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
    // What lies past the ends is no number, and must not come into any result.
    for ((cached, new), table) in sequences.iter().zip(&tables) {
        for position in cached + new..table.len() * BLOCK {
            let slot = table[position / BLOCK] as usize * BLOCK + position % BLOCK;
            for (head, dim) in (0..kv_heads).flat_map(|h| (0..head_dim).map(move |d| (h, d))) {
                for (key, cache) in [(true, &mut keys), (false, &mut values)] {
                    let at = twin::kv_index(key, slot, head, kv_heads, head_dim, dim);
                    match kv {
                        KvDtype::F32 => cache[at] = f32::NAN.to_bits(),
                        KvDtype::F16 => cache[at / 2] |= 0x7e00 << (16 * (at % 2)),
                    }
                }
            }
        }
    }
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
            whole: norm == Normed::Whole,
        }),
        kv,
        profile: device.profile(),
    };
    let gains = match norm {
        Normed::No => None,
        Normed::Each => Some(numbers.floats(2 * head_dim)),
        Normed::Whole => Some(numbers.floats((heads + kv_heads) * head_dim)),
    };
    let attention = AttentionParams {
        heads,
        kv_heads,
        head_dim,
        scale: 1.0 / (head_dim as f32).sqrt(),
        window,
        cap,
        tiles,
        tiles_at,
        tile_tokens,
        ends_at: whole.then_some(ends_at),
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
    let known = |value: f32| if value.is_nan() { 0.0 } else { value };
    let same = |what: &str, actual: Vec<u32>, expected: &[u32]| match kv {
        KvDtype::F32 => {
            let float = |w: &[u32]| {
                let floats = w.iter().map(|b| f32::from_bits(*b));
                floats.map(known).collect::<Vec<_>>()
            };
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
                    .map(|h| known(half::f16::from_bits(h).to_f32()))
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
            [4, 1, 256],
        ];
        let plain = Switches::default();
        for heads in shapes {
            for kv in [KvDtype::F32, KvDtype::F16] {
                for norm in [Normed::No, Normed::Each, Normed::Whole] {
                    check_attention(device, *heads, &[(0, 1)], kv, Switches { norm, ..plain });
                }
                check_attention(device, *heads, &[(33, 1), (0, 1), (64, 1)], kv, plain);
            }
            for norm in [Normed::Each, Normed::Whole] {
                let switches = Switches { norm, ..plain };
                check_attention(device, *heads, &[(0, 37)], KvDtype::F16, switches);
            }
            let sequences = &[(31, 5), (100, 1), (0, 3)];
            check_attention(device, *heads, sequences, KvDtype::F16, plain);
        }
    });
}

#[test]
fn attention_over_whole_sequences_equals_its_twin() {
    let test = "attention_over_whole_sequences_equals_its_twin";
    on_each_profile(test, |device| {
        let whole = Switches {
            whole: true,
            ..Default::default()
        };
        let sequences: [Sequences; 3] =
            [&[(0, 1)], &[(0, 37), (0, 1), (0, 64), (0, 5)], &[(0, 97)]];
        for (heads, kv) in [
            ([12, 12, 32], KvDtype::F32),
            ([3, 3, 12], KvDtype::F16),
            ([8, 1, 16], KvDtype::F32),
        ] {
            for sequences in sequences {
                check_attention(device, heads, sequences, kv, whole);
            }
        }
    });
}

#[test]
fn windows_and_capped_scores_equal_their_twins() {
    let test = "windows_and_capped_scores_equal_their_twins";
    on_each_profile(test, |device| {
        for window in [0, 1, 5, 32, 40] {
            for cap in [None, Some(0.7), Some(50.0)] {
                let switches = Switches {
                    window,
                    cap,
                    ..Default::default()
                };
                let sequences = &[(70, 9), (3, 1)];
                for heads in [[4, 2, 32], [2, 1, 12], [3, 3, 80]] {
                    check_attention(device, heads, sequences, KvDtype::F16, switches);
                }
            }
        }
    });
}
