//! What a shard knows of the producers of transactions.

use std::collections::{BTreeMap, HashMap, HashSet};

use core_rpc::{PartitionId, TopicId};
use serde::{Deserialize, Serialize};

/// The least partition in the order of [`PartitionId`].
const FIRST_PARTITION: PartitionId = PartitionId { topic: TopicId(0), index: 0 };

/// The open transactions of a shard's partitions and the epochs it refuses. Changed by the shard's writer, and may be
/// ahead of what is published; only the fences are raised by callers, so that what a writer has taken before a
/// transaction's end is seen by it, and what comes later is refused.
#[derive(Debug, Default)]
pub struct Transactions {
    fences: HashMap<i64, Fence>,
    /// By producer that has a fence: the last decision that was carried out, durably, wherever there was something to be ended.
    decisions: HashMap<i64, u64>,
    open: BTreeMap<(i64, PartitionId), Open>,
    /// Producers of whose transaction an end is taken but not known to be durable: the same call again must wait for it.
    ending: HashSet<i64>,
}

/// The lowest epoch that a producer may still use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    pub epoch: i16,
    /// When it was set, ms since the Unix epoch; it is forgotten as producers are.
    pub time_ms: i64,
}

/// A producer's transaction in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    pub epoch: i16,
    /// None: only cursors are pending here.
    pub first_offset: Option<u64>,
    pub has_cursors: bool,
    /// When it was last added to, ms since the Unix epoch.
    pub last_time_ms: i64,
}

impl Transactions {
    /// Whether this epoch of a producer is refused.
    pub fn is_fenced(&self, producer_id: i64, epoch: i16) -> bool {
        self.fences.get(&producer_id).is_some_and(|fence| epoch < fence.epoch)
    }

    /// Refuses lower epochs from now on. Returns whether the fence is higher than it was.
    pub fn raise(&mut self, producer_id: i64, epoch: i16, time_ms: i64) -> bool {
        let is_new = self.fences.get(&producer_id).is_none_or(|fence| fence.epoch < epoch);
        if !self.is_fenced(producer_id, epoch) {
            let known_ms = self.fences.get(&producer_id).map_or(time_ms, |fence| fence.time_ms);
            self.fences.insert(producer_id, Fence { epoch, time_ms: time_ms.max(known_ms) });
        }
        is_new
    }

    /// The decision is carried out here. Returns whether that is new.
    pub fn carried_out(&mut self, producer_id: i64, decision: Option<u64>) -> bool {
        let Some(decision) = decision else { return false };
        let last = self.decisions.entry(producer_id).or_default();
        let is_new = *last < decision;
        *last = decision.max(*last);
        is_new
    }

    /// The last decision about the producer that was carried out here; 0 if there was none.
    pub fn last_decision(&self, producer_id: i64) -> u64 {
        self.decisions.get(&producer_id).copied().unwrap_or_default()
    }

    /// Whether the decision was carried out here.
    pub fn is_carried_out(&self, producer_id: i64, decision: Option<u64>) -> bool {
        decision.is_some_and(|decision| decision <= self.last_decision(producer_id))
    }

    /// Whether there is, or just was, a transaction of an epoch up to this to be ended.
    pub fn is_open(&self, producer_id: i64, epoch_max: i16) -> bool {
        self.of(producer_id, epoch_max).next().is_some() || self.ending.contains(&producer_id)
    }

    pub fn get(&self, producer_id: i64, partition: PartitionId) -> Option<Open> {
        self.open.get(&(producer_id, partition)).copied()
    }

    /// A batch is in the transaction. Returns the transaction as it is now.
    pub fn add_batch(
        &mut self,
        producer_id: i64,
        epoch: i16,
        partition: PartitionId,
        offset: u64,
        time_ms: i64,
    ) -> Open {
        let open = self.add(producer_id, epoch, partition, time_ms);
        open.first_offset.get_or_insert(offset);
        *open
    }

    /// A cursor is in the transaction.
    pub fn add_cursor(&mut self, producer_id: i64, epoch: i16, partition: PartitionId, time_ms: i64) {
        self.add(producer_id, epoch, partition, time_ms).has_cursors = true;
    }

    fn add(&mut self, producer_id: i64, epoch: i16, partition: PartitionId, time_ms: i64) -> &mut Open {
        let new = Open { epoch, first_offset: None, has_cursors: false, last_time_ms: time_ms };
        let open = self.open.entry((producer_id, partition)).or_insert(new);
        (open.epoch, open.last_time_ms) = (epoch, time_ms);
        open
    }

    /// Where a producer's transaction is open, of epochs up to this.
    pub fn of(&self, producer_id: i64, epoch_max: i16) -> impl Iterator<Item = (PartitionId, Open)> {
        let of_producer = self.open.range((producer_id, FIRST_PARTITION)..);
        let of_producer = of_producer.take_while(move |((id, _), _)| *id == producer_id);
        of_producer.filter(move |(_, open)| open.epoch <= epoch_max).map(|((_, partition), open)| (*partition, *open))
    }

    /// All that is open.
    pub fn all(&self) -> impl Iterator<Item = (i64, PartitionId, Open)> {
        self.open.iter().map(|((id, partition), open)| (*id, *partition, *open))
    }

