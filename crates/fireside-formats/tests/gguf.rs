//! Reading GGUF headers: values, prefixes, and files of the `gguf` Python package.

use fireside_formats::gguf::{Value, ValueType};
use fireside_formats::write::{GgufWriter, MetaValue};
use fireside_formats::{DType, FormatError, Gguf, TensorSource, WeightFile};

const METADATA: &[u8] = include_bytes!("fixtures/metadata.gguf");

fn parse(file: &[u8]) -> Result<Gguf, FormatError> {
    Gguf::parse(file, file.len() as u64)
}

#[test]
fn every_value_type_of_the_reference_writer_is_read() {
    let gguf = parse(METADATA).unwrap();
    assert_eq!((gguf.version(), gguf.alignment()), (3, 64));
    assert_eq!(gguf.str("general.architecture").unwrap(), "llama");
    assert_eq!(gguf.get("u8"), Some(Value::U8(200)));
    assert_eq!(gguf.get("i8"), Some(Value::I8(-100)));
    assert_eq!(gguf.get("u16"), Some(Value::U16(60_000)));
    assert_eq!(gguf.get("i16"), Some(Value::I16(-30_000)));
    assert_eq!(gguf.get("u32"), Some(Value::U32(4_000_000_000)));
    assert_eq!(gguf.get("i32"), Some(Value::I32(-2_000_000_000)));
    assert_eq!(gguf.get("f32"), Some(Value::F32(0.1)));
    assert_eq!(gguf.get("bool"), Some(Value::Bool(true)));
    assert_eq!(gguf.str("string").unwrap(), "grüße 🔥");
    assert_eq!(gguf.get("u64"), Some(Value::U64(1 << 63)));
    assert_eq!(gguf.get("i64"), Some(Value::I64(-(1 << 62))));
    assert_eq!(gguf.get("f64"), Some(Value::F64(0.1)));
    assert_eq!(
        gguf.str_array("strings").unwrap(),
        ["", "a", "▁the", "<|im_start|>"]
    );
    assert_eq!(gguf.i32_array("ints").unwrap(), [-1, 0, 1]);
    assert_eq!(gguf.f32_array("floats").unwrap(), [0.5, -0.25]);
    assert_eq!(
        gguf.require::<Vec<bool>>("bools").unwrap(),
        [true, false, true]
    );
    let Some(Value::Array(nested)) = gguf.get("nested") else {
        panic!("no array")
    };
    let lengths: Vec<usize> = nested
        .iter()
        .map(|value| match value {
            Value::Array(inner) => inner.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lengths, [2, 1]);
}

#[test]
fn shapes_are_row_major_and_integers_are_no_weights() {
    let file = WeightFile::from_gguf("metadata.gguf", METADATA).unwrap();
    assert_eq!(file.get("matrix").unwrap().shape, [2, 3]);
    assert_eq!(
        file.read_f32("matrix").unwrap(),
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    );
    assert_eq!(file.names().collect::<Vec<_>>(), ["matrix", "ids"]);
    assert!(file.contains("ids") && !file.contains("idx"));
    assert_eq!(
        file.get("ids").unwrap_err().to_string(),
        "tensor 'ids' has type I32, which is not a weight, expected F32, F16, BF16 or a quantized type"
    );
    assert_eq!(
        file.bytes("nope").unwrap_err().to_string(),
        "tensor 'nope' is missing"
    );
    assert_eq!(file.gguf().unwrap().u32("u32").unwrap(), 4_000_000_000);
}

#[test]
fn numbers_convert_where_they_fit() {
    let gguf = parse(METADATA).unwrap();
    assert_eq!(gguf.u32("u8").unwrap(), 200);
    assert_eq!(gguf.u64("u64").unwrap(), 1 << 63);
    assert_eq!(gguf.f32("f64").unwrap(), 0.1);
    assert!(gguf.bool("bool").unwrap());
    assert_eq!(gguf.find::<u32>("absent").unwrap(), None);
    let message = |error: FormatError| error.to_string();
    assert_eq!(
        message(gguf.u32("absent").unwrap_err()),
        "metadata key 'absent' is missing"
    );
    assert_eq!(
        message(gguf.u32("i8").unwrap_err()),
        "metadata key 'i8' is the integer -100, expected an integer of 32 bits without sign"
    );
    assert_eq!(
        message(gguf.f32("u8").unwrap_err()),
        "metadata key 'u8' is the integer 200, expected a float"
    );
    assert_eq!(
        message(gguf.str("strings").unwrap_err()),
        "metadata key 'strings' is an array of 4 string, expected a UTF-8 string"
    );
    assert_eq!(
        message(gguf.find::<bool>("string").unwrap_err()),
        "metadata key 'string' is a string, expected a boolean"
    );
}

#[test]
fn strings_that_are_not_utf8_are_kept_as_bytes_and_refused_as_text() {
    let mut writer = GgufWriter::new();
    let bad = MetaValue::String(vec![0xFF, 0xFE]);
    writer.metadata("text", bad.clone()).unwrap();
    let tokens = vec![MetaValue::String(b"ok".to_vec()), bad];
    writer
        .metadata("tokens", MetaValue::Array(ValueType::String, tokens))
        .unwrap();
    let file = writer.to_bytes(&[]).unwrap();
    let gguf = parse(&file).unwrap();
    assert_eq!(gguf.get("text"), Some(Value::String(&[0xFF, 0xFE])));
    assert_eq!(
        gguf.str("text").unwrap_err().to_string(),
        "metadata key 'text' is a string that is not UTF-8, expected a UTF-8 string"
    );
    assert_eq!(
        gguf.str_array("tokens").unwrap_err().to_string(),
        "metadata key 'tokens' is an array of strings whose element 1 is not UTF-8, expected an array of UTF-8 strings"
    );
}

#[test]
fn a_prefix_that_ends_in_the_header_asks_for_more_and_any_longer_one_is_enough() {
    let size = METADATA.len() as u64;
    let mut header = 0;
    for prefix in 0..METADATA.len() {
        match Gguf::parse(&METADATA[..prefix], size) {
            Err(FormatError::NeedMoreBytes { needed, got }) => {
                assert_eq!(got, prefix as u64);
                assert!(needed > got && needed <= size);
                assert_eq!(header, 0, "a longer prefix failed");
            }
            Ok(gguf) => {
                header = prefix;
                assert_eq!(gguf.tensors().len(), 2);
            }
            Err(error) => panic!("{prefix}: {error}"),
        }
    }
    assert!(header > 0);
}

#[test]
fn a_truncated_header_is_an_error_at_every_length() {
    let header = parse(METADATA).unwrap().data_start() as usize;
    for len in 1..header - 64 {
        let error = parse(&METADATA[..len]).unwrap_err();
        assert!(
            !matches!(error, FormatError::NeedMoreBytes { .. }),
            "{len}: {error}"
        );
        assert!(!error.to_string().contains('\n'));
    }
}

#[test]
fn a_vocabulary_is_borrowed_from_the_header() {
    let tokens: Vec<String> = (0..1000).map(|i| format!("token{i}")).collect();
    let mut writer = GgufWriter::new();
    writer
        .metadata("tokenizer.ggml.tokens", tokens.clone())
        .unwrap();
    let gguf = parse(&writer.to_bytes(&[]).unwrap()).unwrap();
    assert_eq!(gguf.str_array("tokenizer.ggml.tokens").unwrap(), tokens);
}

#[test]
fn a_header_longer_than_the_first_read_is_found() {
    let mut writer = GgufWriter::new();
    writer.metadata("filler", vec![7u8; 5 << 20]).unwrap();
    writer.tensor("w", &[2], DType::F32).unwrap();
    let file = writer.to_bytes(&[&[0, 0, 128, 63, 0, 0, 0, 64]]).unwrap();
    let weights = WeightFile::from_gguf("long.gguf", file).unwrap();
    assert_eq!(weights.read_f32("w").unwrap(), [1.0, 2.0]);
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let mut writer = GgufWriter::new();
    writer.metadata("a", 1u32).unwrap();
    writer.tensor("t", &[2], DType::F32).unwrap();
    let message = |result: Result<&mut GgufWriter, FormatError>| result.unwrap_err().to_string();
    assert_eq!(
        message(writer.metadata("a", 2u32)),
        "duplicate metadata key 'a'"
    );
    assert_eq!(
        message(writer.tensor("t", &[2], DType::F32)),
        "duplicate tensor 't'"
    );
    assert_eq!(
        message(writer.version(1)),
        "GGUF version 1 cannot be read, expected 2 or 3"
    );
    assert_eq!(
        message(writer.metadata("general.alignment", 64u32)),
        "metadata key 'general.alignment' cannot be written to GGUF: the alignment must come before the tensors"
    );
    assert_eq!(
        message(writer.tensor("b", &[2], DType::Bool)),
        "tensor 'b' cannot be written to GGUF: GGUF has no type BOOL"
    );
    assert_eq!(
        message(writer.tensor("q", &[2, 33], DType::Q8_0)),
        "tensor 'q' has rows of 33 elements, not a multiple of the 32 of a Q8_0 block"
    );
    let mixed = MetaValue::Array(ValueType::U8, vec![MetaValue::I8(1)]);
    assert_eq!(
        message(writer.metadata("mixed", mixed)),
        "metadata key 'mixed' cannot be written to GGUF: its array has elements of different types"
    );
    assert_eq!(
        writer.to_bytes(&[&[0; 7]]).unwrap_err().to_string(),
        "tensor 't' cannot be written to GGUF: takes 8 bytes, got 7"
    );
    assert_eq!(
        writer.to_bytes(&[]).unwrap_err().to_string(),
        "tensor 't' cannot be written to GGUF: its data is missing"
    );
}
