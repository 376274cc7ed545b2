//! What a shard's writer does for transactions: refuses old epochs, notes what is open, stages pending cursors and ends.
//!
//! The end of a transaction is one group: a marker for each partition with batches, then one entry that ends it in all of
//! them and settles the pending cursors. It is synced whatever the topics' durability: an end that a crash
//! took back would leave a transaction that nobody ends, and hold up committed readers for ever.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use codec_record::{BatchFlags, BatchHeader, Producer};
use core_rpc::{
    AbortedTransaction, AppendError, CursorError, Durability, GroupName, Outcome, PartitionId, TransactionEnd,
    TransactionProducer,
};

use super::group::{EndedHere, Staged, entry_bytes};
use super::writer::{END_BYTES, Writer};
use super::{Answer, Ended};
use crate::pack::entry::{
    BATCH_ENTRY_BYTES, CursorBody, EndBody, EndedPartition, FenceBody, Kind, NO_PARTITION, PendingBody,
};
use crate::partition::Partition;
use crate::transactions::Open;

/// The most that an [`EndBody`] takes without its partitions, and for each partition: every number at its longest.
const END_BODY_BYTES: usize = 64;
const ENDED_PARTITION_BYTES: usize = 48;

/// The epoch is refused.
pub struct Fenced;

/// Whether a batch may be appended where this is open of its producer.
pub fn check_open(open: Option<Open>, producer: Producer, flags: BatchFlags) -> Result<(), AppendError> {
    match open {
        Some(open) if producer.epoch < open.epoch => Err(AppendError::ProducerFenced),
        // A marker of somebody who does not end it that way.
        _ if flags.contains(BatchFlags::CONTROL) => Ok(()),
        Some(open) if producer.epoch > open.epoch => Err(AppendError::TransactionOpen),
        Some(Open { first_offset: Some(_), .. }) if !flags.contains(BatchFlags::TRANSACTIONAL) => {
            Err(AppendError::TransactionOpen)
        }
        _ => Ok(()),
    }
}

/// For a snapshot: what committed readers must skip.
pub fn aborted_of(partitions: &[Arc<Partition>]) -> Vec<(PartitionId, Vec<AbortedTransaction>)> {
    let aborted = partitions.iter().map(|partition| (partition.id, partition.lock().transactions.all_aborted()));
    let mut aborted: Vec<_> = aborted.filter(|(_, aborted)| !aborted.is_empty()).collect();
    aborted.sort_unstable_by_key(|(partition, _)| *partition);
    aborted
}

impl Writer {
    /// What is open of a producer in a partition, if its epoch is not refused.
    pub(super) fn check_fence(&self, id: i64, epoch: i16, partition: PartitionId) -> Result<Option<Open>, Fenced> {
        let transactions = self.shard.transactions.lock();
        if transactions.is_fenced(id, epoch) { Err(Fenced) } else { Ok(transactions.get(id, partition)) }
    }

    /// Notes that a batch about to be staged is part of a transaction. Returns where that begins.
    ///
    /// Looks at the fence again, in the same lock: an end that came since the first look has not seen this batch.
    pub(super) fn open_transaction(
        &mut self,
        partition: PartitionId,
        header: &BatchHeader,
    ) -> Result<Option<u64>, Fenced> {
        let Some(producer) = header.producer else { return Ok(None) };
        if !header.flags.contains(BatchFlags::TRANSACTIONAL) || header.flags.contains(BatchFlags::CONTROL) {
            return Ok(None);
        }
        let mut transactions = self.shard.transactions.lock();
        if transactions.is_fenced(producer.id, producer.epoch) {
            return Err(Fenced);
        }
        self.group.undo_open.push((producer.id, partition, transactions.get(producer.id, partition)));
        let (offset, time_ms) = (header.base_offset, header.append_time_ms);
        Ok(transactions.add_batch(producer.id, producer.epoch, partition, offset, time_ms).first_offset)
    }

    pub(super) fn is_older_generation(&self, key: &(GroupName, PartitionId), generation: u64) -> bool {
        let durable = self.shard.cursors.lock().generation(&key.0, key.1);
        durable.max(self.generations.get(key).copied()) > Some(generation)
    }

