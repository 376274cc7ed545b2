//! A group's plain cursors: how far it has read in each partition.

use serde::{Deserialize, Serialize};

use crate::ids::PartitionId;
use crate::transaction::TransactionProducer;

/// Names a group. Groups have no life of their own in the core: one exists while it has a cursor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupName {
    pub namespace: String,
    pub group: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The next offset to read.
    pub offset: u64,
    /// The leader epoch of the last record read, where the client said one; else -1.
    pub epoch: i32,
    /// The client's own words; not interpreted.
    pub metadata: String,
    /// When it was committed, ms since the Unix epoch.
    pub time_ms: i64,
}

/// Commits cursors durably. Each partition succeeds or fails for itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CommitRequest {
    pub group: GroupName,
    /// Fences: a commit whose generation is lower than one seen before on that partition is refused.
    /// None commits unconditionally.
    pub generation: Option<u64>,
    /// The cursors belong to this producer's transaction: they are kept durably, but nobody sees them until it commits,
    /// and they are dropped when it aborts.
    pub transaction: Option<TransactionProducer>,
    pub cursors: Vec<(PartitionId, Cursor)>,
}

/// What a group has on a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// None: no cursor.
    pub cursor: Option<Cursor>,
    /// An open transaction has a cursor for it, so that it may change without a commit.
    pub pending: bool,
}

pub type CommitAnswer = Vec<Result<(), CursorError>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CursorError {
    #[error("no such partition")]
    UnknownPartition,
    #[error("a newer generation of the group has committed")]
    Fenced,
    #[error("a newer epoch of this producer is known")]
    ProducerFenced,
    /// The producer's transaction of an older epoch is still open here: it must be ended first.
    #[error("another transaction of this producer is open")]
    TransactionOpen,
    #[error("the disk is full")]
    DiskFull,
    #[error("the storage failed")]
    StorageFailed,
    #[error("the core is unavailable")]
    Unavailable,
}
