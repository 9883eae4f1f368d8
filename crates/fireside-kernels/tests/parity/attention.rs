//! The rotary embedding, its norms and the cache write, and attention, against their twins.

use fireside_kernels::device::ComputeDevice;
use fireside_kernels::layout::padded;
use fireside_kernels::ops;
use fireside_kernels::params::{AttentionParams, BLOCK, HeadNorm, KvDtype, RopeParams};
use fireside_kernels::twin::{self, KvPlace};

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

    // Every position of every head, and whether it lies past the end of its sequence.
    let mut places = Vec::new();
    for ((cached, new), table) in sequences.iter().zip(&tables) {
        for position in 0..table.len() * BLOCK {
            let slot = table[position / BLOCK] as usize * BLOCK + position % BLOCK;
            for (head, key) in (0..kv_heads).flat_map(|h| [(h, true), (h, false)]) {
                let place = KvPlace {
                    kv,
                    key,
                    slot,
                    head,
                    kv_heads,
                    head_dim,
                };
                places.push((place, position >= cached + new));
            }
        }
    }
    let mut keys = vec![0; blocks * kv_heads * kv.head_words(head_dim)];
    let mut values = keys.clone();
    for (place, past) in &places {
        let cache = if place.key { &mut keys } else { &mut values };
        place.store(cache, &numbers.floats(head_dim));
        // What lies past the ends is no number, and must not come into any result.
        if *past {
            match place.scale_at() {
                Some(at) => cache[at] = f32::NAN.to_bits(),
                None => place.store(cache, &vec![f32::NAN; head_dim]),
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
    // Both caches as floats, past the ends zeros.
    let known = |value: f32| if value.is_nan() { 0.0 } else { value };
    let floats_of = |cache: &[u32], key: bool| -> Vec<f32> {
        let own = places.iter().filter(|(place, _)| place.key == key);
        own.flat_map(|(place, _)| {
            let scale = place.scale(cache);
            (0..head_dim).map(move |dim| known(place.load(cache, dim) * scale))
        })
        .collect()
    };
    // A product may be rounded or fused; then a half may differ in its last bit, and a byte by one.
    let stored = match kv {
        KvDtype::F32 => tolerance,
        KvDtype::F16 => 1e-3,
        KvDtype::Q8 => 1.01 / 127.0,
    };
    let same = |what: &str, key: bool, actual: &[u32], expected: &[u32]| {
        let (actual, expected) = (floats_of(actual, key), floats_of(expected, key));
        close(&format!("{name}: {what}"), &actual, &expected, stored);
        // Few are so close to the middle of two bytes.
        let other = actual
            .iter()
            .zip(&expected)
            .filter(|(a, e)| (*a - *e).abs() > 1e-3);
        let other = other.count();
        assert!(other * 100 <= actual.len(), "{name}: {other} {what} differ");
    };
    let (device_keys, device_values) = (words(device_keys), words(device_values));
    same("keys", true, &device_keys, &keys);
    same("values", false, &device_values, &values);
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
            for kv in [KvDtype::F32, KvDtype::F16, KvDtype::Q8] {
                for norm in [Normed::No, Normed::Each, Normed::Whole] {
                    check_attention(device, *heads, &[(0, 1)], kv, Switches { norm, ..plain });
                }
                check_attention(device, *heads, &[(33, 1), (0, 1), (64, 1)], kv, plain);
            }
            for norm in [Normed::Each, Normed::Whole] {
                let switches = Switches { norm, ..plain };
                for kv in [KvDtype::F16, KvDtype::Q8] {
                    check_attention(device, *heads, &[(0, 37)], kv, switches);
                }
            }
            // The second one is longer than the waves of a GPU's workgroup reach at once.
            let some: [Sequences; 2] = [&[(31, 5), (100, 1), (0, 3)], &[(600, 1), (31, 1)]];
            for sequences in some {
                for kv in [KvDtype::F16, KvDtype::Q8] {
                    check_attention(device, *heads, sequences, kv, plain);
                }
            }
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
            ([6, 2, 32], KvDtype::Q8),
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
                let some: [Sequences; 2] = [&[(70, 9), (3, 1)], &[(330, 1)]];
                for heads in [[4, 2, 32], [2, 1, 12], [3, 3, 80]] {
                    for (sequences, kv) in some.iter().zip([KvDtype::F16, KvDtype::Q8]) {
                        check_attention(device, heads, sequences, kv, switches);
                    }
                    check_attention(device, heads, some[0], KvDtype::Q8, switches);
                }
            }
        }
    });
}
