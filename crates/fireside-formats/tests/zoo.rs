//! The zoo of broken files: each kind gets its one line.

mod common;

use common::{Raw, safetensors};
use fireside_formats::{DType, Gguf, WeightFile, write::GgufWriter};

/// What a reader says about these bytes; also that it says so on one line.
fn gguf(file: impl Into<Vec<u8>>) -> String {
    let error = WeightFile::from_gguf("bad.gguf", file.into())
        .unwrap_err()
        .to_string();
    let message = error.strip_prefix("bad.gguf: ").expect("the file is named");
    assert!(!message.contains('\n'), "{message}");
    message.to_owned()
}

fn st(file: Vec<u8>) -> String {
    let error = WeightFile::from_safetensors([("bad.safetensors".to_owned(), file)]).unwrap_err();
    let error = error.to_string();
    let message = error
        .strip_prefix("bad.safetensors: ")
        .expect("the file is named");
    assert!(!message.contains('\n'), "{message}");
    message.to_owned()
}

/// A GGUF file with the tensor table of `f` and 4096 bytes of data.
fn table(count: u64, f: impl Fn(Raw) -> Raw) -> String {
    gguf(f(Raw::gguf(3, count, 0)).data(4096).0)
}

/// A GGUF file with one metadata entry, whose type and value are `f`'s.
fn entry(f: impl Fn(Raw) -> Raw) -> String {
    gguf(f(Raw::gguf(3, 0, 1).string("key")).bytes(&[0; 64]).0)
}

const F32: u32 = 0;
const U64_MAX: u64 = u64::MAX;

#[test]
fn empty_short_and_foreign_files() {
    assert_eq!(gguf(*b""), "file is empty");
    assert_eq!(
        gguf(*b"GG"),
        "file is truncated: the GGUF preamble needs 24 bytes, the file has 2"
    );
    assert_eq!(
        gguf(*b"GGUF\x03\0\0\0"),
        "file is truncated: the GGUF preamble needs 24 bytes, the file has 8"
    );
    assert_eq!(
        gguf(*b"ggml and then some more of it"),
        "not a GGUF file: starts with 'ggml', expected 'GGUF'"
    );
    assert_eq!(
        gguf(*b"\x7fELF"),
        "not a GGUF file: starts with bytes 7f 45 4c 46, expected 'GGUF'"
    );
}

#[test]
fn versions_and_byte_order() {
    assert_eq!(
        gguf(Raw::gguf(1, 0, 0).0),
        "GGUF version 1 cannot be read, expected 2 or 3"
    );
    assert_eq!(
        gguf(Raw::gguf(4, 0, 0).0),
        "GGUF version 4 cannot be read, expected 2 or 3"
    );
    assert_eq!(
        gguf(Raw::gguf(3_u32.swap_bytes(), 0, 0).0),
        "GGUF file is big-endian, only little-endian files can be read"
    );
}

#[test]
fn counts_that_the_file_cannot_hold() {
    assert_eq!(
        gguf(Raw::gguf(3, U64_MAX, 0).0),
        "header claims 18446744073709551615 tensors, at most 0 fit here"
    );
    assert_eq!(
        gguf(Raw::gguf(3, 0, U64_MAX).bytes(&[0; 130]).0),
        "header claims 18446744073709551615 metadata entries, at most 10 fit here"
    );
    assert_eq!(
        gguf(Raw::gguf(3, 11, 0).bytes(&[0; 240]).0),
        "header claims 11 tensors, at most 10 fit here"
    );
}

#[test]
fn lengths_that_overflow() {
    let endless = Raw::gguf(3, 0, 1).u64(U64_MAX).bytes(&[0; 64]).0;
    assert_eq!(
        gguf(endless),
        "file is truncated: metadata key number 0 needs 18446744073709551615 bytes, the file has 96"
    );
    assert_eq!(
        entry(|raw| raw.u32(8).u64(1 << 40)),
        "file is truncated: metadata key 'key' needs 1099511627823 bytes, the file has 111"
    );
    assert_eq!(
        entry(|raw| raw.u32(9).u32(4).u64(1 << 62)),
        "metadata key 'key' claims an array of 4611686018427387904 elements, more than the file can hold"
    );
    assert_eq!(
        entry(|raw| raw.u32(9).u32(8).u64(1000)),
        "metadata key 'key' claims an array of 1000 elements, more than the file can hold"
    );
}

#[test]
fn headers_larger_than_any_model_needs() {
    let huge = |file: Raw| Gguf::parse(&file.0, 1 << 42).unwrap_err().to_string();
    assert_eq!(
        huge(Raw::gguf(3, 0, 1).u64(200 << 20)),
        "header is larger than 134217728 bytes, the most that is accepted"
    );
    assert_eq!(
        huge(Raw::gguf(3, 1 << 20, 0)),
        "header claims 1048576 tensors, at most 262144 fit here"
    );
    assert_eq!(
        huge(Raw::gguf(3, 0, 1 << 20)),
        "header claims 1048576 metadata entries, at most 65536 fit here"
    );
    assert_eq!(
        huge(Raw::gguf(3, 0, 1).u64(1 << 20)),
        "the header needs at least the first 1048608 bytes of the file, got 32"
    );
}

