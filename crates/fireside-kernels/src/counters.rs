//! Process-wide counts of what the kernels cost: they carry over between machines where times do not.

use std::sync::atomic::{AtomicU64, Ordering};

static LAUNCHES: AtomicU64 = AtomicU64::new(0);
static PIPELINES: AtomicU64 = AtomicU64::new(0);
static UPLOADED: AtomicU64 = AtomicU64::new(0);
static READ: AtomicU64 = AtomicU64::new(0);
static SUBMITS: AtomicU64 = AtomicU64::new(0);
static AHEAD: AtomicU64 = AtomicU64::new(0);
static HOST_NANOS: AtomicU64 = AtomicU64::new(0);

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
    /// Steps that were handed to the adapter before the results of those before them were read, and then
    /// asked for.
    pub ahead: u64,
    /// Nanoseconds that the host took to lay recorded steps out and hand them over, without recording them.
    pub host_nanos: u64,
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
            ahead: AHEAD.load(Ordering::Relaxed),
            host_nanos: HOST_NANOS.load(Ordering::Relaxed),
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
            ahead: self.ahead - earlier.ahead,
            host_nanos: self.host_nanos - earlier.host_nanos,
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

/// Notes a step that ran ahead of its being asked for.
pub fn ahead() {
    AHEAD.fetch_add(1, Ordering::Relaxed);
}

/// Notes time that the host took for a step.
pub fn host(time: std::time::Duration) {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    HOST_NANOS.fetch_add(nanos, Ordering::Relaxed);
}

/// Notes a read of results.
pub fn read(bytes: usize) {
    READ.fetch_add(bytes as u64, Ordering::Relaxed);
}
