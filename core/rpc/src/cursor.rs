//! A group's plain cursors: how far it has read in each partition.

use serde::{Deserialize, Serialize};

use crate::ids::PartitionId;

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
    pub cursors: Vec<(PartitionId, Cursor)>,
}

pub type CommitAnswer = Vec<Result<(), CursorError>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CursorError {
    #[error("no such partition")]
    UnknownPartition,
    #[error("a newer generation of the group has committed")]
    Fenced,
    #[error("the disk is full")]
    DiskFull,
    #[error("the storage failed")]
    StorageFailed,
    #[error("the core is unavailable")]
    Unavailable,
}
