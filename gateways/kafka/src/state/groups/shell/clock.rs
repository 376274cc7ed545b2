//! The time that groups are given.

use std::time::Duration;

use tokio::time::Instant;

use crate::now_ms;

/// Milliseconds since the Unix epoch that never go back: the wall clock's at the start, and what passed since.
pub(super) struct Clock {
    start: Instant,
    start_ms: i64,
}

impl Clock {
    pub(super) fn start() -> Self {
        Clock { start: Instant::now(), start_ms: now_ms() }
    }

    pub(super) fn now_ms(&self) -> i64 {
        let passed_ms = i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.start_ms.saturating_add(passed_ms)
    }

    /// The moment at which [`Clock::now_ms`] reaches `at_ms`.
    pub(super) fn instant_of(&self, at_ms: i64) -> Instant {
        self.start + Duration::from_millis(u64::try_from(at_ms.saturating_sub(self.start_ms)).unwrap_or(0))
    }
}
