//! What a cold read brought beyond what was leased of it. Who acquires on finds it in memory: a backlog that has left
//! memory is read once, and not anew for every few messages.
//!
//! A map keeps at most one run of batches, as they were read, with what was aborted among them then: compaction may
//! rewrite them meanwhile, which makes them old, not wrong.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use codec_record::Batch;
use core_rpc::{AbortedTransaction, Fetched, Isolation};
use parking_lot::Mutex;

use super::LeaseSlot;

/// How much is read for a map whose batches are not in memory, unless a single batch is larger.
pub const READ_BYTES: u32 = 128 << 10;

/// So many maps may keep a run; then the one that began first loses its own.
const RUNS_MAX: usize = 256;

/// Batches without a gap, but for what compaction had taken.
pub struct Ahead {
    first: u64,
    isolation: Isolation,
    batches: Vec<Batch>,
    aborted: Vec<AbortedTransaction>,
    /// Asked for since [`Runs::expire`] looked.
    used: bool,
}

/// The maps that keep a run.
#[derive(Default)]
pub struct Runs {
    /// In the order in which they began to. Locked before a map.
    slots: Mutex<VecDeque<Weak<LeaseSlot>>>,
}

impl Ahead {
    /// What was read from an offset on.
    pub fn new(first: u64, isolation: Isolation, fetched: &Fetched) -> Ahead {
        let (batches, aborted) = (fetched.batches.clone(), fetched.aborted.clone());
        Ahead { first, isolation, batches, aborted, used: true }
    }

    /// The batches from the one that contains an offset on, and what is aborted among them. None: it must be read.
    pub fn read(&mut self, offset: u64, isolation: Isolation) -> Option<(&[Batch], &[AbortedTransaction])> {
        let end = self.batches.last()?.header.next_offset();
        if isolation != self.isolation || !(self.first..end).contains(&offset) {
            return None;
        }
        self.used = true;
        let at = self.batches.partition_point(|batch| batch.header.next_offset() <= offset);
        Some((&self.batches[at..], &self.aborted))
    }
}

impl Runs {
    /// Has a map keep a run in place of the one it had.
    pub fn keep(&self, slot: &Arc<LeaseSlot>, ahead: Ahead) {
        let had_one = {
            let mut state = slot.lock();
            if state.removed {
                return;
            }
            state.ahead.replace(ahead).is_some()
        };
        if had_one {
            return;
        }
        let mut slots = self.slots.lock();
        slots.push_back(Arc::downgrade(slot));
        while slots.len() > RUNS_MAX {
            if let Some(oldest) = slots.pop_front().and_then(|slot| slot.upgrade()) {
                oldest.lock().ahead = None;
            }
        }
    }

    /// Drops the runs that nobody has read since it was called last.
    pub fn expire(&self) {
        self.slots.lock().retain(|slot| {
            let Some(slot) = slot.upgrade() else { return false };
            let mut state = slot.lock();
            let used = state.ahead.as_mut().is_some_and(|ahead| std::mem::take(&mut ahead.used));
            if !used {
                state.ahead = None;
            }
            used
        });
    }
}

#[cfg(test)]
mod tests {
    use codec_record::FormatId;
    use core_rpc::{Bounds, GroupName, PartitionId, TopicId};

    use super::*;
    use crate::leases::Leases;

    fn slot(leases: &Leases, index: u32) -> Arc<LeaseSlot> {
        let group = GroupName { namespace: "n".to_owned(), group: "g".to_owned() };
        leases.slot(&group, PartitionId { topic: TopicId(1), index }, |_| {})
    }

    fn run(first: u64, counts: &[(u64, u32)]) -> Ahead {
        let batch = |(base_offset, count): &(u64, u32)| {
            let mut batch = Batch::new(FormatId::RAW, *count, -1, "payload".into());
            batch.header.base_offset = *base_offset;
            batch
        };
        let bounds = Bounds { start_offset: 0, stable_offset: 100, end_offset: 100 };
        let fetched = Fetched { bounds, batches: counts.iter().map(batch).collect(), aborted: Vec::new() };
        Ahead::new(first, Isolation::All, &fetched)
    }

    #[test]
    fn a_run_answers_for_its_own_offsets() {
        // Compaction took 5 to 7, and what was asked for first.
        let mut ahead = run(2, &[(3, 2), (8, 1), (9, 3)]);
        let mut first = |offset| {
            let read = ahead.read(offset, Isolation::All)?;
            read.0.first().map(|batch| batch.header.base_offset)
        };
        let expected = [None, None, Some(3), Some(3), Some(3), Some(8), Some(8), Some(8), Some(8), Some(9), Some(9)];
        for (offset, expected) in expected.into_iter().enumerate() {
            assert_eq!(first(offset as u64), expected, "{offset}");
        }
        assert_eq!((first(11), first(12)), (Some(9), None));
        assert!(ahead.read(3, Isolation::Committed).is_none());
    }

    #[test]
    fn so_many_maps_keep_a_run_and_only_while_it_is_read() {
        let (leases, runs) = (Leases::new(0), Runs::default());
        let slots: Vec<_> = (0..RUNS_MAX as u32 + 3).map(|index| slot(&leases, index)).collect();
        slots.iter().for_each(|slot| runs.keep(slot, run(0, &[(0, 1)])));
        // In place of the one it has: nobody loses his.
        runs.keep(&slots[5], run(1, &[(1, 1)]));
        let kept = || slots.iter().map(|slot| slot.lock().ahead.is_some()).collect::<Vec<_>>();
        assert!(kept().iter().enumerate().all(|(at, kept)| *kept == (at >= 3)));
        runs.expire();
        assert_eq!(kept().iter().filter(|kept| **kept).count(), RUNS_MAX);
        assert!(slots[5].lock().ahead.as_mut().is_some_and(|ahead| ahead.read(1, Isolation::All).is_some()));
        runs.expire();
        assert!(kept().iter().enumerate().all(|(at, kept)| *kept == (at == 5)));
        runs.expire();
        assert!(!kept()[5]);
        slots[0].remove();
        runs.keep(&slots[0], run(0, &[(0, 1)]));
        assert!(!kept()[0], "of a map that is gone nothing is kept");
    }
}
