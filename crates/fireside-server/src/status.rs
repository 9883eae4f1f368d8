//! Whether the server can answer, told without asking the engine.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fireside_openai::{ApiError, ErrorKind};

const LOADING: u8 = 0;
const READY: u8 = 1;
const DEAD: u8 = 2;

/// The state of the engine's thread and of the server.
#[derive(Debug)]
pub(crate) struct Status {
    phase: AtomicU8,
    draining: AtomicBool,
    start: Instant,
    /// Milliseconds from `start` to the beginning of the step that runs, and one; 0 between steps.
    step: AtomicU64,
    reason: Mutex<String>,
}

impl Status {
    pub(crate) fn new() -> Self {
        Self {
            phase: AtomicU8::new(LOADING),
            draining: AtomicBool::new(false),
            start: Instant::now(),
            step: AtomicU64::new(0),
            reason: Mutex::new(String::new()),
        }
    }

    pub(crate) fn loading(&self) {
        self.phase.store(LOADING, Ordering::Release);
    }

    pub(crate) fn ready(&self) {
        self.phase.store(READY, Ordering::Release);
    }

    /// The engine is gone for good.
    pub(crate) fn dead(&self, reason: String) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
        self.phase.store(DEAD, Ordering::Release);
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn step_begins(&self) {
        let since = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.step.store(since.saturating_add(1), Ordering::Release);
    }

    pub(crate) fn step_ends(&self) {
        self.step.store(0, Ordering::Release);
    }

    /// Whether the process is of any use: false once the engine is gone for good.
    pub(crate) fn alive(&self) -> Result<(), ApiError> {
        if self.phase.load(Ordering::Acquire) != DEAD {
            return Ok(());
        }
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        Err(ApiError::new(
            ErrorKind::Unavailable,
            format!("the engine has ended: {reason}"),
        )
        .with_code("engine_dead"))
    }

    /// Whether a request could be taken now, but for full queues.
    pub(crate) fn open(&self) -> Result<(), ApiError> {
        self.alive()?;
        let unavailable = |message: &str| ApiError::new(ErrorKind::Unavailable, message);
        if self.draining.load(Ordering::Acquire) {
            return Err(
                unavailable("the server is ending and takes no new requests").with_code("draining"),
            );
        }
        if self.phase.load(Ordering::Acquire) == LOADING {
            return Err(unavailable("the model is still loading; try again").with_code("loading"));
        }
        Ok(())
    }

    /// Whether new requests should be sent here.
    pub(crate) fn well(&self, stuck_after: Duration) -> Result<(), ApiError> {
        self.open()?;
        let began = self.step.load(Ordering::Acquire);
        let age = self
            .start
            .elapsed()
            .saturating_sub(Duration::from_millis(began.saturating_sub(1)));
        if began > 0 && age > stuck_after {
            return Err(ApiError::new(
                ErrorKind::Unavailable,
                format!("a step has been running for {} s", age.as_secs()),
            )
            .with_code("stuck"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(result: Result<(), ApiError>) -> Option<&'static str> {
        result.err().and_then(|error| error.code)
    }

    #[test]
    fn readiness_follows_loading_draining_stuck_steps_and_death() {
        let status = Status::new();
        let long = Duration::from_secs(3600);
        assert_eq!(code(status.well(long)), Some("loading"));
        assert_eq!(code(status.alive()), None);
        status.ready();
        assert_eq!(code(status.well(long)), None);
        status.step_begins();
        assert_eq!(code(status.well(long)), None);
        assert_eq!(code(status.open()), None);
        status.step_ends();
        assert_eq!(code(status.well(Duration::ZERO)), None);
        status.drain();
        assert_eq!(code(status.well(long)), Some("draining"));
        assert_eq!(code(status.alive()), None);
        status.dead("the device was lost".into());
        assert_eq!(code(status.alive()), Some("engine_dead"));
        let message = status.alive().unwrap_err().message;
        assert_eq!(message, "the engine has ended: the device was lost");
    }
}
