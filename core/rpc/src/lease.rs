//! A group's lease maps: which messages of a partition are settled, who holds which, and how often each was handed out.
//!
//! A group has at most one map on a partition: a **floor**, before which everything is settled, and above it
//! ranges of offsets that are available, leased or settled; from **next** on nothing was handed out yet. A map begins with the first
//! acquire or seek and ends with [`crate::Core::lease_forget`] or its topic.
//!
//! Leases are in memory only: a restart makes everything available that is not settled, and says where what was handed out before it
//! may lie ([`Acquired::uncounted_before`]). A session outlives it with its keys, but nothing can be leased to it any more
//! (`UnknownSession`): whoever held something under it learns so that it is others' now, and opens another. What
//! [`crate::Core::settle`] answers is on the disk. Released messages are handed out again where they are, in order, before new ones. A map
//! does not keep the log from being trimmed: where the log's start passes the floor, the floor moves.
//!
//! A message may be *delayed*: by its batch ([`codec_record::BatchHeader::not_before_ms`]), or when it is released
//! ([`SettleRange::delay`]). It keeps its place, and is passed over until its time has come.

use std::time::Duration;

use codec_record::Batch;
use serde::{Deserialize, Serialize};

use crate::cursor::GroupName;
use crate::ids::PartitionId;
use crate::log::{Append, AppendError, Appended, Isolation, OffsetAt};
use crate::meta::SessionId;

/// The most ranges of one map. At this number nothing new is handed out until some are settled; nothing is ever dropped.
pub const LEASE_RANGES_MAX: usize = 16_000_000;

/// Takes messages of several partitions in lease. Answers as soon as it has acquired `bytes_min` or used up its credit, a
/// partition has an error, or `wait` is over; woken by appends, releases and expiries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AcquireRequest {
    pub group: GroupName,
    pub partitions: Vec<PartitionId>,
    /// Who must settle: a name that the caller chooses. Not empty.
    pub holder: String,
    pub lease: Lease,
    pub mode: AcquireMode,
    /// Over all partitions.
    pub credit_messages: u32,
    /// Of the batches answered, over all partitions. The first batch is acquired even if it is larger.
    pub credit_bytes: u32,
    /// More than the credit asks for no more than that.
    pub bytes_min: u32,
    /// New messages of a partition are handed out only while there are fewer than this between floor and next.
    pub window_messages: u64,
    /// A message that was handed out so often is rejected instead of becoming available again. None: no limit.
    pub acquisitions_max: Option<u32>,
    /// Where the map begins if the group has none on a partition.
    pub start: SeekTo,
    pub isolation: Isolation,
    pub wait: Duration,
}

/// How long a lease lasts, should its holder not settle or renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Lease {
    Timed(Duration),
    /// While the session lives.
    Session(SessionId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AcquireMode {
    /// Whole batches where they are available whole: the batch that uses up the message credit is not cut.
    Batch,
    /// Never more messages than the credit. A batch's bytes may go to several holders, its messages do not.
    Strict,
}

/// One answer for each partition, in the order of the request.
pub type AcquireAnswer = Vec<Result<Acquired, LeaseError>>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acquired {
    /// What the holder has now, rising.
    pub ranges: Vec<AcquiredRange>,
    /// The batches in which those messages are, whole, rising: what else is in them is not the holder's.
    pub batches: Vec<Batch>,
    /// Messages before it may have been handed out without being counted, because leases are not written: after an orderly stop where
    /// the last one lay that was out then, after any other end where the log ended when the core was started. 0: everything is counted.
    pub uncounted_before: u64,
}

/// Messages that were acquired with the same history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcquiredRange {
    pub first: u64,
    /// Inclusive.
    pub last: u64,
    /// How often they were handed out, this time included.
    pub acquisitions: u32,
    /// How often they were settled with [`Settlement::Fail`].
    pub failures: u32,
}

/// Ends leases, durably. Each range succeeds or fails for itself, whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SettleRequest {
    pub group: GroupName,
    pub holder: String,
    pub partitions: Vec<(PartitionId, Vec<SettleRange>)>,
    /// Answer when it is on the disk; else when it is with the operating system.
    pub durable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettleRange {
    pub first: u64,
    /// Inclusive.
    pub last: u64,
    pub settlement: Settlement,
    /// Release and Fail: not available again before so much time has passed, restarts or not; in steps of a millisecond.
    /// Zero: at once. The others have no use for it.
    pub delay: Duration,
}

