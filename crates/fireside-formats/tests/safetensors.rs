//! Reading safetensors files and folders, with files made by the reference crate.

use std::fs;
use std::path::Path;

use fireside_formats::{DType, FormatError, Safetensors, TensorSource, WeightFile};
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn shard(tensors: &[(&str, &[f32])]) -> Vec<u8> {
    let data: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, values)| f32_bytes(values))
        .collect();
    let views = tensors.iter().zip(&data).map(|((name, values), bytes)| {
        (
            *name,
            TensorView::new(Dtype::F32, vec![values.len()], bytes).unwrap(),
        )
    });
    safetensors::serialize(views, None).unwrap()
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// The message of the error, with the folder's name taken out.
fn open_error(path: &Path) -> String {
    let folder = if path.is_dir() {
        path
    } else {
        path.parent().unwrap()
    };
    let message = WeightFile::open(path).unwrap_err().to_string();
    message.replace(&folder.display().to_string(), "DIR")
}

#[test]
fn files_of_the_reference_crate_are_read() {
    let (floats, halves, ids) = (f32_bytes(&[1.0, -2.0, 0.5, 4.0]), [0, 60, 0, 192], [7; 16]);
    let brain = [128, 63, 0, 192];
    let views = [
        (
            "floats",
            TensorView::new(Dtype::F32, vec![2, 2], &floats).unwrap(),
        ),
        (
            "halves",
            TensorView::new(Dtype::F16, vec![2], &halves).unwrap(),
        ),
        (
            "brain",
            TensorView::new(Dtype::BF16, vec![1, 2, 1], &brain).unwrap(),
        ),
        ("ids", TensorView::new(Dtype::I64, vec![2], &ids).unwrap()),
        (
            "none",
            TensorView::new(Dtype::F32, vec![0, 3], &[]).unwrap(),
        ),
    ];
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let file = safetensors::serialize(views, Some(metadata)).unwrap();

    let header = Safetensors::parse(&file, file.len() as u64).unwrap();
    assert_eq!(header.metadata()["format"], "pt");
    let weights = WeightFile::from_safetensors([("m.safetensors".to_owned(), file)]).unwrap();
    assert_eq!(weights.get("floats").unwrap().shape, [2, 2]);
    assert_eq!(weights.read_f32("floats").unwrap(), [1.0, -2.0, 0.5, 4.0]);
    assert_eq!(weights.read_f32("halves").unwrap(), [1.0, -2.0]);
    assert_eq!(weights.get("brain").unwrap().dtype, DType::BF16);
    assert_eq!(weights.read_f32("brain").unwrap(), [1.0, -2.0]);
    assert_eq!(weights.read_f32("none").unwrap(), [0.0; 0]);
    assert!(matches!(
        weights.get("ids"),
        Err(FormatError::NotAWeight { .. })
    ));
    assert!(weights.gguf().is_none());
}

#[test]
fn a_prefix_that_ends_in_the_header_asks_for_more() {
    let file = shard(&[("a", &[1.0]), ("b", &[2.0])]);
    let size = file.len() as u64;
    let data = 8;
    for prefix in 0..file.len() {
        match Safetensors::parse(&file[..prefix], size) {
            Ok(_) => assert!(prefix >= file.len() - data),
            Err(FormatError::NeedMoreBytes { needed, .. }) => {
                assert!(prefix < file.len() - data && needed > prefix as u64 && needed <= size);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn an_index_says_which_shards_make_up_a_model() {
    let index = r#"{"metadata":{"total_size":12},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}"#;
    let dir = folder(&[
        ("model.safetensors.index.json", index.as_bytes()),
        ("m-1.safetensors", &shard(&[("a", &[1.0])])),
        ("m-2.safetensors", &shard(&[("b", &[2.0]), ("a", &[9.0])])),
        ("other.safetensors", b"not read"),
    ]);
    let weights = WeightFile::open(dir.path()).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(weights.read_f32("a").unwrap(), [1.0]);
    assert_eq!(weights.read_f32("b").unwrap(), [2.0]);
    assert_eq!(
        (weights.get("b").unwrap().shard, weights.files().len()),
        (1, 2)
    );
}

#[test]
fn without_an_index_the_single_file_or_every_file_is_read() {
    let (a, b) = (shard(&[("a", &[1.0])]), shard(&[("b", &[2.0])]));
    let single = folder(&[("model.safetensors", &a), ("other.safetensors", &b)]);
    assert_eq!(
        WeightFile::open(single.path())
            .unwrap()
            .names()
            .collect::<Vec<_>>(),
        ["a"]
    );
    let every = folder(&[
        ("x.safetensors", &a),
        ("y.safetensors", &b),
        ("config.json", b"{}"),
    ]);
    assert_eq!(
        WeightFile::open(every.path())
            .unwrap()
            .names()
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    let file = single.path().join("other.safetensors");
    assert_eq!(
        WeightFile::open(file).unwrap().read_f32("b").unwrap(),
        [2.0]
    );
}

#[test]
fn faults_of_a_folder_are_named() {
    let a = shard(&[("a", &[1.0])]);
    let indexed = |index: &str| {
        let dir = folder(&[
            ("model.safetensors.index.json", index.as_bytes()),
            ("m-1.safetensors", &a),
        ]);
        open_error(dir.path())
    };
    assert_eq!(
        indexed(r#"{"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}"#),
        "DIR/model.safetensors.index.json: shard 'm-2.safetensors' is missing, model.safetensors.index.json names it"
    );
    assert_eq!(
        indexed(r#"{"weight_map":{"a":"m-1.safetensors","b":"m-1.safetensors"}}"#),
        "DIR/model.safetensors.index.json: shard 'm-1.safetensors' has no tensor 'b', model.safetensors.index.json says it has"
    );
    assert_eq!(
        indexed(r#"{"weight_map":{"a":"../m-1.safetensors"}}"#),
        "DIR/model.safetensors.index.json: shard name '../m-1.safetensors' is not a plain file name"
    );
    assert_eq!(
        indexed("{}"),
        "DIR/model.safetensors.index.json: not a safetensors index: missing field `weight_map` at line 1 column 2"
    );
    assert_eq!(
        open_error(folder(&[]).path()),
        "DIR: no *.safetensors file in this folder"
    );
    let twice = folder(&[("x.safetensors", &a), ("y.safetensors", &a)]);
    assert_eq!(open_error(twice.path()), "DIR: duplicate tensor 'a'");
    let absent = TempDir::new().unwrap().path().join("absent.gguf");
    assert!(open_error(&absent).starts_with("DIR/absent.gguf: cannot read file: "));
}

#[test]
fn a_file_is_known_by_its_first_bytes_or_its_extension() {
    let zip = b"PK\x03\x04 and more";
    let dir = folder(&[
        ("model.bin", zip),
        ("model.gguf", zip),
        ("empty.gguf", b""),
        ("renamed", &shard(&[("a", &[1.0])])),
    ]);
    let at = |name: &str| dir.path().join(name);
    assert_eq!(
        open_error(&at("model.bin")),
        "DIR/model.bin: not a weights file: starts with bytes 50 4b 03 04 20 61 6e 64, expected GGUF or safetensors"
    );
    assert_eq!(
        open_error(&at("model.gguf")),
        "DIR/model.gguf: not a GGUF file: starts with bytes 50 4b 03 04, expected 'GGUF'"
    );
    assert_eq!(
        open_error(&at("empty.gguf")),
        "DIR/empty.gguf: file is empty"
    );
    assert_eq!(
        WeightFile::open(at("renamed"))
            .unwrap()
            .read_f32("a")
            .unwrap(),
        [1.0]
    );
}
