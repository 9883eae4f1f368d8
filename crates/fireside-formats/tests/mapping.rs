//! Memory mapping: what happens when the file changes, and how much memory streaming takes.

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fireside_formats::write::GgufWriter;
use fireside_formats::{ByteSource, DType, FormatError, Mapping, TensorSource, WeightFile};
use tempfile::TempDir;

fn write(path: &Path, tensors: usize, bytes: usize, fill: u8) {
    let mut writer = GgufWriter::new();
    for i in 0..tensors {
        writer
            .tensor(&format!("t{i}"), &[bytes / 4], DType::F32)
            .unwrap();
    }
    let mut data = writer.start(fs::File::create(path).unwrap()).unwrap();
    for _ in 0..tensors {
        data.tensor(&vec![fill; bytes]).unwrap();
    }
    data.finish().unwrap();
}

fn temp() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("model.gguf");
    (dir, path)
}

#[test]
fn a_file_replaced_by_a_rename_stays_readable_as_it_was() {
    let (dir, path) = temp();
    write(&path, 2, 4096, 1);
    let weights = WeightFile::open(&path).unwrap();
    let new = dir.path().join("new");
    write(&new, 1, 64, 2);
    fs::rename(&new, &path).unwrap();
    assert_eq!(*weights.bytes("t1").unwrap(), [1; 4096]);
}

#[test]
fn a_header_overwritten_in_place_does_not_move_the_tensors() {
    let (_dir, path) = temp();
    write(&path, 2, 4096, 1);
    let weights = WeightFile::open(&path).unwrap();
    let before = weights.tensors().to_vec();
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all(&[0xFF; 64]).unwrap();
    file.seek(SeekFrom::Start(before[1].range.start)).unwrap();
    file.write_all(&[9; 4096]).unwrap();
    file.sync_all().unwrap();
    assert_eq!(weights.tensors(), before);
    assert_eq!(*weights.bytes("t0").unwrap(), [1; 4096]);
    assert_eq!(weights.bytes("t1").unwrap().len(), 4096);
}

#[test]
fn released_tensors_read_the_same_again() {
    let (_dir, path) = temp();
    write(&path, 3, 10_000, 5);
    let weights = WeightFile::open(&path).unwrap();
    let slice = weights.bytes("t1").unwrap();
    assert_eq!(*slice, [5; 10_000]);
    for name in ["t0", "t1", "t2", "absent"] {
        weights.release(name);
    }
    assert_eq!(*slice, [5; 10_000]);
}

#[test]
fn reading_outside_the_mapping_is_an_error() {
    let (_dir, path) = temp();
    write(&path, 1, 64, 5);
    let mapping = Mapping::open(&path).unwrap();
    let size = mapping.size();
    mapping.release(size..size + 1);
    for range in [0..size + 1, size..size + 1, u64::MAX - 1..u64::MAX] {
        assert!(matches!(
            mapping.bytes(range),
            Err(FormatError::OutOfSource { .. })
        ));
    }
    let folder = Mapping::open(path.parent().unwrap()).unwrap_err();
    assert_eq!(folder.to_string(), "cannot read file: not a regular file");
}

/// Resident bytes of the mapping of `path`.
#[cfg(target_os = "linux")]
fn resident(path: &Path) -> u64 {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let (_, after) = maps
        .split_once(&path.display().to_string())
        .expect("the file is mapped");
    let line = after.lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

#[test]
#[cfg(target_os = "linux")]
fn streaming_through_a_file_keeps_about_one_tensor_resident() {
    const TENSOR: usize = 1 << 20;
    let (_dir, path) = temp();
    write(&path, 16, TENSOR, 3);
    let weights = WeightFile::open(&path).unwrap();
    let (mut peak, mut sum) = (0, 0);
    for name in weights.names() {
        sum += weights
            .bytes(name)
            .unwrap()
            .iter()
            .map(|byte| u64::from(*byte))
            .sum::<u64>();
        peak = peak.max(resident(&path));
        weights.release(name);
    }
    assert_eq!(sum, 3 * 16 * TENSOR as u64);
    // The page cache may map neighbouring pages along with those that are read.
    assert!(peak >= TENSOR as u64, "{peak}: nothing was measured");
    assert!(peak < 4 * TENSOR as u64, "{peak} bytes resident");
}
