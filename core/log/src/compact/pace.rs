//! How fast compaction goes: it must leave the disk and the processor to those who wait for answers.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Told when the engine stops.
#[derive(Default)]
pub struct Stopping {
    stopping: Mutex<bool>,
    changed: Condvar,
}

impl Stopping {
    pub fn stop(&self) {
        *self.stopping.lock() = true;
        self.changed.notify_all();
    }

    pub fn is_stopping(&self) -> bool {
        *self.stopping.lock()
    }

    /// Waits until a time. True: the engine stops.
    pub fn wait_until(&self, until: Instant) -> bool {
        let mut stopping = self.stopping.lock();
        while !*stopping && !self.changed.wait_until(&mut stopping, until).timed_out() {}
        *stopping
    }
}

/// Spends bytes at a rate.
pub struct Pace<'a> {
    stopping: &'a Stopping,
    /// 0: as fast as it goes.
    bytes_per_second: u64,
    free_at: Instant,
}

impl<'a> Pace<'a> {
    pub fn new(stopping: &'a Stopping, bytes_per_second: u64) -> Pace<'a> {
        Pace { stopping, bytes_per_second, free_at: Instant::now() }
    }

    /// So many bytes were read or written: waits until the next may be. True: the engine stops.
    pub fn spend(&mut self, bytes: u64) -> bool {
        if self.bytes_per_second == 0 {
            return self.stopping.is_stopping();
        }
        // What was not used before is not made up for.
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        self.free_at = self.free_at.max(Instant::now()) + takes;
        self.stopping.wait_until(self.free_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time_and_a_stop_ends_the_wait() {
        let stopping = Stopping::default();
        let begin = Instant::now();
        let mut pace = Pace::new(&stopping, 1_000_000);
        assert!(!(0..10).any(|_| pace.spend(2000)));
        assert!(begin.elapsed() >= Duration::from_millis(19));
        assert!(!Pace::new(&stopping, 0).spend(u64::MAX));
        stopping.stop();
        assert!(pace.spend(1 << 32));
        assert!(Pace::new(&stopping, 0).spend(1));
    }
}