    #[allow(clippy::type_complexity)] // The answer comes back with the error, or is kept.
    pub(super) fn stage_pending(
        &mut self,
        partition: Arc<Partition>,
        cursor: CursorBody,
        producer: TransactionProducer,
        answer: Answer<Result<(), CursorError>>,
    ) -> Result<(), (Answer<Result<(), CursorError>>, CursorError)> {
        let time_ms = self.inner.clock.now_ms();
        let body = PendingBody { producer, cursor, time_ms };
        let Ok(bytes) = postcard::to_stdvec(&body) else { return Err((answer, CursorError::StorageFailed)) };
        if let Err(refusal) = self.make_room(entry_bytes(bytes.len()), END_BYTES) {
            return Err((answer, refusal.into()));
        }
        // After making room, which may have ended the group before.
        let key = (body.cursor.group.clone(), partition.id);
        if body.cursor.generation.is_some_and(|generation| self.is_older_generation(&key, generation)) {
            return Err((answer, CursorError::Fenced));
        }
        // Looked at and added to in one lock: an end that comes after it sees this cursor.
        let mut transactions = self.shard.transactions.lock();
        let open = transactions.get(producer.id, partition.id);
        let later = |open: Open| open.epoch > producer.epoch;
        if transactions.is_fenced(producer.id, producer.epoch) || open.is_some_and(later) {
            return Err((answer, CursorError::ProducerFenced));
        }
        if open.is_some_and(|open| open.epoch < producer.epoch) {
            return Err((answer, CursorError::TransactionOpen));
        }
        self.group.undo_open.push((producer.id, partition.id, open));
        transactions.add_cursor(producer.id, producer.epoch, partition.id, time_ms);
        drop(transactions);
        if let Some(generation) = body.cursor.generation {
            self.generations.insert(key, generation);
        }
        self.group.push_entry(self.active.number, self.run, Kind::Pending, partition.id, &bytes);
        self.group.needs_sync = true;
        self.group.staged.push(Staged::Pending { partition, body, answer });
        Ok(())
    }

    pub(super) fn stage_fence(&mut self, body: FenceBody) {
        let Ok(bytes) = postcard::to_stdvec(&body) else { return };
        // Without room it is in memory only, until the next snapshot.
        if self.make_room(entry_bytes(bytes.len()), END_BYTES).is_ok() {
            self.group.push_entry(self.active.number, self.run, Kind::Fence, NO_PARTITION, &bytes);
            self.group.staged.push(Staged::Fence);
        }
    }

    pub(super) fn stage_end(&mut self, end: &TransactionEnd, answer: Answer<Ended>) {
        // Making room may publish the group before, or take it back: then more may be open than was seen.
        let marker_bytes = BATCH_ENTRY_BYTES + end.marker.payload.len() + ENDED_PARTITION_BYTES;
        let mut length = 0;
        let open = loop {
            let open = self.to_be_ended(end);
            let with_batches = open.iter().filter(|(_, open)| open.first_offset.is_some()).count();
            let needed = entry_bytes(END_BODY_BYTES) + (with_batches * marker_bytes) as u64;
            if needed <= length {
                break open;
            }
            length = needed;
            if let Err(refusal) = self.make_room(length, END_BYTES) {
                return answer.give(Err(refusal.into()));
            }
        };
        // Even with nothing open the answer waits for a sync: what ended it before may not be durable yet.
        self.group.needs_sync = true;
        // A new decision is remembered though nothing is open: the end before it was not settled when it was looked.
        let is_new =
            end.decision.is_some() && !self.shard.transactions.lock().is_carried_out(end.producer_id, end.decision);
        let ended = (is_new || !open.is_empty()).then(|| self.stage_ended(end, &open));
        self.group.staged.push(Staged::End { ended, answer });
    }

    /// Where the transaction is open; nowhere if this decision was carried out: then it is another transaction.
    fn to_be_ended(&self, end: &TransactionEnd) -> Vec<(PartitionId, Open)> {
        let transactions = self.shard.transactions.lock();
        match transactions.is_carried_out(end.producer_id, end.decision) {
            true => Vec::new(),
            false => transactions.of(end.producer_id, end.ended_epoch_max).collect(),
        }
    }

