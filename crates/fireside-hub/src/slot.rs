//! One file's place in the cache, and the record that says whether it is still the file it was.
//!
//! A file `NAME` lies beside `NAME.stamp` (its size, modification time and SHA-256 when it was
//! verified) and, while it is on its way, `NAME.part` and `NAME.part.json`. Nothing but a
//! verified `NAME.part` is ever renamed to `NAME`, and the stamp is written first, so a file in
//! place always has one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::digest::{git_blob_file, sha256_file};
use crate::error::Error;
use crate::progress::Progress;

/// A digest that some source promised for a file, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Promise {
    Sha256(String),
    /// The SHA-1 that git gives the file as a blob.
    GitBlob(String),
}

/// What is known of a file before it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expect {
    pub(crate) size: Option<u64>,
    pub(crate) promise: Option<Promise>,
}

/// What was true of a file when it was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    /// Modification time as seconds and nanoseconds since 1970.
    modified: (u64, u32),
    sha256: String,
    /// The git blob id, if that is what was promised.
    #[serde(default)]
    git_blob: Option<String>,
}

impl Stamp {
    /// The stamp that the file at `path` would have with these digests.
    fn of(path: &Path, sha256: String, git_blob: Option<String>) -> Result<Self, Error> {
        let (size, modified) = size_and_time(path)?;
        Ok(Self {
            size,
            modified,
            sha256,
            git_blob,
        })
    }

    fn keeps(&self, expect: &Expect) -> bool {
        expect.size.is_none_or(|size| size == self.size)
            && match &expect.promise {
                None => true,
                Some(Promise::Sha256(digest)) => *digest == self.sha256,
                Some(Promise::GitBlob(digest)) => Some(digest) == self.git_blob.as_ref(),
            }
    }
}

fn size_and_time(path: &Path) -> Result<(u64, (u64, u32)), Error> {
    let meta = fs::metadata(path).map_err(Error::io("read", path))?;
    let modified = meta
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map_or((0, 0), |time| (time.as_secs(), time.subsec_nanos()));
    Ok((meta.len(), modified))
}

/// The place of one file.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    path: PathBuf,
}

impl Slot {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's name without its folder.
    pub(crate) fn name(&self) -> String {
        self.path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = OsString::from(self.path.as_os_str());
        name.push(ending);
        PathBuf::from(name)
    }

    /// Where a download of the file grows.
    pub(crate) fn part(&self) -> PathBuf {
        self.beside(".part")
    }

    /// What the partial download came from.
    pub(crate) fn part_state(&self) -> PathBuf {
        self.beside(".part.json")
    }

    fn stamp_path(&self) -> PathBuf {
        self.beside(".stamp")
    }

    fn stamp(&self) -> Option<Stamp> {
        serde_json::from_slice(&fs::read(self.stamp_path()).ok()?).ok()
    }

    /// The SHA-256 of the file if it is in place and unchanged since it was verified.
    pub(crate) fn stamped_sha256(&self) -> Option<String> {
        let stamp = self.stamp()?;
        let now = size_and_time(&self.path).ok()?;
        (now == (stamp.size, stamp.modified)).then_some(stamp.sha256)
    }

    /// True if the file is in place, unchanged, and what is expected. Reads two small files and
    /// needs no lock.
    pub(crate) fn is_good(&self, expect: &Expect) -> bool {
        self.stamped_sha256().is_some() && self.stamp().is_some_and(|stamp| stamp.keeps(expect))
    }

    /// As [`Slot::is_good`], but a file whose stamp does not match is hashed again: if it is
    /// right it gets a new stamp, else it is deleted with a notice. Call it with the lock held.
    pub(crate) fn repair(&self, expect: &Expect, progress: &dyn Progress) -> Result<bool, Error> {
        if self.is_good(expect) {
            return Ok(true);
        }
        if !self.path.exists() {
            return Ok(false);
        }
        let expect = match (&expect.promise, self.stamp()) {
            (None, Some(stamp)) => Expect {
                size: expect.size.or(Some(stamp.size)),
                promise: Some(Promise::Sha256(stamp.sha256)),
            },
            _ => expect.clone(),
        };
        let fault = match (
            &expect.promise,
            verify(&self.path, &expect, "cache", progress),
        ) {
            // Without any digest to hold it against, a file of unknown origin is not trusted.
            (None, _) => "has no record of what it should be".to_owned(),
            (Some(_), Ok(digests)) => {
                // A cache that cannot be written is still good to read.
                let _ = self.write_stamp(&self.path, digests);
                return Ok(true);
            }
            (Some(_), Err(Error::Size { .. } | Error::Checksum { .. })) => "is damaged".to_owned(),
            (Some(_), Err(error)) => return Err(error),
        };
        progress.notice(&format!(
            "the cached `{}` {fault}; it is fetched again",
            self.path.display()
        ));
        remove(&self.stamp_path())?;
        remove(&self.path)?;
        Ok(false)
    }

    /// Puts a verified file in place of the slot, in one step for every reader.
    pub(crate) fn publish(&self, verified: &Path, digests: Digests) -> Result<(), Error> {
        self.write_stamp(verified, digests)?;
        fs::rename(verified, &self.path).map_err(Error::io("rename", verified))?;
        self.discard_part()
    }

    /// Removes a partial download, if there is one.
    pub(crate) fn discard_part(&self) -> Result<(), Error> {
        remove(&self.part_state())?;
        remove(&self.part())
    }

