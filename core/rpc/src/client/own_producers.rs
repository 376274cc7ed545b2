//! Producers of the client's own, for batches that come without one, so that an append that a break finds in flight can be
//! sent again and is not kept twice.
//!
//! A producer has one batch in flight at a time, so appends need no order among each other; those to one partition that
//! overlap each take another. One whose batch was not surely kept is never used again: which sequence the core has
//! seen last is not known. Ids are random numbers below -1, where no protocol's own are.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use codec_record::Producer;
use parking_lot::Mutex;

use crate::PartitionId;

/// A producer that was not used for so long is given up, well before the core forgets it.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// After so many producers taken, those that are idle for too long are looked for.
const SWEEP_EVERY: u32 = 4096;

/// All ids are below this; -1 says that there is none.
const IDS_BEFORE: i64 = -1;

#[derive(Default)]
pub struct OwnProducers {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those with nothing in flight, the last used at the end.
    free: HashMap<PartitionId, Vec<Free>>,
    taken: u32,
}

struct Free {
    id: i64,
    /// The next.
    sequence: i32,
    since: Instant,
}

/// A producer with a batch in flight.
#[derive(Debug)]
pub struct Own {
    partition: PartitionId,
    pub producer: Producer,
    /// After the batch.
    next: i32,
}

impl OwnProducers {
    /// A producer for a batch of `count` records.
    pub fn take(&self, partition: PartitionId, count: u32, now: Instant) -> Own {
        let mut state = self.state.lock();
        state.taken += 1;
        if state.taken == SWEEP_EVERY {
            state.sweep(now);
        }
        let usable = |free: &Free| now.saturating_duration_since(free.since) < IDLE_MAX;
        let free = state.free.get_mut(&partition).and_then(Vec::pop).filter(usable);
        // A count beyond the range of sequences is no batch's; the core refuses it.
        let after = |sequence: i32| sequence.checked_add_unsigned(count);
        let (id, sequence, next) = match free.and_then(|free| Some((free.id, free.sequence, after(free.sequence)?))) {
            Some(found) => found,
            None => (new_id(), 0, after(0).unwrap_or(i32::MAX)),
        };
        Own { partition, producer: Producer { id, epoch: 0, sequence }, next }
    }

    /// The batch was kept: the producer can have the next.
    pub fn kept(&self, own: Own, now: Instant) {
        let free = Free { id: own.producer.id, sequence: own.next, since: now };
        self.state.lock().free.entry(own.partition).or_default().push(free);
    }
}

impl State {
    fn sweep(&mut self, now: Instant) {
        self.taken = 0;
        self.free.retain(|_, free| {
            free.retain(|free| now.saturating_duration_since(free.since) < IDLE_MAX);
            !free.is_empty()
        });
    }
}

/// An id that nobody else has: 62 random bits, from the seeds of the standard library's hash maps.
fn new_id() -> i64 {
    let random = RandomState::new().hash_one(0) >> 2;
    IDS_BEFORE - 1 - random as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TopicId;

    const PARTITION: PartitionId = PartitionId { topic: TopicId(1), index: 0 };

    #[test]
    fn a_producer_goes_on_after_what_was_kept_and_never_after_what_was_not() {
        let own = OwnProducers::default();
        let now = Instant::now();
        let first = own.take(PARTITION, 3, now);
        let beside = own.take(PARTITION, 1, now);
        assert!(first.producer.id < IDS_BEFORE && beside.producer.id < IDS_BEFORE);
        assert_ne!(first.producer.id, beside.producer.id, "one batch in flight each");
        let id = first.producer.id;
        own.kept(first, now);
        let next = own.take(PARTITION, 1, now);
        assert_eq!((next.producer.id, next.producer.sequence), (id, 3));
        assert_ne!(own.take(PARTITION, 1, now).producer.id, id);
    }

    #[test]
    fn idle_and_exhausted_producers_are_given_up() {
        let own = OwnProducers::default();
        let now = Instant::now();
        let first = own.take(PARTITION, i32::MAX as u32, now);
        let id = first.producer.id;
        own.kept(first, now);
        let next = own.take(PARTITION, 1, now);
        assert_ne!(next.producer.id, id, "its sequences are used up");
        let id = next.producer.id;
        own.kept(next, now);
        let later = own.take(PARTITION, 1, now + IDLE_MAX);
        assert_ne!(later.producer.id, id);
        own.kept(later, now);
        for _ in 0..SWEEP_EVERY {
            own.take(PartitionId { topic: TopicId(2), index: 0 }, 1, now + IDLE_MAX);
        }
        assert!(own.state.lock().free.is_empty());
    }
}
