//! The log's verbs: append, fetch, offsets, trim, and what a partition looks like.

use std::time::Duration;

use codec_record::Batch;
use serde::{Deserialize, Serialize};

use crate::ids::PartitionId;
use crate::transaction::AbortedTransaction;

/// The largest payload of one batch, bytes: whatever a topic's settings say, a batch must fit a frame of the RPC.
pub const BATCH_BYTES_MAX: u32 = 128 << 20;

/// Appends to several partitions in one call. Each batch is kept whole or not at all; the call is not atomic
/// across batches. Batches for the same partition are appended in the order given.
#[derive(Clone, Debug)]
pub struct AppendRequest {
    pub appends: Vec<Append>,
}

/// One batch for one partition. `base_offset` and `append_time_ms` of its header are the core's to set.
#[derive(Clone, Debug)]
pub struct Append {
    pub partition: PartitionId,
    pub batch: Batch,
}

/// One answer for each append, in the order of the request. Sent when every batch is as safe as its topic's
/// durability says.
pub type AppendAnswer = Vec<Result<Appended, AppendError>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    pub base_offset: u64,
    pub append_time_ms: i64,
    /// The partition's first kept offset.
    pub start_offset: u64,
    /// The batch had been appended before (same producer, epoch and sequences); the offset is the first append's.
    pub duplicate: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AppendError {
    #[error("no such partition")]
    UnknownPartition,
    #[error("the batch is larger than the topic's limit of {bytes_max} bytes")]
    TooLarge { bytes_max: u32 },
    #[error("a newer epoch of this producer is known")]
    ProducerFenced,
    /// The producer has an open transaction here, and the batch is of a newer epoch or of no transaction.
    #[error("another transaction of this producer is open")]
    TransactionOpen,
    #[error("the batch's sequence does not follow the producer's last")]
    SequenceGap,
    #[error("the batch repeats sequences older than those remembered")]
    SequenceForgotten,
    #[error("the batch's payload does not match its CRC")]
    Corrupt,
    /// Nothing of the batch was kept; a later try may succeed.
    #[error("the disk is full")]
    DiskFull,
    /// A write or sync failed; the shard takes no writes until it is restarted.
    #[error("the storage failed")]
    StorageFailed,
    /// The core cannot be reached or is stopping: the batch may or may not have been kept.
    #[error("the core is unavailable")]
    Unavailable,
}

/// Reads from several partitions. Answers as soon as `bytes_min` are there, a partition has an error, or `wait` is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FetchRequest {
    pub partitions: Vec<FetchPartition>,
    pub bytes_min: u32,
    /// Over all partitions. The first batch found is returned even if it is larger.
    pub bytes_max: u32,
    pub wait: Duration,
    pub isolation: Isolation,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct FetchPartition {
    pub partition: PartitionId,
    /// The batch that contains this offset is the first returned, whole.
    pub offset: u64,
    pub bytes_max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// Everything durable.
    All,
    /// Only batches before the stable offset, with the aborted transactions among them.
    Committed,
}

/// One answer for each partition, in the order of the request.
pub type FetchAnswer = Vec<Result<Fetched, FetchError>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub bounds: Bounds,
    pub batches: Vec<Batch>,
    /// With [`Isolation::Committed`]: the aborted transactions that overlap the batches, by their first offset.
    pub aborted: Vec<AbortedTransaction>,
}

/// The offsets between which a partition can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// The first kept offset.
    pub start_offset: u64,
    /// All before it belongs to no open transaction.
    pub stable_offset: u64,
    /// The offset that the next visible record gets.
    pub end_offset: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum FetchError {
    #[error("no such partition")]
    UnknownPartition,
    #[error("the offset is outside what is kept")]
    OutOfRange(Bounds),
    #[error("a stored batch does not match its CRC")]
    Corrupt,
    #[error("the storage failed")]
    StorageFailed,
    #[error("the core is unavailable")]
    Unavailable,
}

/// Asks where something is, for several partitions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OffsetsRequest {
    pub queries: Vec<(PartitionId, OffsetAt)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OffsetAt {
    Earliest,
    Latest,
    /// The stable offset: where the earliest open transaction begins; as `Latest` when none is open.
    Stable,
    /// The first record whose time is at or after this, ms since the Unix epoch.
    Time(i64),
    /// The first record that has the partition's greatest time.
    MaxTime,
}

/// One answer for each query, in order.
pub type OffsetsAnswer = Vec<Result<FoundOffset, FetchError>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundOffset {
    /// None: no record answers the query (`Time`, `MaxTime`).
    pub offset: Option<u64>,
    /// The found record's time, where a record was looked for; else -1.
    pub time_ms: i64,
}

/// Makes the offsets before `before` unreadable, durably, and their space reclaimable.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrimRequest {
    /// (partition, before); None: up to its end.
    pub trims: Vec<(PartitionId, Option<u64>)>,
}

/// The new start offset for each trim, in order. Trimming to before the start is no error; past the end is.
pub type TrimAnswer = Vec<Result<u64, FetchError>>;

/// One answer for each partition asked for, in order.
pub type InspectAnswer = Vec<Result<PartitionState, FetchError>>;

/// What an operator wants to know of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    pub bounds: Bounds,
    /// Bytes of the batches between start and end, headers included.
    pub size_bytes: u64,
    pub producers: Vec<ProducerState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerState {
    pub id: i64,
    pub epoch: i16,
    pub last_sequence: i32,
    pub last_time_ms: i64,
    /// The first offset of its open transaction, if it has one.
    pub transaction_start: Option<u64>,
}
