//! Lists what a hub repository holds: from the hub, from this cache, or from a snapshot that the
//! hub's own clients left on this machine.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread;

use serde::{Deserialize, Serialize};

use crate::digest::is_hex;
use crate::error::Error;
use crate::http::{Answer, Failure, Http, Retry, bad_answer};
use crate::options::Options;
use crate::slot::{Expect, Promise};
use crate::spec::{HubSpec, is_safe_file_name};

/// The largest listing that is read, in bytes.
const MAX_LISTING: u64 = 32 << 20;

/// One file of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemoteFile {
    /// The path inside the repository, which is safe to join to a folder.
    pub(crate) name: String,
    pub(crate) size: Option<u64>,
    pub(crate) promise: Option<Promise>,
}

impl RemoteFile {
    pub(crate) fn expect(&self) -> Expect {
        Expect {
            size: self.size,
            promise: self.promise.clone(),
        }
    }
}

/// The files of a repository at one commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<RemoteFile>,
}

impl Listing {
    pub(crate) fn find(&self, name: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|file| file.name == name)
    }
}

/// The parts of the hub's answer that are needed; everything else in it is ignored.
#[derive(Deserialize)]
struct Answered {
    sha: Option<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Sibling {
    fn into_file(self) -> RemoteFile {
        let promise = match &self.lfs {
            Some(lfs) => lfs
                .sha256
                .clone()
                .filter(|digest| is_hex(digest, 64))
                .map(Promise::Sha256),
            None => self
                .blob_id
                .filter(|digest| is_hex(digest, 40))
                .map(Promise::GitBlob),
        };
        RemoteFile {
            name: self.rfilename,
            size: self.size.or_else(|| self.lfs.and_then(|lfs| lfs.size)),
            promise,
        }
    }
}

/// The repository in the terms of the hub's own client, which owns the rules of its addresses
/// and of its cache.
fn hf_repo(spec: &HubSpec) -> hf_hub::Repo {
    hf_hub::Repo::with_revision(
        spec.repo.clone(),
        hf_hub::RepoType::Model,
        spec.revision.clone(),
    )
}

/// The address of a file at a revision.
pub(crate) fn file_url(endpoint: &str, repo: &str, revision: &str, name: &str) -> String {
    let repo = hf_hub::Repo::with_revision(
        repo.to_owned(),
        hf_hub::RepoType::Model,
        revision.to_owned(),
    );
    format!(
        "{endpoint}/{}/resolve/{}/{}",
        repo.url(),
        repo.url_revision(),
        escape_path(name)
    )
}

/// Percent-encodes everything in a path that is not plain in an address.
fn escape_path(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Asks the hub.
pub(crate) fn ask(http: &Http, spec: &HubSpec, options: &Options) -> Result<Listing, Error> {
    let url = format!(
        "{}/api/{}?blobs=true",
        options.hub_endpoint,
        hf_repo(spec).api_url()
    );
    let mut failures = 0;
    let text = loop {
        let failure = match read_small(http, &url) {
            Ok(text) => break text,
            Err(failure) => failure,
        };
        failures += 1;
        if failure.retry != Retry::Soon || failures > options.retries {
            return Err(failure.error);
        }
        thread::sleep(options.retry_wait.saturating_mul(failures));
    };
    let answered: Answered = serde_json::from_slice(&text)
        .map_err(|e| bad_answer(&url, &format!("not a list of files: {e}")))?;
    let commit = answered
        .sha
        .filter(|sha| is_hex(sha, 40))
        .ok_or_else(|| bad_answer(&url, "no commit in the list of files"))?;
    let files = answered
        .siblings
        .into_iter()
        .map(Sibling::into_file)
        // A name that would leave the folder is not a model's file.
        .filter(|file| is_safe_file_name(&file.name))
        .collect();
    Ok(Listing { commit, files })
}

fn read_small(http: &Http, url: &str) -> Result<Vec<u8>, Failure> {
    let Answer::Content(reply) = http.get(url, 0)? else {
        return Err(bad_answer(url, "HTTP 416 to a request without a range").into());
    };
    let mut text = Vec::new();
    reply
        .body
        .take(MAX_LISTING + 1)
        .read_to_end(&mut text)
        .map_err(|e| Failure::broken(url, &e.to_string()))?;
    if text.len() as u64 > MAX_LISTING {
        return Err(bad_answer(url, "a list of files of more than 32 MiB").into());
    }
    Ok(text)
}

/// What an earlier run was told, if it was kept.
pub(crate) fn read_cached(path: &Path) -> Option<Listing> {
    let listing: Listing = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let sound = is_hex(&listing.commit, 40)
        && listing
            .files
            .iter()
            .all(|file| is_safe_file_name(&file.name));
    sound.then_some(listing)
}

/// The folder in the hub clients' own cache that holds this revision, with the files in it. It
/// may hold only some of the repository's files.
pub(crate) fn snapshot(hub_cache: &Path, spec: &HubSpec) -> Option<(PathBuf, Listing)> {
    let cache = hf_hub::Cache::new(hub_cache.to_path_buf()).repo(hf_repo(spec));
    let folder = if is_hex(&spec.revision, 40) {
        Some(cache.pointer_path(&spec.revision)).filter(|folder| folder.is_dir())
    } else {
        // The path of no file in particular is that of the snapshot.
        cache.get("")
    }?;
    let mut files = Vec::new();
    list_into(&folder, "", &mut files, 0);
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let commit = folder.file_name()?.to_str()?.to_owned();
    Some((folder, Listing { commit, files }))
}

fn list_into(folder: &Path, prefix: &str, files: &mut Vec<RemoteFile>, depth: usize) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let name = format!("{prefix}{name}");
        // Snapshots are made of links, so the entry's own type says nothing.
        match fs::metadata(entry.path()) {
            Ok(meta) if meta.is_dir() && depth < 2 => {
                list_into(&entry.path(), &format!("{name}/"), files, depth + 1);
            }
            Ok(meta) if meta.is_file() && is_safe_file_name(&name) => files.push(RemoteFile {
                name,
                size: Some(meta.len()),
                promise: None,
            }),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Pick;

    #[test]
    fn addresses_escape_revisions_and_names() {
        assert_eq!(
            file_url("http://h", "o/n", "refs/pr/1", "a b/ü#.gguf"),
            "http://h/o/n/resolve/refs%2Fpr%2F1/a%20b/%C3%BC%23.gguf"
        );
    }

    #[test]
    fn a_sibling_promises_its_lfs_digest_or_its_blob_id() {
        let parse = |text: &str| serde_json::from_str::<Sibling>(text).unwrap().into_file();
        let (sha, git) = ("a".repeat(64), "b".repeat(40));
        let large = parse(&format!(
            r#"{{"rfilename":"m","blobId":"{git}","lfs":{{"sha256":"{sha}","size":7}}}}"#
        ));
        assert_eq!(large.promise, Some(Promise::Sha256(sha)));
        assert_eq!(large.size, Some(7));
        let small = parse(&format!(r#"{{"rfilename":"c","size":3,"blobId":"{git}"}}"#));
        assert_eq!(small.promise, Some(Promise::GitBlob(git)));
        // Mirrors may leave everything out but the names.
        assert_eq!(parse(r#"{"rfilename":"x"}"#).promise, None);
    }

    #[test]
    fn a_cached_listing_with_unsafe_names_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("main.json");
        assert_eq!(read_cached(&path), None);
        for (name, good) in [("a.gguf", true), ("../a.gguf", false)] {
            let listing = Listing {
                commit: "c".repeat(40),
                files: vec![RemoteFile {
                    name: name.into(),
                    size: None,
                    promise: None,
                }],
            };
            fs::write(&path, serde_json::to_vec(&listing).unwrap()).unwrap();
            assert_eq!(read_cached(&path).is_some(), good, "{name}");
        }
    }

    #[test]
    fn a_snapshot_is_found_by_branch_and_by_commit() {
        let cache = tempfile::tempdir().unwrap();
        let commit = "d".repeat(40);
        let repo = cache.path().join("models--o--n");
        let folder = repo.join("snapshots").join(&commit);
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::create_dir_all(repo.join("refs")).unwrap();
        fs::write(repo.join("refs/main"), &commit).unwrap();
        fs::write(folder.join("sub/m.gguf"), "x").unwrap();
        for revision in ["main", &commit] {
            let spec = HubSpec {
                repo: "o/n".into(),
                revision: revision.to_owned(),
                pick: Pick::Any,
            };
            let (found, listing) = snapshot(cache.path(), &spec).unwrap();
            assert_eq!(listing.commit, commit);
            assert_eq!(listing.files[0].name, "sub/m.gguf");
            assert!(found.join(&listing.files[0].name).is_file());
        }
        let other = HubSpec {
            repo: "o/other".into(),
            revision: "main".into(),
            pick: Pick::Any,
        };
        assert!(snapshot(cache.path(), &other).is_none());
    }
}
