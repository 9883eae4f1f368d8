//! Tests of whole searches, against a hub on this machine and a stand-in for pip.

mod hub;
mod known;
#[cfg(unix)]
mod pip;
mod server;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use crate::options::Options;
use crate::progress::{Phase, Progress};

/// Keeps what a person would have been told.
#[derive(Default)]
pub(crate) struct Listener {
    pub(crate) notices: Mutex<Vec<String>>,
    /// Every phase with its last position.
    pub(crate) phases: Mutex<Vec<Heard>>,
}

/// A phase, its file, the bytes done and the total.
pub(crate) type Heard = (Phase, String, u64, Option<u64>);

impl Progress for Listener {
    fn begin(&self, phase: Phase, file: &str, total: Option<u64>) {
        let entry = (phase, file.to_owned(), 0, total);
        self.phases.lock().unwrap().push(entry);
    }

    fn advance(&self, done: u64) {
        self.phases.lock().unwrap().last_mut().unwrap().2 = done;
    }

    fn end(&self) {}

    fn notice(&self, message: &str) {
        assert!(!message.contains('\n'), "{message}");
        self.notices.lock().unwrap().push(message.to_owned());
    }
}

impl Listener {
    pub(crate) fn noticed(&self, part: &str) -> bool {
        let notices = self.notices.lock().unwrap();
        notices.iter().any(|notice| notice.contains(part))
    }
}

/// An empty cache, options that use it and no wait, and who listens.
pub(crate) struct Bench {
    pub(crate) cache: TempDir,
    pub(crate) options: Options,
    pub(crate) listener: Arc<Listener>,
}

/// A cache in front of the hub at `endpoint`.
pub(crate) fn bench(endpoint: &str) -> Bench {
    let cache = tempfile::tempdir().unwrap();
    let listener = Arc::new(Listener::default());
    let mut options = Options::new(cache.path());
    options.hub_endpoint = endpoint.to_owned();
    options.retry_wait = Duration::ZERO;
    options.python = Some("/nonexistent/python".into());
    options.progress = listener.clone();
    Bench {
        cache,
        options,
        listener,
    }
}

/// An address at which nothing listens: the port is reserved for a service nobody runs, and is
/// never handed out to a listener that takes any free one.
pub(crate) fn nobody() -> String {
    "http://127.0.0.1:1".to_owned()
}
