//! Searches on a hub: what is chosen, resumed, refused, kept and repaired.

use std::fs;
use std::path::PathBuf;

use super::server::{COMMIT, Hub, Served};
use super::{bench, nobody};
use crate::error::Error;
use crate::files::ModelFiles;
use crate::progress::Phase;
use crate::resolve;

/// Bytes that differ everywhere, so that a misplaced block cannot go unseen.
fn weights(length: usize) -> Vec<u8> {
    (0..length as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

fn gguf(files: ModelFiles) -> PathBuf {
    match files {
        ModelFiles::Gguf(path) => path,
        other => panic!("{other:?}"),
    }
}

fn hub_with(name: &str, file: Served) -> Hub {
    let hub = Hub::start();
    hub.put("o/n", name, file);
    hub
}

#[test]
fn a_gguf_file_is_fetched_once_and_then_found_without_the_hub() {
    let hub = hub_with("m.Q4_K_M.gguf", Served::new(weights(300_000)));
    hub.put("o/n", "m.Q8_0.gguf", Served::new("other"));
    let bench = bench(hub.endpoint());
    let path = gguf(resolve("o/n", &bench.options).unwrap());
    assert_eq!(
        path,
        bench
            .cache
            .path()
            .join(format!("models/o--n/{COMMIT}/m.Q4_K_M.gguf"))
    );
    assert_eq!(fs::read(&path).unwrap(), weights(300_000));
    assert_eq!(hub.asked().len(), 2, "the list and the file");
    assert!(bench.listener.phases.lock().unwrap().contains(&(
        Phase::Download,
        "m.Q4_K_M.gguf".into(),
        300_000,
        Some(300_000)
    )));
    drop(hub);
    assert_eq!(gguf(resolve("o/n", &bench.options).unwrap()), path);
    let digest = super::server::sha256(&weights(300_000));
    assert_eq!(crate::sha256(&path, &bench.options).unwrap(), digest);
}

#[test]
fn a_quantization_and_a_file_name_choose_the_file() {
    let hub = hub_with("a.Q4_0.gguf", Served::new("four"));
    hub.put("o/n", "sub/b.Q8_0.gguf", Served::new("eight"));
    let bench = bench(hub.endpoint());
    for spec in ["o/n:q8_0", "o/n/sub/b.Q8_0.gguf", "o/n:Q8_0@main"] {
        let path = gguf(resolve(spec, &bench.options).unwrap());
        assert_eq!(fs::read(path).unwrap(), b"eight", "{spec}");
    }
    let message = resolve("o/n:Q2_K", &bench.options).unwrap_err().to_string();
    assert!(
        message.contains("a.Q4_0.gguf, sub/b.Q8_0.gguf"),
        "{message}"
    );
}

#[test]
fn a_sharded_folder_is_fetched_whole() {
    let hub = hub_with("config.json", Served::new("{}"));
    hub.put("o/n", "tokenizer.json", Served::new("{}"));
    hub.put(
        "o/n",
        "model.safetensors.index.json",
        Served::new(r#"{"weight_map":{"a":"x.safetensors","b":"y.safetensors"}}"#),
    );
    hub.put("o/n", "x.safetensors", Served::new("x"));
    hub.put("o/n", "y.safetensors", Served::new("y"));
    hub.put("o/n", "unrelated.safetensors", Served::new("z"));
    let bench = bench(hub.endpoint());
    let ModelFiles::Folder(folder) = resolve("o/n", &bench.options).unwrap() else {
        panic!("not a folder");
    };
    assert_eq!(fs::read(folder.join("y.safetensors")).unwrap(), b"y");
    assert!(!folder.join("unrelated.safetensors").exists());
    let asked = hub.asked().len();
    assert!(resolve("o/n", &bench.options).is_ok());
    assert_eq!(hub.asked().len(), asked, "the second time asks nothing");
    // One lost shard is all that is fetched again.
    fs::remove_file(folder.join("x.safetensors")).unwrap();
    assert!(resolve("o/n", &bench.options).is_ok());
    assert_eq!(hub.asked().len(), asked + 1);
}

#[test]
fn a_broken_connection_is_resumed_where_it_ended() {
    let mut file = Served::new(weights(100_000));
    file.breaks = (2, 30_000);
    let hub = hub_with("m.gguf", file);
    let bench = bench(hub.endpoint());
    let path = gguf(resolve("o/n", &bench.options).unwrap());
    assert_eq!(fs::read(path).unwrap(), weights(100_000));
    assert_eq!(hub.ranges("m.gguf"), ["-", "bytes=30000-", "bytes=60000-"]);
    assert!(bench.listener.noticed("trying again"));
}

#[test]
fn a_server_that_falls_silent_is_left_and_resumed() {
    let mut file = Served::new(weights(100_000));
    file.breaks = (1, 30_000);
    file.stalls = true;
    let hub = hub_with("m.gguf", file);
    let mut bench = bench(hub.endpoint());
    bench.options.stall_timeout = std::time::Duration::from_millis(300);
    let path = gguf(resolve("o/n", &bench.options).unwrap());
    assert_eq!(fs::read(path).unwrap(), weights(100_000));
    assert_eq!(hub.ranges("m.gguf"), ["-", "bytes=30000-"]);
}

#[test]
fn a_part_of_an_earlier_run_is_resumed() {
    let mut file = Served::new(weights(100_000));
    file.breaks = (1, 40_000);
    let hub = hub_with("m.gguf", file);
    let mut bench = bench(hub.endpoint());
    bench.options.retries = 0;
    let error = resolve("o/n", &bench.options).unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error}");
    let path = gguf(resolve("o/n", &bench.options).unwrap());
    assert_eq!(fs::read(path).unwrap(), weights(100_000));
    assert_eq!(hub.ranges("m.gguf"), ["-", "bytes=40000-"]);
}

#[test]
fn a_connection_that_keeps_breaking_is_given_up() {
    let mut file = Served::new(weights(100_000));
    file.breaks = (usize::MAX, 10);
    let hub = hub_with("m.gguf", file);
    let bench = bench(hub.endpoint());
    let error = resolve("o/n", &bench.options).unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error}");
    assert_eq!(hub.ranges("m.gguf").len(), 5, "one try and four retries");
}

#[test]
fn a_server_that_ignores_ranges_is_read_from_the_start() {
    let mut file = Served::new(weights(100_000));
    file.breaks = (1, 40_000);
    file.whole_only = true;
    let hub = hub_with("m.gguf", file);
    let bench = bench(hub.endpoint());
    let path = gguf(resolve("o/n", &bench.options).unwrap());
    assert_eq!(fs::read(path).unwrap(), weights(100_000));
}

#[test]
fn a_part_of_another_version_is_not_continued() {
    let mut old = Served::new(vec![0xff; 100_000]);
    old.claims = None;
    old.breaks = (1, 40_000);
    let hub = hub_with("m.gguf", old);
    let mut bench = bench(hub.endpoint());
    bench.options.retries = 0;
    assert!(resolve("o/n", &bench.options).is_err());
    hub.put("o/n", "m.gguf", Served::new(weights(100_000)));
    let path = gguf(resolve("o/n", &bench.options).unwrap());
    assert_eq!(fs::read(path).unwrap(), weights(100_000));
    assert_eq!(hub.ranges("m.gguf"), ["-", "bytes=40000-", "-"]);
}

#[test]
fn a_part_with_wrong_bytes_starts_over_once() {
    let mut file = Served::new(weights(100_000));
    file.breaks = (1, 40_000);
    let hub = hub_with("m.gguf", file);
    let mut bench = bench(hub.endpoint());
    bench.options.retries = 0;
    assert!(resolve("o/n", &bench.options).is_err());
    let part = bench
        .cache
        .path()
        .join(format!("models/o--n/{COMMIT}/m.gguf.part"));
    fs::write(&part, vec![0; 40_000]).unwrap();
    let path = gguf(resolve("o/n", &bench.options).unwrap());
    assert_eq!(fs::read(path).unwrap(), weights(100_000));
    assert_eq!(hub.ranges("m.gguf"), ["-", "bytes=40000-", "-"]);
    assert!(bench.listener.noticed("starts over"));
}

#[test]
fn wrong_bytes_are_refused_and_leave_nothing_behind() {
    let mut file = Served::new(weights(1000));
    file.bytes[500] ^= 1;
    let hub = hub_with("m.gguf", file);
    let bench = bench(hub.endpoint());
    let error = resolve("o/n", &bench.options).unwrap_err();
    assert!(matches!(error, Error::Checksum { .. }), "{error}");
    let folder = bench.cache.path().join(format!("models/o--n/{COMMIT}"));
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
}

#[test]
fn a_file_without_a_promised_digest_is_kept_by_its_stamp() {
    let mut file = Served::new("weights");
    (file.claims, file.etag) = (None, "v1".into());
    let hub = hub_with("m.gguf", file);
    let bench = bench(hub.endpoint());
    let path = gguf(resolve("o/n", &bench.options).unwrap());
    fs::write(&path, "poisoned weights").unwrap();
    let path = gguf(resolve("o/n", &bench.options).unwrap());
    assert_eq!(fs::read(path).unwrap(), b"weights");
    assert!(bench.listener.noticed("fetched again"));
}

#[test]
fn a_truncated_cached_file_is_fetched_again_with_a_notice() {
    let hub = hub_with("m.gguf", Served::new(weights(1000)));
    let mut bench = bench(hub.endpoint());
    let path = gguf(resolve("o/n", &bench.options).unwrap());
    fs::write(&path, &weights(1000)[..400]).unwrap();
    assert_eq!(gguf(resolve("o/n", &bench.options).unwrap()), path);
    assert_eq!(fs::read(&path).unwrap(), weights(1000));
    assert!(bench.listener.noticed("is damaged"));
    // Without the network it is still deleted rather than used.
    fs::write(&path, &weights(1000)[..400]).unwrap();
    bench.options.hub_offline = true;
    let message = resolve("o/n", &bench.options).unwrap_err().to_string();
    assert!(message.contains("HF_HUB_OFFLINE"), "{message}");
    assert!(!path.exists());
}

#[test]
fn statuses_become_one_line_with_what_helps() {
    let hub = Hub::start();
    let bench = bench(hub.endpoint());
    let message = resolve("o/none", &bench.options).unwrap_err().to_string();
    assert!(message.contains("HTTP 404; there is no such"), "{message}");
    assert_eq!(hub.asked().len(), 1, "a refusal is not tried again");
    for (status, hint, requests) in [(401, "HF_TOKEN", 1), (403, "HF_TOKEN", 1), (503, "503", 5)] {
        let before = hub.asked().len();
        hub.answer_all_with(status);
        let message = resolve("o/n", &bench.options).unwrap_err().to_string();
        assert!(message.contains(hint), "{message}");
        assert_eq!(hub.asked().len() - before, requests, "{status}");
    }
}

#[test]
fn the_token_goes_to_the_hub_and_not_where_it_redirects() {
    let (front, content) = (Hub::start(), Hub::start());
    let file = Served::new(weights(1000));
    let mut redirecting = file.clone();
    redirecting.elsewhere = Some(content.endpoint().to_owned());
    front.put("o/n", "m.gguf", redirecting);
    content.put("o/n", "m.gguf", file);
    let mut bench = bench(front.endpoint());
    bench.options.hub_token = Some("hf_x".into());
    let path = gguf(resolve("o/n", &bench.options).unwrap());
    assert_eq!(fs::read(path).unwrap(), weights(1000));
    assert!(
        front
            .asked()
            .iter()
            .all(|asked| asked.token.as_deref() == Some("Bearer hf_x"))
    );
    assert_eq!(content.asked().len(), 1);
    assert_eq!(content.asked()[0].token, None);
}

#[test]
fn names_that_leave_the_folder_are_not_fetched() {
    let hub = hub_with("../../evil.gguf", Served::new("evil"));
    hub.put("o/n", "README.md", Served::new("text"));
    let bench = bench(hub.endpoint());
    let message = resolve("o/n", &bench.options).unwrap_err().to_string();
    assert!(message.contains("no GGUF file"), "{message}");
}

#[test]
fn offline_and_unreachable_hubs_are_said_so() {
    let mut bench = bench(&nobody());
    let message = resolve("o/n", &bench.options).unwrap_err().to_string();
    assert!(
        message.contains("cannot reach http://127.0.0.1:1"),
        "{message}"
    );
    bench.options.offline = true;
    let message = resolve("o/n", &bench.options).unwrap_err().to_string();
    assert!(message.contains("FIRESIDE_OFFLINE"), "{message}");
    bench.options.offline = false;
    bench.options.hub_endpoint = "not an address".into();
    let message = resolve("o/n", &bench.options).unwrap_err().to_string();
    assert!(message.contains("HF_ENDPOINT"), "{message}");
}

#[test]
fn a_refresh_falls_back_to_the_cache_when_the_hub_is_away() {
    let hub = hub_with("m.gguf", Served::new("weights"));
    let mut bench = bench(hub.endpoint());
    bench.options.refresh = true;
    let path = gguf(resolve("o/n", &bench.options).unwrap());
    let before = hub.asked().len();
    assert_eq!(gguf(resolve("o/n", &bench.options).unwrap()), path);
    assert_eq!(hub.asked().len(), before + 1, "only the list is asked for");
    drop(hub);
    assert_eq!(gguf(resolve("o/n", &bench.options).unwrap()), path);
    assert!(bench.listener.noticed("cache are used"));
}

#[test]
fn two_at_once_fetch_a_file_once() {
    let hub = hub_with("m.gguf", Served::new(weights(2_000_000)));
    let bench = bench(hub.endpoint());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let path = gguf(resolve("o/n", &bench.options).unwrap());
                assert_eq!(fs::read(path).unwrap(), weights(2_000_000));
            });
        }
    });
    assert_eq!(hub.asked().len(), 2, "{:?}", hub.asked());
}

