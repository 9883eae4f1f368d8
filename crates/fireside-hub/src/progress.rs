//! How a caller hears what a long fetch is doing, and a terminal display of it.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// What is being done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Bytes come over the network.
    Download,
    /// Bytes are copied out of a package or from another cache on this machine.
    Extract,
    /// The bytes on disk are hashed.
    Verify,
}

impl Phase {
    /// The phase as a word for a progress line, such as `downloading`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Download => "downloading",
            Self::Extract => "extracting",
            Self::Verify => "verifying",
        }
    }
}

/// Receives the progress of a fetch.
///
/// Calls come from one thread at a time, in the order `begin`, any number of `advance`, `end`;
/// a `notice` may come at any time. `end` comes also when the phase failed.
pub trait Progress: Send + Sync {
    /// A phase starts on a file; `total` is its size in bytes where it is known.
    fn begin(&self, phase: Phase, file: &str, total: Option<u64>);
    /// `done` bytes of the phase are finished. It can fall when a transfer starts over.
    fn advance(&self, done: u64);
    /// The phase is over.
    fn end(&self);
    /// Something that a person should know, as one line without a full stop.
    fn notice(&self, message: &str);
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: Phase, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
    fn notice(&self, _: &str) {}
}

/// Shows a bar on stderr while stderr is a terminal; otherwise prints one line per download.
#[derive(Debug)]
pub struct Terminal {
    bar: Mutex<Option<ProgressBar>>,
    interactive: bool,
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Terminal {
    /// A display on this process's stderr.
    pub fn new() -> Self {
        Self {
            bar: Mutex::new(None),
            interactive: std::io::stderr().is_terminal(),
        }
    }

    fn with_bar<T>(&self, f: impl FnOnce(&mut Option<ProgressBar>) -> T) -> T {
        f(&mut self.bar.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Progress for Terminal {
    fn begin(&self, phase: Phase, file: &str, total: Option<u64>) {
        if !self.interactive {
            // Verifying is quick and local: a log needs only what may take minutes.
            if phase == Phase::Download {
                match total {
                    Some(total) => {
                        eprintln!("{} {file} ({})", phase.label(), HumanBytes(total));
                    }
                    None => eprintln!("{} {file}", phase.label()),
                }
            }
            return;
        }
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{msg} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{msg} {spinner} {bytes} {bytes_per_sec}",
            ),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(format!("{} {file}", phase.label()));
        bar.enable_steady_tick(Duration::from_millis(200));
        self.with_bar(|slot| *slot = Some(bar));
    }

    fn advance(&self, done: u64) {
        self.with_bar(|slot| {
            if let Some(bar) = slot {
                bar.set_position(done);
            }
        });
    }

    fn end(&self) {
        self.with_bar(|slot| {
            if let Some(bar) = slot.take() {
                bar.finish_and_clear();
            }
        });
    }

    fn notice(&self, message: &str) {
        self.with_bar(|slot| match slot {
            Some(bar) => bar.suspend(|| eprintln!("{message}")),
            None => eprintln!("{message}"),
        });
    }
}

/// Ends a phase when it leaves scope, so that an early return cannot leave a bar behind.
pub(crate) struct Running<'a>(&'a dyn Progress);

impl<'a> Running<'a> {
    pub(crate) fn begin(
        progress: &'a dyn Progress,
        phase: Phase,
        file: &str,
        total: Option<u64>,
    ) -> Self {
        progress.begin(phase, file, total);
        Self(progress)
    }

    pub(crate) fn advance(&self, done: u64) {
        self.0.advance(done);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
