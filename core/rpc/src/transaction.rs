//! Transactions: a producer's appends and cursors that become visible together, or never.
//!
//! The core knows where a producer's transaction is open: an append with the flag
//! [`codec_record::BatchFlags::TRANSACTIONAL`] opens it on that partition, so does a commit of cursors with a
//! [`TransactionProducer`]. Who coordinates it keeps only its decision, and then makes one call, which ends it everywhere.

use codec_record::{Batch, BatchFlags, BatchHeader};
use serde::{Deserialize, Serialize};

use crate::ids::PartitionId;

/// Ends a producer's transaction in every partition where it is open: appends `marker` there, makes what it appended
/// and committed visible (or not), and fences. Idempotent: where nothing is open nothing is appended, so a call whose
/// answer was lost is made again.
///
/// From then on whatever this producer appends or commits in a transaction with a lower epoch is refused on every
/// partition, for as long as producers are remembered.
#[derive(Clone, Debug)]
pub struct TransactionEnd {
    pub producer_id: i64,
    /// The epoch from now on.
    pub epoch: i16,
    /// The producer's transaction is ended if its epoch is this one or lower; at most `epoch`. Who raises the epoch with each
    /// end names the one before here, so that a call that comes late (repeated, or of a coordinator that was replaced) cannot end
    /// the transaction that came after it.
    pub ended_epoch_max: i16,
    /// Tells the decisions about a producer apart where they end transactions of one epoch: each has a higher number than those
    /// before it. What was carried out is not carried out again, though another transaction be open by then: the same
    /// number ends nothing, a lower one is [`TransactionError::Outdated`]. None: whatever is open is ended.
    pub decision: Option<u64>,
    pub outcome: Outcome,
    /// Appended wherever batches are to be ended: of count 1, with the flags `CONTROL` and `TRANSACTIONAL`, and this
    /// producer and epoch with sequence -1 in its header. Its offsets and times are the core's to set.
    pub marker: Batch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    Commit,
    Abort,
}

/// Whose transaction a commit of cursors belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TransactionProducer {
    pub id: i64,
    pub epoch: i16,
}

/// A transaction that is open on a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTransaction {
    pub producer_id: i64,
    pub epoch: i16,
    pub partition: PartitionId,
    /// The offset of its first batch. None: only cursors are pending there.
    pub first_offset: Option<u64>,
    /// When it was last added to, ms since the Unix epoch.
    pub last_time_ms: i64,
}

/// An aborted transaction, as a committed reader must know it: the transactional batches of this producer from
/// `first_offset` to `last_offset` never happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: u64,
    /// The offset of its marker.
    pub last_offset: u64,
}

impl AbortedTransaction {
    /// Whether a batch belongs to it.
    pub fn contains(&self, header: &BatchHeader) -> bool {
        header.flags.contains(BatchFlags::TRANSACTIONAL)
            && header.producer.is_some_and(|producer| producer.id == self.producer_id)
            && (self.first_offset..=self.last_offset).contains(&header.base_offset)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TransactionError {
    #[error("a newer epoch of this producer is known")]
    ProducerFenced,
    /// The marker's header or payload is not what it must be; or epochs are to be ended that are yet to come.
    #[error("the marker is not one of this producer and epoch")]
    Marker,
    /// Nothing was done.
    #[error("a later decision about this producer was carried out")]
    Outdated,
    /// It may have been ended in some partitions; the same call ends it in the others.
    #[error("the disk is full")]
    DiskFull,
    /// As with `DiskFull`; the shard takes no writes until it is restarted.
    #[error("the storage failed")]
    StorageFailed,
    /// As with `DiskFull`.
    #[error("the core is unavailable")]
    Unavailable,
}

impl TransactionEnd {
    /// Whether the marker is whole and of this producer and epoch, and no later epoch is to be ended.
    pub fn marker_is_valid(&self) -> bool {
        use codec_record::{BatchFlags, Producer};
        let header = &self.marker.header;
        let producer = Producer { id: self.producer_id, epoch: self.epoch, sequence: -1 };
        self.ended_epoch_max <= self.epoch
            && header.count == 1
            && header.flags.contains(BatchFlags::CONTROL)
            && header.flags.contains(BatchFlags::TRANSACTIONAL)
            && header.producer == Some(producer)
            && self.marker.payload_is_intact()
    }
}