#[test]
fn values_that_are_no_values() {
    assert_eq!(
        entry(|raw| raw.u32(13)),
        "metadata key 'key' has unknown value type 13, expected 0 to 12"
    );
    assert_eq!(
        entry(|raw| raw.u32(9).u32(99).u64(1)),
        "metadata key 'key' has unknown value type 99, expected 0 to 12"
    );
    assert_eq!(
        entry(|raw| raw.u32(7).bytes(&[2])),
        "metadata key 'key' has a boolean of value 2, expected 0 or 1"
    );
    assert_eq!(
        entry(|raw| raw.u32(9).u32(7).u64(2).bytes(&[1, 7])),
        "metadata key 'key' has a boolean of value 7, expected 0 or 1"
    );
    let nested = |raw: Raw| (0..5).fold(raw.u32(9), |raw, _| raw.u32(9).u64(1));
    assert_eq!(
        entry(nested),
        "metadata key 'key' nests arrays deeper than 4 levels"
    );
    let key = Raw::gguf(3, 0, 1).u64(1).bytes(&[0xFF; 32]).0;
    assert_eq!(gguf(key), "metadata key number 0 is not valid UTF-8");
    let twice = Raw::gguf(3, 0, 2)
        .string("k")
        .u32(0)
        .bytes(&[1])
        .string("k")
        .u32(0)
        .bytes(&[2]);
    assert_eq!(gguf(twice.0), "duplicate metadata key 'k'");
    let split = GgufWriter::new()
        .metadata("split.count", 3u16)
        .unwrap()
        .to_bytes(&[])
        .unwrap();
    assert_eq!(
        gguf(split),
        "this is one part of a GGUF model in 3 files: give all of them, named as in NAME-00001-of-00003.gguf"
    );
}

#[test]
fn alignments_that_align_nothing() {
    let aligned = |value: u32| {
        gguf(
            Raw::gguf(3, 0, 1)
                .string("general.alignment")
                .u32(4)
                .u32(value)
                .0,
        )
    };
    assert_eq!(
        aligned(0),
        "general.alignment is 0, expected a power of two"
    );
    assert_eq!(
        aligned(48),
        "general.alignment is 48, expected a power of two"
    );
    let text = Raw::gguf(3, 0, 1)
        .string("general.alignment")
        .u32(8)
        .string("32")
        .0;
    assert_eq!(
        gguf(text),
        "metadata key 'general.alignment' is a string, expected an integer of 32 bits without sign"
    );
}

#[test]
fn dimensions_that_overflow() {
    let huge = 1 << 40;
    assert_eq!(
        table(1, |raw| raw.tensor("w", &[huge, huge], F32, 0)),
        "tensor 'w' has dimensions [1099511627776, 1099511627776], whose size overflows"
    );
    assert_eq!(
        table(1, |raw| raw.tensor("w", &[U64_MAX, 2], F32, 0)),
        "tensor 'w' has dimensions [18446744073709551615, 2], whose size overflows"
    );
    assert_eq!(
        table(1, |raw| raw.tensor("w", &[0, U64_MAX, U64_MAX], F32, 0)),
        "tensor 'w' has dimensions [0, 18446744073709551615, 18446744073709551615], whose size overflows"
    );
    assert_eq!(
        table(1, |raw| raw.tensor("w", &[1, 1, 1, 1, 1], F32, 0)),
        "tensor 'w' has 5 dimensions, at most 4 are accepted"
    );
    assert_eq!(
        table(1, |raw| raw.tensor("w", &[48, 2], 2, 0)),
        "tensor 'w' has rows of 48 elements, not a multiple of the 32 of a Q4_0 block"
    );
    assert_eq!(
        table(1, |raw| raw.tensor("w", &[128], 14, 0)),
        "tensor 'w' has rows of 128 elements, not a multiple of the 256 of a Q6_K block"
    );
}

#[test]
fn offsets_outside_the_file_unaligned_or_overlapping() {
    assert_eq!(
        table(1, |raw| raw.tensor("w", &[1024], F32, 32)),
        "tensor 'w' lies outside the file: needs bytes up to 4192, the file has 4160"
    );
    assert_eq!(
        table(1, |raw| raw.tensor("w", &[1], F32, U64_MAX - 31)),
        "tensor 'w' lies outside the file: needs bytes up to 18446744073709551615, the file has 4160"
    );
    assert_eq!(
        table(1, |raw| raw.tensor("w", &[4], F32, 16)),
        "tensor 'w' starts at offset 16, not a multiple of the alignment 32"
    );
    assert_eq!(
        table(2, |raw| raw.tensor("b", &[16], F32, 32).tensor(
            "a",
            &[16],
            F32,
            0
        )),
        "tensors 'a' and 'b' overlap"
    );
    assert_eq!(
        table(2, |raw| raw.tensor("w", &[4], F32, 0).tensor(
            "w",
            &[4],
            F32,
            32
        )),
        "duplicate tensor 'w'"
    );
}

