//! A lock on a folder of the cache, so that two processes do not fetch into it at once.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use crate::error::Error;
use crate::progress::Progress;

/// Holds a folder until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Makes the folder if need be and waits until no other process holds it.
    ///
    /// The lock file stays behind: deleting it would let two processes hold different files of
    /// the same name. A file system without locks is used without one.
    pub(crate) fn acquire(folder: &Path, progress: &dyn Progress) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let path = folder.join(".lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        let held = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                progress.notice(&format!(
                    "waiting for another process that fetches into `{}`",
                    folder.display()
                ));
                file.lock()
            }
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        match held {
            Err(error) if error.kind() != ErrorKind::Unsupported => {
                Err(Error::io("lock", &path)(error))
            }
            _ => Ok(Self { _file: file }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn only_one_holds_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let lock = FolderLock::acquire(folder.path(), &Silent).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
    }
}