    fn write_stamp(&self, file: &Path, digests: Digests) -> Result<(), Error> {
        let stamp = Stamp::of(file, digests.sha256, digests.git_blob)?;
        write_json(&self.stamp_path(), &stamp)
    }
}

/// Digests that were computed from a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) sha256: String,
    pub(crate) git_blob: Option<String>,
}

/// Hashes a file and holds it against what is expected; `origin` names its source in the error.
pub(crate) fn verify(
    path: &Path,
    expect: &Expect,
    origin: &str,
    progress: &dyn Progress,
) -> Result<Digests, Error> {
    let file = || {
        let name = path.file_name().unwrap_or(path.as_os_str());
        let name = name.to_string_lossy();
        name.strip_suffix(".part").unwrap_or(&name).to_owned()
    };
    let (actual, _) = size_and_time(path)?;
    if let Some(expected) = expect.size.filter(|&expected| expected != actual) {
        return Err(Error::Size {
            file: file(),
            origin: origin.to_owned(),
            expected,
            actual,
        });
    }
    let sha256 = sha256_file(path, progress)?;
    let (expected, actual, git_blob) = match &expect.promise {
        None => (None, String::new(), None),
        Some(Promise::Sha256(digest)) => (Some(digest), sha256.clone(), None),
        Some(Promise::GitBlob(digest)) => {
            let found = git_blob_file(path, progress)?;
            (Some(digest), found.clone(), Some(found))
        }
    };
    match expected {
        Some(expected) if *expected != actual => Err(Error::Checksum {
            file: file(),
            origin: origin.to_owned(),
            expected: expected.clone(),
            actual,
        }),
        _ => Ok(Digests { sha256, git_blob }),
    }
}

/// Writes a small JSON file so that a reader sees the old content or the new, never a part.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let text = serde_json::to_vec(value).map_err(|e| Error::Io {
        action: "write",
        path: path.to_path_buf(),
        reason: e.into(),
    })?;
    let mut name = OsString::from(path.as_os_str());
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    File::create(&temporary)
        .and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(Error::io("write", path))
}

/// Removes a file; that it is not there is no error.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use tempfile::TempDir;

    fn expect(content: &str) -> Expect {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, content).unwrap();
        Expect {
            size: Some(content.len() as u64),
            promise: Some(Promise::Sha256(sha256_file(&path, &Silent).unwrap())),
        }
    }

    fn published(content: &str) -> (TempDir, Slot) {
        let folder = tempfile::tempdir().unwrap();
        let slot = Slot::new(folder.path().join("model.gguf"));
        fs::write(slot.part(), content).unwrap();
        let digests = verify(&slot.part(), &Expect::default(), "test", &Silent).unwrap();
        slot.publish(&slot.part(), digests).unwrap();
        (folder, slot)
    }

    #[test]
    fn a_published_file_is_good_without_hashing() {
        let (_folder, slot) = published("weights");
        assert!(slot.is_good(&expect("weights")));
        assert!(!slot.part().exists());
        assert!(!slot.is_good(&expect("WEIGHTS")), "another digest");
    }

    #[test]
    fn a_truncated_or_poisoned_file_is_deleted() {
        for damage in ["weig", "poisons"] {
            let (_folder, slot) = published("weights");
            fs::write(slot.path(), damage).unwrap();
            // File systems count time in ticks, and this test is faster than one.
            File::options()
                .write(true)
                .open(slot.path())
                .and_then(|file| file.set_modified(UNIX_EPOCH))
                .unwrap();
            assert!(!slot.repair(&expect("weights"), &Silent).unwrap());
            assert!(!slot.path().exists());
        }
    }

    #[test]
    fn a_touched_file_gets_a_new_stamp() {
        let (_folder, slot) = published("weights");
        let file = File::options().write(true).open(slot.path()).unwrap();
        file.set_modified(UNIX_EPOCH + std::time::Duration::from_secs(1))
            .unwrap();
        assert!(!slot.is_good(&expect("weights")));
        assert!(slot.repair(&expect("weights"), &Silent).unwrap());
        assert!(slot.is_good(&expect("weights")));
    }

    #[test]
    fn a_file_without_a_stamp_is_trusted_only_for_its_digest() {
        let (_folder, slot) = published("weights");
        fs::remove_file(slot.stamp_path()).unwrap();
        assert!(slot.repair(&expect("weights"), &Silent).unwrap());
        fs::remove_file(slot.stamp_path()).unwrap();
        assert!(!slot.repair(&Expect::default(), &Silent).unwrap());
        assert!(!slot.path().exists());
    }

    #[test]
    fn a_part_is_never_good() {
        let folder = tempfile::tempdir().unwrap();
        let slot = Slot::new(folder.path().join("model.gguf"));
        fs::write(slot.part(), "weights").unwrap();
        assert!(!slot.repair(&expect("weights"), &Silent).unwrap());
    }

    #[test]
    fn a_git_blob_promise_is_held() {
        let (_folder, slot) = published("abc");
        let promise = |id: &str| Expect {
            size: None,
            promise: Some(Promise::GitBlob(id.into())),
        };
        let right = promise("f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f");
        assert!(slot.repair(&right, &Silent).unwrap());
        assert!(slot.is_good(&right));
        assert!(!slot.repair(&promise(&"0".repeat(40)), &Silent).unwrap());
    }
}
