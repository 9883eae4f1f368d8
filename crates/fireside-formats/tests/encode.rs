//! The encoders against blocks made by the `gguf` Python package (see fixtures/make_fixtures.py), and
//! how far from the values they may lie.

use fireside_formats::{DType, TensorSource, WeightFile, dequantize, quantize};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const ENCODED: &[u8] = include_bytes!("fixtures/encoded.gguf");

fn encoded(dtype: DType, values: &[f32]) -> Vec<u8> {
    let mut out = Vec::new();
    quantize(dtype, values, &mut out).unwrap();
    out
}

#[test]
fn every_encoder_gives_the_bytes_of_the_reference() {
    let file = WeightFile::from_gguf("encoded.gguf", ENCODED).unwrap();
    let values = file.read_f32("values").unwrap();
    assert!(values.len() > 10_000);
    for dtype in [DType::F16, DType::Q8_0, DType::Q4_0, DType::Q4_1] {
        let expected = file.bytes(dtype.name()).unwrap();
        let found = encoded(dtype, &values);
        let size = dtype.block_bytes();
        for (n, (found, expected)) in found.chunks(size).zip(expected.chunks(size)).enumerate() {
            assert_eq!(found, expected, "{dtype} block {n}");
        }
        assert_eq!(found.len(), expected.len());
    }
}

#[test]
fn encoding_what_was_decoded_changes_next_to_nothing() {
    let file = WeightFile::from_gguf("encoded.gguf", ENCODED).unwrap();
    let values = file.read_f32("values").unwrap();
    for dtype in [DType::F16, DType::Q8_0, DType::Q4_0, DType::Q4_1] {
        // Where a block has both ends of its grid, what it stands for is encoded to the same.
        let mut once = vec![0.0; values.len()];
        dequantize(dtype, &encoded(dtype, &values), &mut once).unwrap();
        let mut twice = vec![0.0; values.len()];
        dequantize(dtype, &encoded(dtype, &once), &mut twice).unwrap();
        for (once, twice) in once.iter().zip(&twice) {
            let near = (once - twice).abs() <= once.abs() * 2e-3 + 1e-7;
            assert!(near, "{dtype}: {once} became {twice}");
        }
    }
}

/// A block of weights of one size, as trained ones are, with an outlier at times.
fn block() -> impl Strategy<Value = Vec<f32>> {
    let values = prop::collection::vec(-1.0_f32..1.0, 32);
    (values, -16..10_i32, 0..32_usize, 1.0_f32..30.0).prop_map(|(mut values, log, at, factor)| {
        values[at] *= factor;
        let size = f32::powi(2.0, log);
        values.iter().map(|v| v * size).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        rng_seed: RngSeed::Fixed(6),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// A value lies within half a step of what its block gives, but for the rounding of the scale to
    /// 16 bits, which grows with the quant. (The largest in size of Q4_0 has no grid point opposite to
    /// it: there the step is a whole one.)
    #[test]
    fn what_is_read_back_lies_within_half_a_step(values in block()) {
        let (min, max) = values.iter().fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        let most = max.abs().max(min.abs());
        let half = |v: f32| v / 1024.0 + 1e-7;
        for (dtype, bound) in [
            (DType::F16, half(most)),
            (DType::Q8_0, most / 254.0 + half(most)),
            (DType::Q4_0, most / 8.0 + half(most)),
            (DType::Q4_1, (max - min) / 30.0 + half(max - min) + half(min.abs())),
        ] {
            let mut back = vec![0.0; 32];
            dequantize(dtype, &encoded(dtype, &values), &mut back).unwrap();
            for (value, back) in values.iter().zip(&back) {
                // A scale below the smallest 16-bit float adds its part for each of up to 127 quants.
                let bound = bound + 127.0 * 3e-8;
                prop_assert!((value - back).abs() <= bound, "{dtype}: {value} became {back}, bound {bound}");
            }
        }
    }
}
