//! Meta: a small versioned key-value space with sessions and watches.
//!
//! A **revision** counts the changes of the whole space; an entry's **version** is the revision of its last change.
//! Keys under `topic/` are the topics' own (postcard of [`crate::Topic`] at `topic/<namespace>/<name>`): readable and
//! watchable like any, changed only by the topic verbs.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The prefix of the keys that only the topic verbs change.
pub const TOPIC_PREFIX: &str = "topic/";

/// A name as part of a key, where `/` ends a part: `%` and `/` are written `%25` and `%2F`.
pub fn key_part(name: &str) -> Cow<'_, str> {
    if name.contains(['%', '/']) {
        Cow::Owned(name.replace('%', "%25").replace('/', "%2F"))
    } else {
        Cow::Borrowed(name)
    }
}

/// The name of a part of a key; the inverse of [`key_part`].
pub fn name_of_key_part(part: &str) -> Cow<'_, str> {
    if part.contains('%') { Cow::Owned(part.replace("%2F", "/").replace("%25", "%")) } else { Cow::Borrowed(part) }
}

/// The longest key, bytes.
pub const META_KEY_BYTES_MAX: usize = 2048;

/// The largest value, bytes: the space is held in memory and is meant for many small entries.
pub const META_VALUE_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaEntry {
    pub key: String,
    pub value: Bytes,
    pub version: u64,
    /// The session with which the entry vanishes.
    pub session: Option<SessionId>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MetaPut {
    pub key: String,
    pub value: Bytes,
    pub condition: MetaCondition,
    pub session: Option<SessionId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaCondition {
    Always,
    /// Only if there is no such key.
    Absent,
    /// Only if the entry has this version.
    Version(u64),
}

/// Everything under a prefix, as of one revision; a watch continues from there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MetaList {
    pub entries: Vec<MetaEntry>,
    pub revision: u64,
}

/// A standing question: what changed under `prefix` after `after_revision`? Answers at once if something did,
/// else when something does or `wait` is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MetaWatch {
    pub prefix: String,
    pub after_revision: u64,
    pub wait: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaChanges {
    /// In order; empty when the wait is over. Watch on from `revision`.
    Events { events: Vec<MetaEvent>, revision: u64 },
    /// The changes after that revision are no longer remembered: list again.
    Relist,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaEvent {
    Put(MetaEntry),
    Deleted { key: String, revision: u64 },
}

/// A session: while its holder renews it within its time to live, its keys stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(pub u64);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum MetaError {
    /// The condition does not hold. The entry as it is, if there is one.
    #[error("the entry is not as expected")]
    Conflict(Option<MetaEntry>),
    #[error("no such session, or it has ended")]
    UnknownSession,
    #[error("the key is empty, too long or not the caller's to change")]
    InvalidKey,
    #[error("the value is larger than {META_VALUE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the disk is full")]
    DiskFull,
    #[error("the storage failed")]
    StorageFailed,
    #[error("the core is unavailable")]
    Unavailable,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_come_back(name in "[/%a-z25F]{0,8}") {
            let part = key_part(&name);
            prop_assert!(!part.contains('/'));
            prop_assert_eq!(name_of_key_part(&part), name.as_str());
        }
    }
}
