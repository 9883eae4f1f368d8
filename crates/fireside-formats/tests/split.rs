//! Models in several GGUF files: what makes them one, and what each fault is called.

use std::fs;
use std::path::{Path, PathBuf};

use fireside_formats::write::GgufWriter;
use fireside_formats::{DType, FormatError, TensorSource, WeightFile};
use tempfile::TempDir;

/// Files of the `gguf` Python package; tests run in the folder of their package.
fn fixture(name: &str) -> PathBuf {
    Path::new("../../tests/fixtures/tiny-gguf").join(name)
}

fn file(name: &str) -> (String, Vec<u8>) {
    (name.to_owned(), fs::read(fixture(name)).unwrap())
}

const NAMES: [&str; 3] = [
    "tiny-00001-of-00003.gguf",
    "tiny-00002-of-00003.gguf",
    "tiny-00003-of-00003.gguf",
];

fn parts() -> Vec<(String, Vec<u8>)> {
    NAMES.map(file).into()
}

/// Opens files and gives the one line that is wrong with them.
fn refusal(files: Vec<(String, Vec<u8>)>) -> String {
    let message = WeightFile::from_gguf_parts(files).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// A part with one tensor of its own, which says what it is told to say.
fn part(name: &str, number: u16, count: u16, tensors: i32) -> (String, Vec<u8>) {
    let mut writer = GgufWriter::new();
    writer.metadata("split.no", number).unwrap();
    writer.metadata("split.count", count).unwrap();
    writer.metadata("split.tensors.count", tensors).unwrap();
    writer.tensor(name, &[2], DType::F32).unwrap();
    (name.to_owned(), writer.to_bytes(&[&[0; 8]]).unwrap())
}

#[test]
fn parts_in_any_order_are_the_whole_file() {
    let (name, bytes) = file("whole.gguf");
    let whole = WeightFile::from_gguf(&name, bytes).unwrap();
    let mut shuffled = parts();
    shuffled.rotate_left(1);
    for files in [parts(), shuffled] {
        let split = WeightFile::from_gguf_parts(files).unwrap();
        assert!(split.names().eq(whole.names()));
        for tensor in whole.tensors() {
            let own = split.get(&tensor.name).unwrap();
            assert_eq!((&own.shape, own.dtype), (&tensor.shape, tensor.dtype));
            let bytes = split.bytes(&tensor.name).unwrap();
            assert_eq!(bytes, whole.bytes(&tensor.name).unwrap(), "{}", tensor.name);
        }
        let names = split.files().iter().map(|(name, _)| name.as_str());
        assert!(names.eq(NAMES));
        let vocabulary = "tokenizer.ggml.tokens";
        let tokens = |file: &WeightFile<Vec<u8>>| {
            file.gguf().unwrap().str_array(vocabulary).map(|t| t.len())
        };
        assert_eq!(tokens(&split), tokens(&whole));
    }
}

#[test]
fn any_part_by_its_path_opens_all_of_them() {
    let whole = WeightFile::open(fixture("whole.gguf")).unwrap();
    for name in NAMES {
        let split = WeightFile::open(fixture(name)).unwrap();
        assert_eq!(split.tensors().len(), whole.tensors().len());
        for tensor in whole.tensors() {
            let name = &tensor.name;
            assert_eq!(split.read_f32(name).unwrap(), whole.read_f32(name).unwrap());
            split.release(name);
        }
    }
}

#[test]
fn a_sibling_that_is_not_there_is_named_with_its_path() {
    let folder = TempDir::new().unwrap();
    for name in [NAMES[0], NAMES[2]] {
        fs::copy(fixture(name), folder.path().join(name)).unwrap();
    }
    let missing = folder.path().join(NAMES[1]).display().to_string();
    let error = WeightFile::open(folder.path().join(NAMES[2])).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{missing}: part 2 of 3 of the GGUF model is missing")
    );
}

#[test]
fn a_part_under_another_name_says_what_is_needed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("renamed.gguf");
    fs::copy(fixture(NAMES[0]), &path).unwrap();
    let error = WeightFile::open(&path).unwrap_err();
    assert_eq!(*error.without_file(), FormatError::SplitGguf { parts: 3 });
    assert!(error.to_string().contains("NAME-00001-of-00003.gguf"));
    // The same for a list of one.
    let alone = vec![file(NAMES[1])];
    assert!(refusal(alone).starts_with("tiny-00002-of-00003.gguf: this is one part"));
}

#[test]
fn missing_doubled_and_foreign_parts_are_told_apart() {
    assert_eq!(refusal(Vec::new()), "no part of a GGUF model is given");
    assert_eq!(
        refusal(vec![file(NAMES[0]), file(NAMES[2])]),
        "part 2 of 3 of the GGUF model is missing"
    );
    let mut doubled = parts();
    doubled.push(("again.gguf".into(), doubled[1].1.clone()));
    assert_eq!(
        refusal(doubled),
        "again.gguf: this is part 2 of 3, as tiny-00002-of-00003.gguf is too"
    );
    let mut whole = parts();
    whole[1] = file("whole.gguf");
    assert_eq!(
        refusal(whole),
        "whole.gguf: metadata key 'split.count' is missing: this is no part of a split GGUF model"
    );
    assert_eq!(
        refusal(vec![part("a", 0, 2, 2), part("b", 1, 3, 2)]),
        "b: split.count is 3, expected 2 as in a: the parts are of two models"
    );
    assert_eq!(
        refusal(vec![part("a", 0, 2, 2), part("b", 1, 2, 5)]),
        "b: split.tensors.count is 5, expected 2 as in a: the parts are of two models"
    );
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    assert_eq!(
        refusal(vec![part("a", 2, 2, 2), part("b", 1, 2, 2)]),
        "a: split.no is 2, expected 0 to split.count - 1, with a split.count of 2"
    );
    assert_eq!(
        refusal(vec![part("a", 0, 0, 2), part("b", 1, 0, 2)]),
        "a: split.no is 0, expected 0 to split.count - 1, with a split.count of 0"
    );
    // What is claimed costs nothing.
    assert_eq!(
        refusal(vec![part("a", 0, u16::MAX, 2), part("b", 1, u16::MAX, 2)]),
        "part 3 of 65535 of the GGUF model is missing"
    );
    assert_eq!(
        refusal(vec![part("a", 0, 2, 3), part("b", 1, 2, 3)]),
        "the parts have 2 tensors together, split.tensors.count says 3"
    );
    let message = refusal(vec![part("a", 0, 2, -1), part("b", 1, 2, -1)]);
    assert!(message.contains("'split.tensors.count' is"), "{message}");
    assert_eq!(
        refusal(vec![part("a", 0, 2, 2), {
            let (_, bytes) = part("a", 1, 2, 2);
            ("b".into(), bytes)
        }]),
        "duplicate tensor 'a'"
    );
}