    /// An end is taken: nothing is open here any more.
    pub fn close(&mut self, producer_id: i64, partition: PartitionId) {
        self.open.remove(&(producer_id, partition));
    }

    /// Whether an end is on its way to the disk.
    pub fn is_ending(&self, producer_id: i64) -> bool {
        self.ending.contains(&producer_id)
    }

    /// An end is on its way to the disk.
    pub fn ending(&mut self, producer_id: i64) {
        self.ending.insert(producer_id);
    }

    /// All ends that were taken are durable, or taken back.
    pub fn settle(&mut self) {
        self.ending.clear();
    }

    /// Puts back what [`Transactions::get`] had found.
    pub fn restore(&mut self, producer_id: i64, partition: PartitionId, open: Option<Open>) {
        match open {
            Some(open) => self.open.insert((producer_id, partition), open),
            None => self.open.remove(&(producer_id, partition)),
        };
    }

    /// Forgets the fences set until `before_ms` of producers that have nothing open.
    pub fn expire(&mut self, before_ms: i64) {
        let Transactions { fences, decisions, open, .. } = self;
        let has_open = |id: i64| open.range((id, FIRST_PARTITION)..).next().is_some_and(|((other, _), _)| *other == id);
        fences.retain(|id, fence| fence.time_ms > before_ms || has_open(*id));
        decisions.retain(|id, _| fences.contains_key(id));
    }

    /// Forgets what is open on a topic.
    pub fn forget_topic(&mut self, topic: TopicId) {
        self.open.retain(|(_, partition), _| partition.topic != topic);
    }

    /// For a snapshot, by producer.
    pub fn fences(&self) -> Vec<(i64, Fence)> {
        let mut fences: Vec<_> = self.fences.iter().map(|(id, fence)| (*id, *fence)).collect();
        fences.sort_unstable_by_key(|(id, _)| *id);
        fences
    }

    /// For a snapshot, by producer.
    pub fn decisions(&self) -> Vec<(i64, u64)> {
        let mut decisions: Vec<_> = self.decisions.iter().map(|(id, decision)| (*id, *decision)).collect();
        decisions.sort_unstable();
        decisions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(index: u32) -> PartitionId {
        PartitionId { topic: TopicId(1), index }
    }

    #[test]
    fn a_fence_refuses_lower_epochs_until_it_expires() {
        let mut transactions = Transactions::default();
        assert!(transactions.raise(7, 3, 100));
        assert!(!transactions.raise(7, 3, 110));
        assert!(!transactions.raise(7, 2, 120));
        assert!(transactions.is_fenced(7, 2) && !transactions.is_fenced(7, 3) && !transactions.is_fenced(8, 0));
        transactions.expire(109);
        assert!(transactions.is_fenced(7, 2));
        transactions.add_cursor(7, 3, partition(0), 1);
        transactions.expire(110);
        assert!(transactions.is_fenced(7, 2), "an open transaction keeps it");
        transactions.close(7, partition(0));
        transactions.expire(110);
        assert!(!transactions.is_fenced(7, 2));
    }

    #[test]
    fn the_last_decision_is_known_as_long_as_the_fence() {
        let mut transactions = Transactions::default();
        transactions.raise(7, 3, 100);
        assert!(!transactions.carried_out(7, None) && !transactions.is_carried_out(7, Some(1)));
        assert!(transactions.carried_out(7, Some(5)) && !transactions.carried_out(7, Some(5)));
        assert!(!transactions.carried_out(7, Some(4)));
        assert!(transactions.is_carried_out(7, Some(5)) && !transactions.is_carried_out(7, Some(6)));
        assert!(!transactions.is_carried_out(7, None));
        assert_eq!(transactions.decisions(), [(7, 5)]);
        transactions.expire(100);
        assert!(!transactions.is_carried_out(7, Some(5)));
    }

    #[test]
    fn what_is_open_is_found_by_producer_and_epoch() {
        let mut transactions = Transactions::default();
        assert_eq!(transactions.add_batch(7, 1, partition(4), 50, 9).first_offset, Some(50));
        assert_eq!(transactions.add_batch(7, 1, partition(4), 60, 10).first_offset, Some(50));
        transactions.add_cursor(7, 1, partition(2), 11);
        transactions.add_batch(6, 0, partition(3), 0, 9);
        transactions.add_batch(8, 0, partition(3), 1, 9);
        let open: Vec<_> =
            transactions.of(7, 1).map(|(partition, open)| (partition.index, open.first_offset)).collect();
        assert_eq!(open, [(2, None), (4, Some(50))]);
        assert_eq!(transactions.of(7, 0).count(), 0);
        assert!(transactions.is_open(7, 1) && !transactions.is_open(7, 0) && !transactions.is_open(9, 1));
        for index in [2, 4] {
            transactions.close(7, partition(index));
        }
        transactions.ending(7);
        assert!(transactions.is_open(7, 1), "the end is not durable yet");
        transactions.settle();
        assert!(!transactions.is_open(7, 1));
        assert_eq!(transactions.all().count(), 2);
    }
}
