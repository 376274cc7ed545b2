//! Times by logarithm, so that a percentile costs no memory for each message.

/// Steps of a power of two: a percentile is right to less than one in a hundred.
const STEPS_BITS: u32 = 7;
const STEPS: usize = 1 << STEPS_BITS;

/// Counts of times in nanoseconds.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    most_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; STEPS * 64], total: 0, most_ns: 0 }
    }
}

impl Histogram {
    pub fn add(&mut self, ns: u64) {
        self.counts[bucket(ns)] += 1;
        self.total += 1;
        self.most_ns = self.most_ns.max(ns);
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Milliseconds that `part` (0 to 1) of the times do not exceed.
    pub fn percentile_ms(&self, part: f64) -> f64 {
        let wanted = ((self.total as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return (highest(at).min(self.most_ns)) as f64 / 1e6;
            }
        }
        0.0
    }

    pub fn most_ms(&self) -> f64 {
        self.most_ns as f64 / 1e6
    }
}

fn bucket(ns: u64) -> usize {
    let bits = 64 - ns.leading_zeros();
    let shift = bits.saturating_sub(STEPS_BITS + 1);
    ((shift as usize) << STEPS_BITS) + (ns >> shift) as usize
}

/// The highest time of a bucket.
fn highest(at: usize) -> u64 {
    let shift = (at >> STEPS_BITS).saturating_sub(1) as u32;
    let base = (at - ((shift as usize) << STEPS_BITS)) as u64;
    ((base + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_the_bucket_that_says_so() {
        for ns in (0..4_000).chain([1 << 20, (1 << 33) + 12_345, 1 << 50]) {
            let top = highest(bucket(ns));
            assert!(top >= ns && top - ns <= ns / STEPS as u64 + 1, "{ns} is said to be {top}");
        }
    }

    #[test]
    fn percentiles() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|ms| histogram.add(ms * 1_000_000));
        for (part, ms) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            let got = histogram.percentile_ms(part);
            assert!((got - ms).abs() <= ms / 100.0, "{part}: {got}");
        }
    }
}
