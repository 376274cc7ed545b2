//! What the engine has done and how it stands, in numbers, for whoever watches it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use codec_record::Batch;
use core_rpc::{AppendAnswer, AppendError, FetchAnswer, PartitionId, Topic, TopicId};

use crate::engine::Engine;

/// The bounds of a [`Histogram`], microseconds: from what a write into memory takes to what no client waits for.
pub const BOUNDS_US: [u64; 14] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000];

/// How long something took, by how often.
#[derive(Debug, Default)]
pub struct Histogram {
    /// By the first bound that was not exceeded; the last exceeded all.
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spread {
    /// How many took at most so long: (seconds, count of these and all shorter).
    pub at_most: Vec<(f64, u64)>,
    pub count: u64,
    pub sum_seconds: f64,
}

impl Histogram {
    pub fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    pub fn spread(&self) -> Spread {
        let mut count = 0;
        let counts = self.counts.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        let at_most = BOUNDS_US.iter().zip(counts).map(|(bound, of)| {
            count += of;
            (*bound as f64 / 1e6, count)
        });
        let at_most = at_most.collect();
        let count = counts.iter().sum();
        Spread { at_most, count, sum_seconds: self.sum_us.load(Ordering::Relaxed) as f64 / 1e6 }
    }
}

/// Since the engine was opened. Atomics, added to once for a batch or a call.
#[derive(Debug, Default)]
pub struct Counts {
    pub appended_batches: AtomicU64,
    pub appended_messages: AtomicU64,
    pub appended_bytes: AtomicU64,
    pub refused_for_space: AtomicU64,
    pub refused_for_storage: AtomicU64,
    pub refused_otherwise: AtomicU64,
    pub fetched_batches: AtomicU64,
    pub fetched_bytes: AtomicU64,
    /// From the call to its answer.
    pub appends: Histogram,
    /// Syncs that somebody waited for.
    pub syncs: Histogram,
}

impl Counts {
    /// A batch is published.
    pub fn appended(&self, batch: &Batch) {
        self.appended_batches.fetch_add(1, Ordering::Relaxed);
        self.appended_messages.fetch_add(u64::from(batch.header.count), Ordering::Relaxed);
        self.appended_bytes.fetch_add(batch.stored_bytes() as u64, Ordering::Relaxed);
    }

    /// An append is answered.
    pub fn append_answered(&self, answer: &AppendAnswer, took: Duration) {
        self.appends.record(took);
        for error in answer.iter().filter_map(|answer| answer.as_ref().err()) {
            let count = match error {
                AppendError::DiskFull => &self.refused_for_space,
                AppendError::StorageFailed => &self.refused_for_storage,
                _ => &self.refused_otherwise,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A fetch is answered.
    pub fn fetched(&self, answer: &FetchAnswer) {
        let batches = || answer.iter().flatten().flat_map(|fetched| &fetched.batches);
        let count = batches().count() as u64;
        if count > 0 {
            self.fetched_batches.fetch_add(count, Ordering::Relaxed);
            let bytes: usize = batches().map(Batch::stored_bytes).sum();
            self.fetched_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

/// How a shard stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardReport {
    pub number: u32,
    /// It takes no writes until the engine is opened again.
    pub failed: bool,
    pub packs: usize,
    /// Of its packs, as large as they are.
    pub pack_bytes: u64,
}

/// How far a group is behind a topic's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    pub namespace: String,
    pub topic: String,
    pub group: String,
    /// Messages, over the partitions on which it has a cursor or a lease map.
    pub messages: u64,
}

impl Engine {
    pub fn counts(&self) -> &Counts {
        &self.inner.counts
    }

    pub fn shard_reports(&self) -> Vec<ShardReport> {
        let report = |shard: &std::sync::Arc<crate::shard::Shard>| {
            let bytes_of = |packs: &BTreeMap<u32, std::sync::Arc<crate::pack::Pack>>| {
                (packs.len(), packs.values().map(|pack| pack.capacity).sum::<u64>())
            };
            let (packs, bytes) = bytes_of(&shard.packs.lock());
            let (kept, kept_bytes) = bytes_of(&shard.kept.lock());
            ShardReport {
                number: shard.number,
                failed: shard.failed.load(Ordering::Acquire),
                packs: packs + kept,
                pack_bytes: bytes + kept_bytes,
            }
        };
        self.inner.shards.iter().map(report).collect()
    }

    pub fn partition_count(&self) -> usize {
        self.inner.partitions().len()
    }

    /// How far groups are behind, by cursor or lease map; `topics` are those that are named.
    pub fn lags(&self, topics: &[Topic]) -> Vec<Lag> {
        let names: HashMap<TopicId, &Topic> = topics.iter().map(|topic| (topic.id, topic)).collect();
        let mut lags: BTreeMap<(TopicId, String, String), u64> = BTreeMap::new();
        let mut add = |id: PartitionId, namespace: String, group: String, messages: u64| {
            *lags.entry((id.topic, namespace, group)).or_default() += messages;
        };
        for shard in &self.inner.shards {
            let cursors = shard.cursors.lock().offsets();
            for (group, id, offset) in cursors {
                let Some(bounds) = self.inner.partition(id).and_then(|partition| partition.bounds().ok()) else {
                    continue;
                };
                let behind = bounds.end_offset.saturating_sub(offset.max(bounds.start_offset));
                add(id, group.namespace, group.group, behind);
            }
            for slot in shard.leases.all() {
                let Some(bounds) = self.inner.partition(slot.partition).and_then(|partition| partition.bounds().ok())
                else {
                    continue;
                };
                let mut state = slot.lock();
                state.map.raise_floor(bounds.start_offset);
                let view = state.map.view(0);
                drop(state);
                let new = bounds.end_offset.saturating_sub(view.next);
                let behind = view.available + view.delayed + view.leased + new;
                add(slot.partition, slot.group.namespace.clone(), slot.group.group.clone(), behind);
            }
        }
        let named = |((id, namespace, group), messages): ((TopicId, String, String), u64)| {
            let topic = names.get(&id)?.name.clone();
            Some(Lag { namespace, topic, group, messages })
        };
        lags.into_iter().filter_map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_where_they_belong() {
        let histogram = Histogram::default();
        for us in [50, 100, 101, 10_000_000] {
            histogram.record(Duration::from_micros(us));
        }
        let spread = histogram.spread();
        assert_eq!(spread.at_most[..2], [(0.0001, 2), (0.00025, 3)]);
        assert_eq!(spread.at_most.last(), Some(&(5.0, 3)));
        assert_eq!((spread.count, spread.sum_seconds), (4, 10.000251));
    }
}