    /// Stages the markers and the entry that ends a transaction; there is room for them.
    fn stage_ended(&mut self, end: &TransactionEnd, open: &[(PartitionId, Open)]) -> EndedHere {
        let time_ms = self.inner.clock.now_ms();
        let mut body = EndBody {
            producer_id: end.producer_id,
            epoch: end.epoch,
            ended_epoch_max: end.ended_epoch_max,
            outcome: end.outcome,
            time_ms,
            partitions: Vec::with_capacity(open.len()),
            decision: end.decision.unwrap_or_default(),
        };
        let (mut partitions, mut all) = (Vec::with_capacity(open.len()), Vec::with_capacity(open.len()));
        // Before anything is closed: in between, the same call again would find nothing open and nothing on its way.
        self.shard.transactions.lock().ending(end.producer_id);
        for (id, open) in open {
            self.group.undo_open.push((end.producer_id, *id, Some(*open)));
            self.shard.transactions.lock().close(end.producer_id, *id);
            // Of a topic that is gone there is nothing to end.
            let Some((topic, partition)) = self.inner.topic_and_partition(*id) else { continue };
            all.push(*id);
            let Some(first_offset) = open.first_offset else { continue };
            let durability = topic.settings.read().durability;
            let last_offset = self.stage_marker(end, &partition, durability, time_ms);
            body.partitions.push(EndedPartition { partition: *id, first_offset, last_offset });
            partitions.push(partition);
        }
        // Plain numbers always encode.
        let bytes = postcard::to_stdvec(&body).unwrap_or_default();
        debug_assert!(bytes.len() <= END_BODY_BYTES + body.partitions.len() * ENDED_PARTITION_BYTES);
        self.group.push_entry(self.active.number, self.run, Kind::End, NO_PARTITION, &bytes);
        EndedHere { body, partitions, all }
    }

    /// Stages a transaction's marker in a partition. Returns its offset.
    fn stage_marker(
        &mut self,
        end: &TransactionEnd,
        partition: &Arc<Partition>,
        durability: Durability,
        time_ms: i64,
    ) -> u64 {
        let mut batch = end.marker.clone();
        let header = &mut batch.header;
        header.base_offset = partition.next_offset();
        header.append_time_ms = time_ms;
        partition.next.store(header.next_offset(), Ordering::Relaxed);
        if let Some(producer) = header.producer {
            let mut producers = partition.producers.lock();
            self.group.undo.push((partition.clone(), producer.id, producers.get(producer.id).cloned()));
            producers.appended(producer, header);
        }
        let offset = header.base_offset;
        let position = self.position + self.group.bytes;
        self.group.push_batch(self.active.number, self.run, partition.id, &batch);
        // As other batches of memory: else it would be published behind those that come after it.
        self.group.has_memory |= durability == Durability::Memory;
        self.group.staged.push(Staged::Batch {
            partition: partition.clone(),
            batch,
            position,
            durability,
            transaction: None,
            published: false,
            answer: None,
        });
        offset
    }

    pub(super) fn publish_end(&mut self, ended: Option<EndedHere>, answer: Answer<Ended>) {
        let Some(EndedHere { body, partitions, all }) = ended else { return answer.give(Ok(Vec::new())) };
        for (partition, ended) in partitions.iter().zip(&body.partitions) {
            partition.end_transaction(ended.first_offset, body.aborted(ended));
        }
        self.shard.cursors.lock().end(body.producer_id, body.ended_epoch_max, body.outcome);
        self.shard.transactions.lock().carried_out(body.producer_id, body.decision());
        answer.give(Ok(all));
    }

    /// Takes back what the staged group did to transactions.
    pub(super) fn undo_transactions(&mut self) {
        let mut transactions = self.shard.transactions.lock();
        for (producer_id, partition, open) in self.group.undo_open.drain(..).rev() {
            transactions.restore(producer_id, partition, open);
        }
        transactions.settle();
    }
}

impl EndBody {
    /// The number of the decision, if it has one.
    pub fn decision(&self) -> Option<u64> {
        Some(self.decision).filter(|decision| *decision > 0)
    }

    /// What committed readers of a partition must know of this end.
    pub fn aborted(&self, ended: &EndedPartition) -> Option<AbortedTransaction> {
        (self.outcome == Outcome::Abort).then_some(AbortedTransaction {
            producer_id: self.producer_id,
            first_offset: ended.first_offset,
            last_offset: ended.last_offset,
        })
    }
}
