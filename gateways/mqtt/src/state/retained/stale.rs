//! When a partition that nobody writes to is to be compacted all the same. Pure, time passed in.
//!
//! What has expired and what was deleted goes from the log when it is compacted, which happens after something was written there. Where
//! nobody writes, a *reminder* does: a message of no name, which retains nothing. It takes two compactions, a day apart, until
//! something is gone (a tombstone outlives what it deletes), so reminders go on for a while after the last of it was seen; a
//! gateway that starts sees what is still there.

/// So long nobody has written before a reminder is.
const QUIET_MS: i64 = 12 * 3_600_000;

/// So long after something was seen that is to go, it is gone: two compactions and a day between them, with time to spare.
const GONE_MS: i64 = 3 * 24 * 3_600_000;

/// What is known of each partition.
#[derive(Debug)]
pub struct Stale {
    partitions: Vec<Partition>,
}

#[derive(Clone, Copy, Debug)]
struct Partition {
    /// When something was last seen that is to go.
    seen_ms: Option<i64>,
    /// When it was last written to, by whomever.
    written_ms: i64,
}

impl Stale {
    pub fn new(partitions: usize) -> Stale {
        Stale { partitions: vec![Partition { seen_ms: None, written_ms: i64::MIN }; partitions] }
    }

    /// Something was written to a partition.
    pub fn written(&mut self, partition: u32, at_ms: i64) {
        if let Some(known) = self.partitions.get_mut(partition as usize) {
            known.written_ms = known.written_ms.max(at_ms);
        }
    }

    /// Something lies in a partition that is to go.
    pub fn seen(&mut self, partition: u32, now_ms: i64) {
        if let Some(known) = self.partitions.get_mut(partition as usize) {
            known.seen_ms = Some(now_ms);
        }
    }

    /// The partitions to which reminders are to be written now.
    pub fn due(&self, now_ms: i64) -> Vec<u32> {
        let is_due = |known: &Partition| {
            known.seen_ms.is_some_and(|seen_ms| now_ms.saturating_sub(seen_ms) < GONE_MS)
                && now_ms.saturating_sub(known.written_ms) >= QUIET_MS
        };
        (0..).zip(&self.partitions).filter(|(_, known)| is_due(known)).map(|(partition, _)| partition).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    #[test]
    fn where_something_is_to_go_and_nobody_writes_a_reminder_is_due() {
        let mut stale = Stale::new(2);
        assert!(stale.due(0).is_empty(), "there is nothing");
        stale.written(0, 0);
        stale.written(1, 0);
        stale.seen(1, HOUR_MS);
        assert!(stale.due(12 * HOUR_MS - 1).is_empty(), "somebody wrote");
        assert_eq!(stale.due(12 * HOUR_MS), [1]);
        // Older news change nothing.
        stale.written(1, -1);
        assert_eq!(stale.due(12 * HOUR_MS), [1]);
        stale.written(1, 12 * HOUR_MS);
        assert!(stale.due(24 * HOUR_MS - 1).is_empty());
    }

    #[test]
    fn reminders_end_when_all_must_be_gone() {
        let mut stale = Stale::new(1);
        stale.written(0, 0);
        stale.seen(0, 0);
        let mut reminders = 0;
        for hour in 0..1_000 {
            for partition in stale.due(hour * HOUR_MS) {
                reminders += 1;
                stale.written(partition, hour * HOUR_MS);
            }
        }
        assert_eq!(reminders, 5);
    }
}