#[test]
fn a_snapshot_of_the_hubs_own_clients_is_used_in_place() {
    let theirs = tempfile::tempdir().unwrap();
    let repo = theirs.path().join("models--o--n");
    let snapshot = repo.join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repo.join("refs")).unwrap();
    fs::write(repo.join("refs/main"), COMMIT).unwrap();
    fs::write(snapshot.join("config.json"), "{}").unwrap();
    let mut bench = bench(&nobody());
    bench.options.hub_cache = Some(theirs.path().into());
    bench.options.hub_offline = true;
    // A snapshot with some of the files is not the model.
    assert!(resolve("o/n", &bench.options).is_err());
    fs::write(snapshot.join("tokenizer.json"), "{}").unwrap();
    fs::write(snapshot.join("model.safetensors"), "w").unwrap();
    assert_eq!(
        resolve("o/n", &bench.options).unwrap(),
        ModelFiles::Folder(snapshot)
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_no_part() {
    let hub = hub_with("m.gguf", Served::new(weights(1000)));
    let bench = bench(hub.endpoint());
    let folder = bench.cache.path().join(format!("models/o--n/{COMMIT}"));
    fs::create_dir_all(&folder).unwrap();
    let part = folder.join("m.gguf.part");
    std::os::unix::fs::symlink("/dev/full", &part).unwrap();
    let error = resolve("o/n", &bench.options).unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    assert!(!part.is_symlink());
    assert!(!folder.join("m.gguf").exists());
}