#[test]
fn a_file_cut_off_in_its_data_names_the_tensor() {
    let mut writer = GgufWriter::new();
    writer
        .tensor("first", &[8], DType::F32)
        .unwrap()
        .tensor("last", &[8], DType::F32)
        .unwrap();
    let mut file = writer.to_bytes(&[&[0; 32], &[0; 32]]).unwrap();
    file.pop();
    assert_eq!(
        gguf(file),
        "tensor 'last' lies outside the file: needs bytes up to 192, the file has 191"
    );
}

#[test]
fn tensor_types_that_cannot_be_read() {
    let known = "expected one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, IQ4_NL, IQ4_XS, MXFP4";
    assert_eq!(
        table(1, |raw| raw.tensor("w", &[32], 99, 0)),
        format!("tensor 'w' has unknown type 99, {known}")
    );
    assert_eq!(
        table(1, |raw| raw.tensor("blk.0.ffn_up.weight", &[256], 21, 0)),
        format!("tensor 'blk.0.ffn_up.weight' has type IQ3_S, which is not supported, {known}")
    );
}

#[test]
fn names_from_the_file_stay_short_and_on_one_line() {
    let name = format!("a\n\u{1b}[31m{}", "x".repeat(5000));
    let message = table(1, |raw| raw.tensor(&name, &[32], 99, 0));
    assert!(
        message.starts_with(r"tensor 'a\n\u{1b}[31mxxx"),
        "{message}"
    );
    assert!(message.len() < 300, "{message}");
}

#[test]
fn safetensors_headers_that_are_none() {
    assert_eq!(st(vec![]), "file is empty");
    assert_eq!(
        st(vec![1, 2, 3]),
        "file is truncated: the length of the safetensors header needs 8 bytes, the file has 3"
    );
    assert_eq!(
        st(Raw::default().u64(100_000_000).bytes(b"{}").0),
        "safetensors header claims 100000000 bytes, the file has 10"
    );
    assert_eq!(
        st(Raw::default().u64(U64_MAX).bytes(b"{}").0),
        "safetensors header claims 18446744073709551615 bytes, the file has 10"
    );
    assert_eq!(
        st(Raw::default()
            .u64(100_000_000)
            .bytes(&vec![b' '; 100_000_000])
            .0),
        "safetensors header of 100000000 bytes is larger than the 16777216 that are accepted"
    );
    assert_eq!(
        st(safetensors("[]", 0)),
        "safetensors header is not valid: starts with '[]', expected '{'"
    );
    assert_eq!(
        st(safetensors("{\"a\"", 0)),
        "safetensors header is not valid: tensor 'a': EOF while parsing an object at line 1 column 4"
    );
    let deep = format!(r#"{{"w":{{"x":{}"#, "[".repeat(10_000));
    assert_eq!(
        st(safetensors(&deep, 0)),
        "safetensors header is not valid: tensor 'w': EOF while parsing a list at line 1 column 10010"
    );
}

/// A safetensors file of one tensor `w` over 16 bytes of data.
fn one(dtype: &str, shape: &str, start: u64, end: u64) -> String {
    let entry = format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#);
    st(safetensors(&format!(r#"{{"w":{entry}}}"#), 16))
}

#[test]
fn safetensors_shapes_and_offsets_that_lie() {
    assert_eq!(
        one("F32", "[4294967296,4294967296]", 0, 16),
        "tensor 'w' has dimensions [4294967296, 4294967296], whose size overflows"
    );
    assert_eq!(
        one("F32", "[4611686018427387905]", 0, 4),
        "tensor 'w' has dimensions [4611686018427387905], whose size overflows"
    );
    assert_eq!(
        one("F32", "[3]", 0, 16),
        "tensor 'w' of shape [3] and type F32 takes 12 bytes, its data offsets span 16"
    );
    assert_eq!(
        one("F32", "[4]", 16, 0),
        "tensor 'w' has data offsets 16 to 0, which run backwards"
    );
    assert_eq!(
        one("F32", "[4]", 16, 32),
        "tensor 'w' lies outside the file: needs bytes up to 96, the file has 80"
    );
    assert_eq!(
        one("F32", "[1,1,1,1,1,1,1,1,1]", 0, 4),
        "tensor 'w' has 9 dimensions, at most 8 are accepted"
    );
    assert_eq!(
        one("F4", "[4]", 0, 2),
        "tensor 'w' has unknown type F4, expected one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, IQ4_NL, IQ4_XS, MXFP4"
    );
    assert!(one("F32", "[-1]", 0, 4).starts_with(
        "safetensors header is not valid: tensor 'w': invalid value: integer `-1`, expected u64"
    ));
    let entry = r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
    let file = |a: &str, b: &str| {
        st(safetensors(
            &format!(r#"{{"{a}":{entry},"{b}":{entry}}}"#),
            16,
        ))
    };
    assert_eq!(file("a", "a"), "duplicate tensor 'a'");
    assert_eq!(file("a", "b"), "tensors 'a' and 'b' overlap");
    assert_eq!(
        st(safetensors(r#"{"w":{"dtype":"F32","shape":[2]}}"#, 16)),
        "safetensors header is not valid: tensor 'w': missing field `data_offsets` at line 1 column 32"
    );
}
