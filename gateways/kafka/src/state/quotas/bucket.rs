//! An allowance: what was used is paid back at the rate of the quota.
//!
//! Whoever was idle for ten seconds may use ten seconds' worth at once (Kafka measures rates over as long a time); who
//! uses more is in debt, and has to be silent until it is paid.

use std::time::Duration;

/// Seconds' worth that can be saved up: ten whole ones of Kafka's eleven windows (`quota.window.num`).
pub const SAVED_SECONDS: f64 = 10.0;

/// The longest silence: nobody waits for a year because of one mistyped number.
const SILENCE_MAX: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    saved: f64,
    at_ms: i64,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: f64, now_ms: i64) -> Self {
        Bucket { saved: rate * SAVED_SECONDS, at_ms: now_ms }
    }

    /// When it was last used, ms since the Unix epoch.
    pub fn used_ms(&self) -> i64 {
        self.at_ms
    }

    /// Takes an amount, whatever is there; returns for how long to be silent.
    pub fn take(&mut self, amount: f64, rate: f64, now_ms: i64) -> Duration {
        self.fill(rate, now_ms);
        self.saved -= amount;
        self.silence(rate)
    }

    /// As [`Bucket::take`], but the debt is never more than is paid in `silence_max`.
    pub fn take_bounded(&mut self, amount: f64, rate: f64, silence_max: Duration, now_ms: i64) -> Duration {
        self.fill(rate, now_ms);
        self.saved = (self.saved - amount).max(-rate * silence_max.as_secs_f64());
        self.silence(rate)
    }

    /// Takes an amount unless there is debt; then for how long there still is.
    pub fn take_if_allowed(&mut self, amount: f64, rate: f64, now_ms: i64) -> Result<(), Duration> {
        self.fill(rate, now_ms);
        match self.silence(rate) {
            Duration::ZERO => {
                self.saved -= amount;
                Ok(())
            }
            silence => Err(silence),
        }
    }

    fn fill(&mut self, rate: f64, now_ms: i64) {
        let passed_ms = now_ms.saturating_sub(self.at_ms).max(0);
        self.saved = (self.saved + passed_ms as f64 / 1000.0 * rate).min(rate * SAVED_SECONDS);
        self.at_ms = self.at_ms.max(now_ms);
    }

    fn silence(&self, rate: f64) -> Duration {
        match self.saved < 0.0 {
            true => Duration::try_from_secs_f64(-self.saved / rate).map_or(SILENCE_MAX, |time| time.min(SILENCE_MAX)),
            false => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debt_is_paid_at_the_rate() {
        let mut bucket = Bucket::new(100.0, 0);
        assert_eq!(bucket.take(1000.0, 100.0, 0), Duration::ZERO);
        assert_eq!(bucket.take(50.0, 100.0, 0), Duration::from_millis(500));
        assert_eq!(bucket.take_if_allowed(1.0, 100.0, 250), Err(Duration::from_millis(250)));
        assert_eq!(bucket.take_if_allowed(500.0, 100.0, 500), Ok(()));
        assert_eq!(bucket.take(0.0, 100.0, 500), Duration::from_secs(5));
        // A clock that goes back pays nothing; nothing is saved beyond ten seconds.
        assert_eq!(bucket.take(0.0, 100.0, 0), Duration::from_secs(5));
        assert_eq!(bucket.take(1000.0, 100.0, 1_000_000), Duration::ZERO);
        assert_eq!(bucket.take(1.0, 100.0, 1_000_000), Duration::from_millis(10));
        let mut bounded = Bucket::new(1.0, 0);
        assert_eq!(bounded.take_bounded(1000.0, 1.0, Duration::from_secs(1), 0), Duration::from_secs(1));
        assert_eq!(bounded.take_bounded(0.0, 1.0, Duration::from_secs(1), 1000), Duration::ZERO);
        // The quota was raised, then made nothing.
        assert_eq!(bucket.take(0.0, 1e9, 1_000_000), Duration::ZERO + Duration::from_nanos(1));
        assert_eq!(bucket.take(1.0, 1e-300, 1_000_000), SILENCE_MAX);
    }
}
