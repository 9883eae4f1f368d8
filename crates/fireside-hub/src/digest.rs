//! Digests of files: SHA-256 for content, and git's SHA-1 of a blob for what the hub keeps in git.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::progress::{Phase, Progress, Running};

/// The block in which files are read and copied, in bytes.
pub(crate) const BLOCK: usize = 256 * 1024;

/// Lower-case hexadecimal of some bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// True if the text is `digits` lower-case hexadecimal digits.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// SHA-256 of a file in hexadecimal, with progress.
pub(crate) fn sha256_file(path: &Path, progress: &dyn Progress) -> Result<String, Error> {
    let mut hasher = Sha256::new();
    read_through(path, progress, |block| hasher.update(block))?;
    Ok(hex(&hasher.finalize()))
}

/// The id that git gives a blob with the file's content, in hexadecimal.
pub(crate) fn git_blob_file(path: &Path, progress: &dyn Progress) -> Result<String, Error> {
    let size = std::fs::metadata(path)
        .map_err(Error::io("read", path))?
        .len();
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {size}\0"));
    read_through(path, progress, |block| hasher.update(block))?;
    Ok(hex(&hasher.finalize()))
}

fn read_through(
    path: &Path,
    progress: &dyn Progress,
    mut visit: impl FnMut(&[u8]),
) -> Result<(), Error> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let total = file.metadata().map_err(Error::io("read", path))?.len();
    let name = path
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let running = Running::begin(progress, Phase::Verify, &name, Some(total));
    let mut block = vec![0; BLOCK];
    let mut done = 0u64;
    loop {
        let read = file.read(&mut block).map_err(Error::io("read", path))?;
        if read == 0 {
            return Ok(());
        }
        visit(&block[..read]);
        done = done.saturating_add(read as u64);
        running.advance(done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn digests_agree_with_published_values() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-2's example of SHA-256, and `printf abc | git hash-object --stdin`.
        assert_eq!(
            sha256_file(&path, &Silent).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            git_blob_file(&path, &Silent).unwrap(),
            "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f"
        );
    }

    #[test]
    fn only_lower_case_digits_of_the_right_count_are_hex() {
        assert!(is_hex("00ff", 4));
        assert!(!is_hex("00FF", 4));
        assert!(!is_hex("00f", 4));
        assert!(!is_hex("00fg", 4));
    }
}