impl SettleRange {
    /// Without a delay.
    pub fn new(first: u64, last: u64, settlement: Settlement) -> SettleRange {
        SettleRange { first, last, settlement, delay: Duration::ZERO }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settlement {
    /// Done with.
    Accept,
    /// Available again.
    Release,
    /// Done with, and counted as rejected.
    Reject,
    /// Available again, and counted as failed.
    Fail,
}

/// For each partition an answer for each range, in the order of the request.
pub type SettleAnswer = Vec<Vec<Result<(), LeaseError>>>;

/// Makes leases last for this long from now on. Not kept over a restart, like the leases.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RenewRequest {
    pub group: GroupName,
    pub holder: String,
    /// (first, last) ranges.
    pub partitions: Vec<(PartitionId, Vec<(u64, u64)>)>,
    pub lease: Lease,
}

/// Ends leases and appends batches, all of it or nothing, in one commit. Every partition that it names must be of topics
/// made with [`crate::TopicSettings::together`], and of one namespace. Done when it is answered: on the disk where any of
/// the topics is [`crate::Durability::Fsync`].
///
/// Repeating it is safe where each batch has a producer: if all batches were appended before, it is answered as then, and
/// nothing is settled. A `RemoteCore` repeats what a broken connection cut off, and gives producers to batches that have
/// none; without any batch such a call answers `Unavailable`, and may have been done.
#[derive(Clone, Debug)]
pub struct TransferRequest {
    pub group: GroupName,
    pub holder: String,
    /// Only while this session lives: when it has ended nothing is done any more, however long the request was on its way
    /// ([`TransferError::UnknownSession`]). Whoever sees that it has ended, and appends there, is behind all that was done for it.
    pub session: Option<SessionId>,
    /// At once and whole: one range that is not held refuses everything.
    pub settles: Vec<(PartitionId, Vec<SettleRange>)>,
    /// Neither part of a transaction nor markers.
    pub appends: Vec<Append>,
}

/// One for each append, in the order of the request.
pub type TransferAnswer = Result<Vec<Appended>, TransferError>;

/// Nothing was done, but for `StorageFailed` and `Unavailable`: then nobody knows, until the core is there again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TransferError {
    #[error("the partitions do not lie together")]
    NotTogether,
    /// A range of `settles[at]`.
    #[error("settling {at}: {error}")]
    Settle { at: u32, error: LeaseError },
    /// Of `appends[at]`.
    #[error("appending {at}: {error}")]
    Append { at: u32, error: AppendError },
    /// A batch of a transaction, a marker, or more than fits a pack of the log or a frame of the RPC.
    #[error("not what can be transferred at once")]
    Invalid,
    #[error("the session for which it was to be done has ended")]
    UnknownSession,
    #[error("the disk is full")]
    DiskFull,
    #[error("the storage failed")]
    StorageFailed,
    #[error("the core is unavailable")]
    Unavailable,
}

/// Settles the oldest messages that nobody holds (as accepted), without handing them out; delayed ones too. As safe when
/// it is answered as the topic's durability says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiscardRequest {
    pub group: GroupName,
    pub partition: PartitionId,
    /// Where the map begins if the group has none.
    pub start: SeekTo,
    pub messages_max: u64,
}

/// How many were settled. What was compacted away or rolled back is counted only if it was handed out before.
pub type DiscardAnswer = Result<u64, LeaseError>;

/// Makes all available again that the holder has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReleaseRequest {
    pub group: GroupName,
    pub holder: String,
    /// None: wherever it holds something.
    pub partitions: Option<Vec<PartitionId>>,
}

/// Moves floors, durably: everything from there on becomes new, all leases and counts are forgotten.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SeekRequest {
    pub group: GroupName,
    pub seeks: Vec<(PartitionId, SeekTo)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeekTo {
    Offset(u64),
    /// A time after the last record's is the end.
    At(OffsetAt),
}

/// The new floor of each partition, in order.
pub type SeekAnswer = Vec<Result<u64, LeaseError>>;

/// Asks what maps look like, changing nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeekRequest {
    pub group: GroupName,
    /// None: all on which the group has a map.
    pub partitions: Option<Vec<PartitionId>>,
    /// At most so many ranges of each map, from its floor on.
    pub ranges_max: u32,
}

/// For each partition its map, if the group has one.
pub type PeekAnswer = Vec<(PartitionId, Option<LeaseView>)>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseView {
    /// All before is settled.
    pub floor: u64,
    /// All from here on is new.
    pub next: u64,
    /// The partition's end: `available` + (`end` - `next`) messages can be handed out.
    pub end: u64,
    /// Messages between floor and next, but for the delayed ones.
    pub available: u64,
    /// Messages between floor and next that are not available yet.
    pub delayed: u64,
    pub leased: u64,
    pub settled: u64,
    /// Messages that were ever accepted and rejected.
    pub accepted_total: u64,
    pub rejected_total: u64,
    pub ranges: Vec<RangeView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeView {
    pub first: u64,
    /// Inclusive.
    pub last: u64,
    pub state: RangeState,
    pub acquisitions: u32,
    pub failures: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RangeState {
    Available,
    /// Available from then on, ms since the Unix epoch.
    Delayed {
        until_ms: i64,
    },
    Leased {
        holder: String,
    },
    Settled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LeaseError {
    #[error("no such partition")]
    UnknownPartition,
    /// Settle, renew: the group has no map there, or the holder holds not all of the range.
    #[error("not held")]
    NotHeld,
    /// Settle, renew: the whole range lies before the floor; it is settled, or was trimmed.
    #[error("before the floor")]
    Passed,
    #[error("no such session, or it has ended, or is older than the core's start")]
    UnknownSession,
    #[error("the range ends before it begins, or the holder has no name")]
    Invalid,
    #[error("a stored batch does not match its CRC")]
    Corrupt,
    #[error("the disk is full")]
    DiskFull,
    #[error("the storage failed")]
    StorageFailed,
    #[error("the core is unavailable")]
    Unavailable,
}
