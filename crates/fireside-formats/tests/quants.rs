//! Every decoder against values made by the `gguf` Python package (see fixtures/make_fixtures.py).

use fireside_formats::{
    DType, F16Fit, FormatError, Plane, TensorSource, WeightFile, dequantize, quant_traits,
    unpack_row,
};
use half::f16;

const QUANTS: &[u8] = include_bytes!("fixtures/quants.gguf");

fn quantized() -> impl Iterator<Item = DType> {
    DType::WEIGHTS
        .into_iter()
        .filter(|dtype| dtype.is_quantized())
}

/// The blocks of a type and the values they stand for.
fn fixture(dtype: DType) -> (Vec<u8>, Vec<f32>) {
    let file = WeightFile::from_gguf("quants.gguf", QUANTS).unwrap();
    let info = file.get(&format!("{dtype}.blocks")).unwrap();
    assert_eq!(info.dtype, dtype);
    let blocks = file.bytes(&info.name).unwrap().into_owned();
    let values = file.read_f32(&format!("{dtype}.values")).unwrap();
    assert_eq!(info.elements(), values.len());
    assert!(
        values.len() >= 512,
        "{dtype}: too few values to prove anything"
    );
    (blocks, values)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Equal bits, or both zero.
fn same_but_for_the_sign_of_zero(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| a.to_bits() == b.to_bits() || (*a == 0.0 && *b == 0.0))
}

#[test]
fn every_type_decodes_bit_for_bit_like_the_reference() {
    for dtype in DType::WEIGHTS
        .into_iter()
        .filter(|dtype| *dtype != DType::F32)
    {
        let (blocks, expected) = fixture(dtype);
        let mut out = vec![f32::NAN; expected.len()];
        dequantize(dtype, &blocks, &mut out).unwrap();
        assert_eq!(bits(&out), bits(&expected), "{dtype}");
    }
}

#[test]
fn unpacked_blocks_reproduce_the_values_with_and_without_a_fused_multiply_add() {
    for dtype in quantized() {
        let (blocks, expected) = fixture(dtype);
        let (mut plain, mut fused, mut indices) = (Vec::new(), Vec::new(), Vec::new());
        unpack_row(dtype, &blocks, |index, block| {
            indices.push(index);
            assert_eq!(
                bits(&block.values()),
                bits(&{
                    let mut out = [0.0; 32];
                    for (i, out) in out.iter_mut().enumerate() {
                        *out = block.scale[i / 16] * f32::from(block.q[i]) + block.min[i / 16];
                    }
                    out
                })
            );
            plain.extend(block.values());
            fused
                .extend((0..32).map(|i| {
                    block.scale[i / 16].mul_add(f32::from(block.q[i]), block.min[i / 16])
                }));
        })
        .unwrap();
        assert!(
            indices.iter().copied().eq(0..expected.len() / 32),
            "{dtype}"
        );
        if dtype == DType::Q4_0 {
            assert!(same_but_for_the_sign_of_zero(&plain, &expected), "{dtype}");
        } else {
            assert_eq!(bits(&plain), bits(&expected), "{dtype}");
        }
        assert_eq!(
            bits(&plain),
            bits(&fused),
            "{dtype}: a product is not exact"
        );
    }
}

#[test]
fn unpacked_blocks_keep_what_the_traits_promise() {
    for dtype in quantized() {
        let traits = quant_traits(dtype).unwrap();
        let (mut smallest, mut largest, mut all_f16) = (i8::MAX, i8::MIN, true);
        unpack_row(dtype, &fixture(dtype).0, |_, block| {
            smallest = smallest.min(block.q.into_iter().min().unwrap());
            largest = largest.max(block.q.into_iter().max().unwrap());
            let [scale, min] = [block.scale, block.min].map(|pair| pair.map(f32::to_bits));
            if traits.one_scale {
                assert_eq!((scale[0], min[0]), (scale[1], min[1]), "{dtype}");
            }
            if traits.min_is_zero {
                assert_eq!(min, [(-0.0_f32).to_bits(); 2], "{dtype}");
            }
            for value in block.scale.into_iter().chain(block.min) {
                let fits = f16::from_f32(value).to_f32().to_bits() == value.to_bits();
                all_f16 &= fits;
                if traits.f16 == F16Fit::UnlessMinOverflows && block.scale[0].abs() <= 8188.0 {
                    assert!(fits, "{dtype}: {value}");
                }
            }
        })
        .unwrap();
        assert_eq!((smallest, largest), (traits.q_min, traits.q_max), "{dtype}");
        assert_eq!(all_f16, traits.f16 == F16Fit::Always, "{dtype}");
        if traits.plane == Plane::Unsigned4 {
            assert!(
                smallest >= 0 && largest <= 15 && traits.one_scale,
                "{dtype}"
            );
        }
    }
    assert_eq!(quant_traits(DType::F16), None);
}

#[test]
fn infinite_and_nan_scales_spread_without_panicking() {
    for dtype in quantized() {
        for byte in [0x00, 0x7C, 0xFC, 0xFF] {
            let blocks = vec![byte; 3 * dtype.block_bytes()];
            let mut out = vec![0.0; 3 * dtype.block_len()];
            dequantize(dtype, &blocks, &mut out).unwrap();
            unpack_row(dtype, &blocks, |_, _| ()).unwrap();
        }
    }
}

#[test]
fn wrong_lengths_and_types_are_errors() {
    let mut out = [0.0; 32];
    let message = |result: Result<(), FormatError>| result.unwrap_err().to_string();
    assert_eq!(
        message(dequantize(DType::Q4_0, &[0; 17], &mut out)),
        "17 bytes are not a whole number of Q4_0 blocks of 18 bytes"
    );
    assert_eq!(
        message(dequantize(DType::Q4_0, &[0; 36], &mut out)),
        "Q4_0 data of 64 elements does not fill an output of 32"
    );
    assert_eq!(
        message(dequantize(DType::I32, &[0; 4], &mut out)),
        "I32 cannot be decoded to f32, expected F32, F16, BF16 or a quantized type"
    );
    assert_eq!(
        message(unpack_row(DType::F16, &[0; 4], |_, _| ())),
        "F16 has no blocks to unpack, expected a quantized type"
    );
}
