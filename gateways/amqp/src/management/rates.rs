//! How fast counters rise: each is remembered when it is shown, and compared with what it was when it was last shown.

use std::time::{Duration, Instant};

use dashmap::DashMap;
use serde_json::{Map, Value, json};

/// A counter that was shown less long ago keeps its rate.
const SAMPLE_AFTER: Duration = Duration::from_secs(5);

/// So many counters are remembered; beyond that they are forgotten, and begin anew.
const COUNTERS_MAX: usize = 200_000;

struct Sample {
    at: Instant,
    value: u64,
    per_second: f64,
}

/// Counters by their names.
#[derive(Default)]
pub struct Rates {
    samples: DashMap<String, Sample>,
}

impl Rates {
    /// How fast the counter of this name rises, per second, now that it is `value`.
    pub fn of(&self, name: String, value: u64) -> f64 {
        let now = Instant::now();
        if self.samples.len() > COUNTERS_MAX {
            self.samples.clear();
        }
        let mut sample = self.samples.entry(name).or_insert(Sample { at: now, value, per_second: 0.0 });
        let elapsed = now.duration_since(sample.at);
        if elapsed >= SAMPLE_AFTER || (sample.per_second == 0.0 && elapsed >= Duration::from_secs(1)) {
            // A counter that began anew has risen from zero.
            let risen = value.checked_sub(sample.value).unwrap_or(value);
            *sample = Sample { at: now, value, per_second: risen as f64 / elapsed.as_secs_f64() };
        }
        sample.per_second
    }

    /// Adds `name` and `name_details`, as the API shows counters.
    pub fn show(&self, to: &mut Map<String, Value>, of: &str, name: &str, value: u64) {
        to.insert(name.to_owned(), value.into());
        to.insert(format!("{name}_details"), json!({"rate": self.of(format!("{of}/{name}"), value)}));
    }
}
