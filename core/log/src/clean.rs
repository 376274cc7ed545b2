//! Retention: start offsets move forward by age, by size, and by what a group has consumed; the packs that fall free are
//! reclaimed.

use std::ops::ControlFlow;
use std::sync::Arc;

use core_rpc::{FetchError, GroupName, PartitionId, TopicSettings, TrimRequest};

use crate::cold::walk;
use crate::engine::{Engine, Inner};
use crate::offsets::size_bytes;
use crate::pack::index::IndexEntry;
use crate::partition::{Partition, Segment};
use crate::shard::{Answer, Command};
use crate::wait::Answers;

impl Engine {
    /// One round of retention and compaction, as of this time; done when it returns.
    pub async fn clean(&self, now_ms: i64) {
        let inner = self.inner.clone();
        let Ok(trims) = tokio::task::spawn_blocking(move || inner.expired(now_ms)).await else { return };
        let trims = trims.into_iter().map(|(partition, before)| (partition.id, Some(before))).collect();
        self.trim(TrimRequest { trims }).await;
        let inner = self.inner.clone();
        let compact_and_free = move || {
            inner.compact(now_ms);
            inner.free_packs();
        };
        // Cleaning can be tried again: a failure was logged where it happened.
        let _ = tokio::task::spawn_blocking(compact_and_free).await;
    }
}

impl Inner {
    /// One round of retention; the trims are only asked for.
    pub fn clean(&self, now_ms: i64) {
        let trims = self.expired(now_ms);
        // Nobody waits for the answers.
        let (answers, _) = Answers::new(Vec::new(), trims.len());
        let command = |(partition, before): (Arc<Partition>, u64)| {
            let answer = Answer { answers: answers.clone(), slot: 0 };
            (partition.shard, Command::Trim { partition, before: Some(before), answer })
        };
        self.push(trims.into_iter().map(command).collect());
        self.free_packs();
    }

    /// Frees the packs that can be.
    fn free_packs(&self) {
        self.seal_deferred();
        for shard in &self.shards {
            self.reclaim(shard);
            if let Err(error) = self.rewrite_sparse(shard) {
                tracing::warn!(shard = shard.number, %error, "sparse packs could not be rewritten");
            }
        }
    }

    /// Where the start offsets should be; forgets producers that have been silent for long.
    fn expired(&self, now_ms: i64) -> Vec<(Arc<Partition>, u64)> {
        let mut trims = Vec::new();
        let silent_ms = now_ms.saturating_sub(self.config.producer_expiry_ms);
        for shard in &self.shards {
            shard.transactions.lock().expire(silent_ms);
        }
        for topic in self.topics() {
            let settings = topic.settings.read().clone();
            let consumers = settings.consumed_by.clone().map(|group| {
                let namespace = topic.namespace.clone();
                GroupName { namespace, group }
            });
            for partition in topic.partitions.read().clone() {
                self.expire_producers(&partition, silent_ms);
                let consumed = consumers.as_ref().and_then(|group| self.consumed(&partition, group));
                match expired_in(&partition, &settings, consumed, now_ms) {
                    Ok(Some(before)) => trims.push((partition, before)),
                    Ok(None) => {}
                    Err(error) => log_failure(partition.id, &error),
                }
            }
        }
        trims
    }
}

impl Inner {
    /// Before this offset a group has settled everything. What is settled in memory only is settled all the same: its
    /// entries lie before the trim's in the journal.
    fn consumed(&self, partition: &Partition, group: &GroupName) -> Option<u64> {
        let slot = self.shards[partition.shard as usize].leases.get(group, partition.id)?;
        let floor = slot.lock().map.floor();
        Some(floor)
    }

    /// Forgets producers that have been silent since `before_ms` and have no transaction open.
    fn expire_producers(&self, partition: &Partition, before_ms: i64) {
        let mut producers = partition.producers.lock();
        let transactions = self.shards[partition.shard as usize].transactions.lock();
        producers.expire(before_ms, |id| transactions.get(id, partition.id).is_some());
    }
}

fn log_failure(partition: PartitionId, error: &FetchError) {
    tracing::warn!(?partition, %error, "a partition could not be cleaned");
}

/// The offset before which a partition's batches are to go. None: all stay.
fn expired_in(
    partition: &Partition,
    settings: &TopicSettings,
    consumed: Option<u64>,
    now_ms: i64,
) -> Result<Option<u64>, FetchError> {
    let by_age = match settings.retention_ms {
        Some(retention_ms) => Some(too_old(partition, now_ms.saturating_sub_unsigned(retention_ms))?),
        None => None,
    };
    let by_size = match settings.retention_bytes {
        Some(bytes_max) => Some(too_large(partition, bytes_max)?),
        None => None,
    };
    let bounds = partition.bounds()?;
    // A group may begin where there is nothing yet.
    let consumed = consumed.map(|floor| floor.min(bounds.end_offset));
    Ok(by_age.max(by_size).max(consumed).filter(|before| *before > bounds.start_offset))
}

/// The first batch that is not older than this begins here; the end if all are.
fn too_old(partition: &Partition, before_ms: i64) -> Result<u64, FetchError> {
    let end = partition.bounds()?.end_offset;
    let young = |entry: &IndexEntry| match entry.max_time_ms >= before_ms {
        true => ControlFlow::Break(entry.base_offset),
        false => ControlFlow::Continue(()),
    };
    Ok(walk(partition, 0, |segment| segment.max_time_ms < before_ms, young)?.unwrap_or(end))
}

/// Without the batches before this offset the partition is no larger than `bytes_max`, or has only its newest batch.
fn too_large(partition: &Partition, bytes_max: u64) -> Result<u64, FetchError> {
    let bounds = partition.bounds()?;
    let left = std::cell::Cell::new(size_bytes(partition)?);
    if left.get() <= bytes_max {
        return Ok(bounds.start_offset);
    }
    let skip = |segment: &Segment| {
        let skip = left.get().saturating_sub(segment.bytes) > bytes_max;
        if skip {
            left.set(left.get() - segment.bytes);
        }
        skip
    };
    let newest = std::cell::Cell::new(bounds.start_offset);
    let kept = walk(partition, 0, skip, |entry| {
        newest.set(entry.base_offset);
        if left.get() <= bytes_max {
            return ControlFlow::Break(entry.base_offset);
        }
        left.set(left.get().saturating_sub(entry.stored_bytes()));
        ControlFlow::Continue(())
    })?;
    // The newest batch stays, however large it is: a topic with a small limit is not one that keeps nothing.
    Ok(kept.unwrap_or(newest.get()))
}
