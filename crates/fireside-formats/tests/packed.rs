//! Packed weights against values made by AutoGPTQ, AutoAWQ and PyTorch (see fixtures/make_packed.py).

use fireside_formats::{DType, FormatError, Packed, Scheme, TensorSource, WeightFile, dequantize};

const PACKED: &[u8] = include_bytes!("fixtures/packed.safetensors");

fn file() -> WeightFile<&'static [u8]> {
    WeightFile::from_safetensors([("packed.safetensors".to_owned(), PACKED)]).unwrap()
}

/// The tensors of one weight of the fixture as a checkpoint of its own, changed by `change`.
fn checkpoint(
    base: &str,
    change: impl Fn(&mut Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)>),
) -> Vec<u8> {
    let whole = safetensors::SafeTensors::deserialize(PACKED).unwrap();
    let mut own: Vec<_> = whole
        .iter()
        .filter(|(name, _)| {
            name.strip_prefix(base)
                .is_some_and(|rest| rest.starts_with('.'))
        })
        .map(|(name, view)| {
            let (shape, data) = (view.shape().to_vec(), view.data().to_vec());
            (name.to_owned(), view.dtype(), shape, data)
        })
        .collect();
    change(&mut own);
    let views = own.iter().map(|(name, dtype, shape, data)| {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap();
        (name.clone(), view)
    });
    safetensors::serialize(views, None).unwrap()
}

fn gptq(bits: usize, group: usize) -> Scheme {
    Scheme::Gptq {
        bits,
        group: Some(group),
        offset: 1,
    }
}

fn schemes() -> [(&'static str, Scheme, DType); 7] {
    let awq = Scheme::Awq { group: Some(64) };
    [
        ("gptq", gptq(4, 64), DType::Q4_F32),
        ("gptq_symmetric", gptq(4, 32), DType::Q4_0),
        ("gptq_8", gptq(8, 64), DType::Q8_0),
        ("awq", awq, DType::Q4_F32),
        ("fp8_squares", Scheme::Fp8, DType::F16),
        ("fp8_rows", Scheme::Fp8, DType::F16),
        ("fp8", Scheme::Fp8, DType::F16),
    ]
}

#[test]
fn every_scheme_gives_the_values_of_the_package_that_packs_it() {
    for (base, scheme, dtype) in schemes() {
        let bytes = checkpoint(base, |_| {});
        let own = [("own.safetensors".to_owned(), bytes)];
        let own = WeightFile::from_safetensors(own).unwrap();
        let packed = Packed::new(&own, &scheme).unwrap();
        let name = format!("{base}.weight");
        let info = packed.get(&name).unwrap();
        let expected = file().get(&format!("{base}.values")).unwrap().clone();
        assert_eq!(
            (info.dtype, &info.shape),
            (dtype, &expected.shape),
            "{base}"
        );
        let expected = file().read_f32(&expected.name).unwrap();
        let found = packed.read_f32(&name).unwrap();
        let differ = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
        assert_eq!(differ, 0, "{base}");
        assert!(found.iter().any(|value| *value < 0.0), "{base}");
        packed.release(&name);
    }
}

#[test]
fn what_is_not_packed_is_as_it_was() {
    let file = file();
    let packed = Packed::new(&file, &Scheme::Fp8).unwrap();
    assert_eq!(packed.read_f32("norm.weight").unwrap(), [1.0; 8]);
    assert!(matches!(
        packed.get("nothing"),
        Err(FormatError::MissingTensor { .. })
    ));
}

#[test]
fn packed_tensors_that_contradict_each_other_are_told_by_name() {
    type Tensors = Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)>;
    let refused = |base: &str, scheme: &Scheme, change: &dyn Fn(&mut Tensors)| {
        let bytes = checkpoint(base, change);
        let own = [("own.safetensors".to_owned(), bytes)];
        let own = WeightFile::from_safetensors(own).unwrap();
        Packed::new(&own, scheme).unwrap_err().to_string()
    };
    let drop = |part: &'static str| move |own: &mut Tensors| own.retain(|t| !t.0.ends_with(part));
    assert_eq!(
        refused("gptq", &gptq(4, 64), &drop("scales")),
        "tensor 'gptq.scales' is missing"
    );
    assert_eq!(
        refused("gptq", &gptq(4, 32), &|_| {}),
        "packed tensor 'gptq.scales' cannot be read: it has shape [3, 24]; expected [6, 24]"
    );
    assert_eq!(
        refused("gptq", &gptq(4, 64), &|own| {
            let order = own.iter_mut().find(|t| t.0.ends_with("g_idx")).unwrap();
            order.3.rotate_left(4);
        }),
        "packed tensor 'gptq.g_idx' cannot be read: its groups are not in the order of the inputs, \
         which is not supported; expected a checkpoint with desc_act false"
    );
    let eight = refused("gptq_8", &gptq(8, 64), &|own| {
        let zeros = own.iter_mut().find(|t| t.0.ends_with("qzeros")).unwrap();
        zeros.3[0] = 3;
    });
    assert!(eight.contains("other zero points than 128"), "{eight}");
    assert_eq!(
        refused("fp8", &Scheme::Fp8, &drop("weight_scale")),
        "packed tensor 'fp8.weight' cannot be read: its scales are missing: weight_scale_inv or weight_scale"
    );
    assert_eq!(
        refused("fp8_squares", &Scheme::Fp8, &|own| {
            let scale = own.iter_mut().find(|t| t.0.ends_with("inv")).unwrap();
            scale.2 = vec![3, 2];
        }),
        "packed tensor 'fp8_squares.weight_scale_inv' cannot be read: it has shape [3, 2]; expected [1], [160, 1] or [2, 3]"
    );
}

#[test]
fn floats_that_overflow_or_are_none_are_an_error_when_they_are_read() {
    for (at, byte) in [(0, 0x7F), (5, 0xFF)] {
        let bytes = checkpoint("fp8", |own| {
            let weight = own.iter_mut().find(|t| t.0.ends_with(".weight")).unwrap();
            weight.3[at] = byte;
        });
        let own = [("own.safetensors".to_owned(), bytes)];
        let own = WeightFile::from_safetensors(own).unwrap();
        let packed = Packed::new(&own, &Scheme::Fp8).unwrap();
        let error = packed.read_f32("fp8.weight").unwrap_err().to_string();
        assert!(error.contains("no 16-bit floats"), "{error}");
    }
    let mut out = [0.0; 32];
    dequantize(DType::Q4_F32, &[0; 24], &mut out).unwrap();
}
