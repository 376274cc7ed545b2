//! Topics: what they are made of, and what may be changed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::TopicId;
use crate::meta::{MetaEntry, TOPIC_PREFIX, key_part, name_of_key_part};

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

impl Topic {
    /// The meta key of a topic: `topic/<namespace>/<name>`. The namespace is a [`key_part`], so that the first `/` after the
    /// prefix ends it; the name stands as it is.
    pub fn key(namespace: &str, name: &str) -> String {
        format!("{}{name}", Topic::key_prefix(namespace))
    }

    /// The prefix of the meta keys of all topics of a namespace.
    pub fn key_prefix(namespace: &str) -> String {
        format!("{TOPIC_PREFIX}{}/", key_part(namespace))
    }

    /// Namespace and name of a topic's key; the inverse of [`Topic::key`]. None if it is none.
    pub fn names_of_key(key: &str) -> Option<(Cow<'_, str>, &str)> {
        let (namespace, name) = key.strip_prefix(TOPIC_PREFIX)?.split_once('/')?;
        Some((name_of_key_part(namespace), name))
    }

    /// Reads the value of an entry under [`TOPIC_PREFIX`]; None if it is no topic.
    pub fn from_entry(entry: &MetaEntry) -> Option<Topic> {
        let (first, rest) = postcard::take_from_bytes::<StoredTopic>(&entry.value).ok()?;
        // Without the rest it was written before there was one.
        let (together, consumed_by) = if rest.is_empty() { (false, None) } else { postcard::from_bytes(rest).ok()? };
        Some(Topic {
            id: first.id,
            namespace: first.namespace,
            name: first.name,
            partitions: first.partitions,
            settings: TopicSettings {
                durability: first.settings.durability,
                compaction: first.settings.compaction,
                retention_ms: first.settings.retention_ms,
                retention_bytes: first.settings.retention_bytes,
                batch_bytes_max: first.settings.batch_bytes_max,
                together,
                consumed_by,
            },
            labels: first.labels,
            created_ms: first.created_ms,
            version: first.version,
        })
    }

    /// The value of its entry. None if it cannot be encoded, which is a bug.
    pub fn to_value(&self) -> Option<Vec<u8>> {
        let settings = StoredSettings {
            durability: self.settings.durability,
            compaction: self.settings.compaction,
            retention_ms: self.settings.retention_ms,
            retention_bytes: self.settings.retention_bytes,
            batch_bytes_max: self.settings.batch_bytes_max,
        };
        let first = StoredTopic {
            id: self.id,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            partitions: self.partitions,
            settings,
            labels: self.labels.clone(),
            created_ms: self.created_ms,
            version: self.version,
        };
        let value = postcard::to_stdvec(&first).ok()?;
        postcard::to_extend(&(self.settings.together, &self.settings.consumed_by), value).ok()
    }
}

/// A topic as an entry holds it: what topics had from the first version on; what came later stands behind it.
#[derive(Serialize, Deserialize)]
struct StoredTopic {
    id: TopicId,
    namespace: String,
    name: String,
    partitions: u32,
    settings: StoredSettings,
    labels: BTreeMap<String, String>,
    created_ms: i64,
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredSettings {
    durability: Durability,
    compaction: Option<Compaction>,
    retention_ms: Option<u64>,
    retention_bytes: Option<u64>,
    batch_bytes_max: u32,
}

/// What the core itself obeys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSettings {
    pub durability: Durability,
    /// None: records are not compacted by key.
    pub compaction: Option<Compaction>,
    /// Batches whose greatest time (append time where the format has none) is older are dropped. None: kept.
    pub retention_ms: Option<u64>,
    /// The oldest batches of a partition are dropped while it is larger. None: no limit.
    pub retention_bytes: Option<u64>,
    /// The largest payload of one batch; at most [`crate::BATCH_BYTES_MAX`].
    pub batch_bytes_max: u32,
    /// All partitions of all topics of the namespace that say so lie together, so that one
    /// [`crate::Core::transfer`] can settle and append in several of them. Fixed when the topic is made: an alter leaves it
    /// as it is.
    pub together: bool,
    /// What this group of the topic's namespace has settled (lease map) may be removed, whoever else reads here. None:
    /// reading removes nothing.
    pub consumed_by: Option<String>,
}

/// Of the records with one key, only the last is kept. Retention by time and size goes on beside it, where it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compaction {
    /// How long a tombstone is kept after what it deletes was removed, ms: so long a reader may take to come from there to
    /// the tombstone.
    pub tombstone_retention_ms: u64,
    /// Records whose time is less long ago are left alone, ms.
    pub lag_ms_min: u64,
    /// Records whose time is longer ago are compacted however few they are, ms. None: no limit.
    pub lag_ms_max: Option<u64>,
    /// Compacted when the part that was not compacted yet is so much of the whole, bytes by bytes in parts per million.
    pub dirty_ppm_min: u32,
}

/// When an append is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// When it is on the disk (group commit).
    Fsync,
    /// When it is with the operating system. A sync is asked for within a second; where more comes than the disk takes, it
    /// may be behind by as much as the engine allows (eight packs).
    Relaxed,
    /// When it is in the core's memory; written behind.
    Memory,
}

impl Durability {
    /// As settings write it: `fsync`, `relaxed` or `memory`.
    pub fn name(self) -> &'static str {
        match self {
            Durability::Fsync => "fsync",
            Durability::Relaxed => "relaxed",
            Durability::Memory => "memory",
        }
    }
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Durability::Fsync, Durability::Relaxed, Durability::Memory];
        let found = all.into_iter().find(|durability| durability.name() == name);
        found.ok_or_else(|| "expected fsync, relaxed or memory".into())
    }
}

impl Default for TopicSettings {
    fn default() -> Self {
        TopicSettings {
            durability: Durability::Fsync,
            compaction: None,
            retention_ms: None,
            retention_bytes: None,
            batch_bytes_max: 64 << 20,
            together: false,
            consumed_by: None,
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
    #[error("the namespace or name is empty or too long")]
    InvalidName,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_from_the_key() {
        for namespace in ["default", "/", "a/b%2Fc%"] {
            assert_eq!(Topic::names_of_key(&Topic::key(namespace, "x/y")), Some((namespace.into(), "x/y")));
        }
    }

    #[test]
    fn a_topic_is_read_as_it_was_written_by_this_version_and_the_first() {
        let settings = TopicSettings { together: true, consumed_by: Some("g".into()), ..TopicSettings::default() };
        let labels = [("a".to_owned(), "b".to_owned())].into();
        let (id, namespace, name) = (TopicId(7), "n".to_owned(), "t".to_owned());
        let topic = Topic { id, namespace, name, partitions: 3, settings, labels, created_ms: 5, version: 6 };
        let entry = |value: Vec<u8>| MetaEntry { key: String::new(), value: value.into(), version: 6, session: None };
        let value = topic.to_value().unwrap();
        assert_eq!(Topic::from_entry(&entry(value.clone())), Some(topic.clone()));
        let first = value[..value.len() - 4].to_vec();
        let without = TopicSettings { together: false, consumed_by: None, ..topic.settings.clone() };
        assert_eq!(Topic::from_entry(&entry(first)), Some(Topic { settings: without, ..topic }));
    }
}
