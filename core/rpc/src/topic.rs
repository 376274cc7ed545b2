//! Topics: what they are made of, and what may be changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::TopicId;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    pub id: TopicId,
    pub namespace: String,
    pub name: String,
    /// Partitions are numbered 0 to `partitions` - 1; their number only grows.
    pub partitions: u32,
    pub settings: TopicSettings,
    /// A gateway's own notes on the topic; the core stores and does not read them.
    pub labels: BTreeMap<String, String>,
    /// ms since the Unix epoch.
    pub created_ms: i64,
    /// Rises with every change of this entry.
    pub version: u64,
}

/// What the core itself obeys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSettings {
    pub durability: Durability,
    /// Batches whose greatest time (append time where the format has none) is older are dropped. None: kept.
    pub retention_ms: Option<u64>,
    /// The oldest batches of a partition are dropped while it is larger. None: no limit.
    pub retention_bytes: Option<u64>,
    /// The largest payload of one batch.
    pub batch_bytes_max: u32,
}

/// When an append is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// When it is on the disk (group commit).
    Fsync,
    /// When it is with the operating system; synced within a second.
    Relaxed,
    /// When it is in the core's memory; written behind.
    Memory,
}

impl Default for TopicSettings {
    fn default() -> Self {
        TopicSettings {
            durability: Durability::Fsync,
            retention_ms: None,
            retention_bytes: None,
            batch_bytes_max: 64 << 20,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TopicCreate {
    pub namespace: String,
    pub name: String,
    /// At least 1.
    pub partitions: u32,
    pub settings: TopicSettings,
    pub labels: BTreeMap<String, String>,
}

/// What is None stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TopicAlter {
    pub id: Option<TopicId>,
    pub partitions: Option<u32>,
    pub settings: Option<TopicSettings>,
    pub labels: Option<BTreeMap<String, String>>,
    /// Alter only if the entry still has this version.
    pub if_version: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TopicError {
    #[error("no such topic")]
    Unknown,
    #[error("a topic of this name exists")]
    Exists,
    #[error("partitions can only be added, and number 1 to {max}")]
    PartitionCount { max: u32 },
    #[error("the topic was changed by somebody else")]
    Conflict,
    #[error("the disk is full")]
    DiskFull,
    #[error("the storage failed")]
    StorageFailed,
    #[error("the core is unavailable")]
    Unavailable,
}
