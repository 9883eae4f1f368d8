//! Process-wide counts of what the kernels cost: they carry over between machines where times do not.

use std::sync::atomic::{AtomicU64, Ordering};

static LAUNCHES: AtomicU64 = AtomicU64::new(0);
static PIPELINES: AtomicU64 = AtomicU64::new(0);
static UPLOADED: AtomicU64 = AtomicU64::new(0);
static READ: AtomicU64 = AtomicU64::new(0);
static SUBMITS: AtomicU64 = AtomicU64::new(0);

/// Counts since the process started; subtract two snapshots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Kernel launches, one dispatch each.
    pub dispatches: u64,
    /// Shader variants compiled to pipelines.
    pub pipelines: u64,
    /// Bytes of step buffers uploaded.
    pub uploaded: u64,
    /// Bytes read back.
    pub read: u64,
    /// Submissions to the adapter's queue: one for a recorded step, one for a flush, and two for
    /// a read through Burn's runtime, which submits what was launched and then the copy.
    pub submits: u64,
}

impl Counters {
    /// The counts as they stand.
    pub fn now() -> Self {
        Self {
            dispatches: LAUNCHES.load(Ordering::Relaxed),
            pipelines: PIPELINES.load(Ordering::Relaxed),
            uploaded: UPLOADED.load(Ordering::Relaxed),
            read: READ.load(Ordering::Relaxed),
            submits: SUBMITS.load(Ordering::Relaxed),
        }
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            dispatches: self.dispatches - earlier.dispatches,
            pipelines: self.pipelines - earlier.pipelines,
            uploaded: self.uploaded - earlier.uploaded,
            read: self.read - earlier.read,
            submits: self.submits - earlier.submits,
        }
    }
}

pub(crate) fn launches(count: usize) {
    LAUNCHES.fetch_add(count as u64, Ordering::Relaxed);
}

pub(crate) fn submits(count: u64) {
    SUBMITS.fetch_add(count, Ordering::Relaxed);
}

pub(crate) fn pipeline() {
    PIPELINES.fetch_add(1, Ordering::Relaxed);
}

/// Notes an upload of step data.
pub fn uploaded(bytes: usize) {
    UPLOADED.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// Notes a read of results.
pub fn read(bytes: usize) {
    READ.fetch_add(bytes as u64, Ordering::Relaxed);
}
