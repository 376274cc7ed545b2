//! Kafka's internal topics, for the tools that read them.
//!
//! In Kafka `__consumer_offsets` *is* what groups have committed. Here the core keeps that, and the topic is a copy for
//! whoever reads it (dashboards, lag exporters, `kafka-console-consumer --formatter …`): the coordinator of a group appends
//! a record of Kafka's own form after each change, without keeping the answer to the change waiting. `__transaction_state`
//! is a copy of the transactional ids' records likewise. So the copy is a
//! moment behind, and behind by that moment for good (until the next change) if the gateway is killed in it.
//!
//! What waits to be appended is the latest record of each key: however far the appending falls behind, no more waits than
//! there are offsets, groups and transactional ids.

pub mod consumer_offsets;
pub mod transaction_state;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use core_rpc::{Cursor, PartitionId, TopicId};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::state::groups::GroupRecord;
use crate::state::transactions::TransactionRecord;

pub use writer::{create, write};

/// Partitions of each internal topic: Kafka's default (`offsets.topic.num.partitions`, `transaction.state.log.num.partitions`).
pub const PARTITIONS: u32 = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InternalTopic {
    ConsumerOffsets,
    TransactionState,
}

impl InternalTopic {
    pub const ALL: [InternalTopic; 2] = [InternalTopic::ConsumerOffsets, InternalTopic::TransactionState];

    pub fn name(self) -> &'static str {
        match self {
            InternalTopic::ConsumerOffsets => "__consumer_offsets",
            InternalTopic::TransactionState => "__transaction_state",
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }
}

/// Whether a topic is one that only the broker writes.
pub fn is_internal(name: &str) -> bool {
    InternalTopic::of_name(name).is_some()
}

/// The partition of a group's or a transactional id's records: as Kafka's `Utils.abs(id.hashCode) % partitions`.
pub fn partition_of_id(id: &str, partitions: u32) -> u32 {
    let hash = id.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // The one number whose absolute value is none counts as 0.
    hash.checked_abs().unwrap_or(0) as u32 % partitions.max(1)
}

/// A record that waits to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub topic: InternalTopic,
    /// The group's id or the transactional id: decides the partition.
    pub id: String,
    pub key: Bytes,
    /// None: what the key was about is gone.
    pub value: Option<Bytes>,
}

/// Finds a topic's name.
pub type Names = Arc<dyn Fn(TopicId) -> Option<String> + Send + Sync>;

/// What is to be appended to the internal topics. Cheap to clone; every clone is the same.
#[derive(Clone, Default)]
pub struct Journal {
    /// None: nobody writes it down.
    shared: Option<Arc<Shared>>,
}

struct Shared {
    names: Names,
    pending: Mutex<Pending>,
    added: Notify,
    emptied: Notify,
}

#[derive(Default)]
struct Pending {
    /// By topic and key; with the order in which they came.
    entries: HashMap<(InternalTopic, Bytes), (u64, Entry)>,
    next: u64,
    /// Taken, but not appended yet.
    is_writing: bool,
}

impl Journal {
    pub fn new(names: Names) -> Self {
        let shared = Shared { names, pending: Mutex::default(), added: Notify::new(), emptied: Notify::new() };
        Journal { shared: Some(Arc::new(shared)) }
    }

    /// A group has committed an offset, or lost it (None).
    pub fn offset(&self, group: &str, partition: PartitionId, cursor: Option<&Cursor>) {
        let Some(shared) = &self.shared else { return };
        // An offset of a topic that is gone is nobody's concern.
        let Some(topic) = (shared.names)(partition.topic) else { return };
        let Some(key) = consumer_offsets::offset_key(group, &topic, partition.index) else { return };
        let value = match cursor {
            Some(cursor) => match consumer_offsets::offset_value(cursor) {
                Some(value) => Some(value),
                None => return,
            },
            None => None,
        };
        self.put(Entry { topic: InternalTopic::ConsumerOffsets, id: group.to_owned(), key, value });
    }

    /// A group's record was stored, or deleted (None).
    pub fn group(&self, group: &str, record: Option<&GroupRecord>) {
        if self.shared.is_none() {
            return;
        }
        let Some(key) = consumer_offsets::group_key(group) else { return };
        let value = match record.map(consumer_offsets::group_value) {
            Some(None) => return,
            Some(value) => value,
            None => None,
        };
        self.put(Entry { topic: InternalTopic::ConsumerOffsets, id: group.to_owned(), key, value });
    }

    /// A transactional id's record was changed, or deleted (None).
    pub fn transaction(&self, id: &str, record: Option<&TransactionRecord>) {
        let Some(shared) = &self.shared else { return };
        let Some(key) = transaction_state::key(id) else { return };
        let value = record.map(|record| transaction_state::value(record, |topic| (shared.names)(topic)));
        self.put(Entry { topic: InternalTopic::TransactionState, id: id.to_owned(), key, value });
    }

    /// Any record; it takes the place of an earlier one of its key that still waits.
    pub fn put(&self, entry: Entry) {
        let Some(shared) = &self.shared else { return };
        let mut pending = shared.pending.lock();
        let order = pending.next;
        pending.next += 1;
        pending.entries.insert((entry.topic, entry.key.clone()), (order, entry));
        drop(pending);
        shared.added.notify_one();
    }

    /// Waits until everything is appended.
    pub async fn flushed(&self) {
        let Some(shared) = &self.shared else { return };
        loop {
            let emptied = shared.emptied.notified();
            {
                let pending = shared.pending.lock();
                if pending.entries.is_empty() && !pending.is_writing {
                    return;
                }
            }
            emptied.await;
        }
    }

    /// All that waits, in order; waits until something does.
    async fn take(&self) -> Vec<Entry> {
        let Some(shared) = &self.shared else { return std::future::pending().await };
        loop {
            let added = shared.added.notified();
            {
                let mut pending = shared.pending.lock();
                if !pending.entries.is_empty() {
                    pending.is_writing = true;
                    let mut entries: Vec<(u64, Entry)> = pending.entries.drain().map(|(_, entry)| entry).collect();
                    entries.sort_unstable_by_key(|(order, _)| *order);
                    return entries.into_iter().map(|(_, entry)| entry).collect();
                }
            }
            added.await;
        }
    }

    /// What was taken is appended, but for these, which are to be tried again unless something newer came.
    fn done(&self, failed: Vec<Entry>) {
        let Some(shared) = &self.shared else { return };
        let mut pending = shared.pending.lock();
        pending.is_writing = false;
        for entry in failed {
            let order = pending.next;
            pending.next += 1;
            pending.entries.entry((entry.topic, entry.key.clone())).or_insert((order, entry));
        }
        let is_empty = pending.entries.is_empty();
        drop(pending);
        if is_empty {
            shared.emptied.notify_waiters();
        } else {
            shared.added.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_those_of_kafka() {
        // As "…".hashCode() in Java.
        assert_eq!(partition_of_id("", 50), 0);
        assert_eq!(partition_of_id("console-consumer-1", 50), expected("console-consumer-1"));
        assert_eq!(partition_of_id("polygenelubricants", 50), 0, "its hash is the smallest number");
        assert_eq!(partition_of_id("hello", 50), 99162322 % 50);
        assert_eq!(partition_of_id("𝄞", 50), expected("𝄞"));
    }

    fn expected(id: &str) -> u32 {
        let mut hash: i64 = 0;
        for unit in id.encode_utf16() {
            hash = (hash * 31 + i64::from(unit)) & 0xffff_ffff;
        }
        (hash as u32 as i32).unsigned_abs() % 50
    }

    fn entry(key: &'static str, value: &'static str) -> Entry {
        let topic = InternalTopic::ConsumerOffsets;
        Entry { topic, id: "g".into(), key: Bytes::from_static(key.as_bytes()), value: Some(value.into()) }
    }

    #[tokio::test]
    async fn only_the_latest_of_a_key_waits() {
        let journal = Journal::new(Arc::new(|_| None));
        for (key, value) in [("a", "1"), ("b", "1"), ("a", "2")] {
            journal.put(entry(key, value));
        }
        assert_eq!(journal.take().await, [entry("b", "1"), entry("a", "2")]);
        // It fails, and something newer has come meanwhile.
        journal.put(entry("b", "2"));
        journal.done(vec![entry("b", "1"), entry("a", "2")]);
        assert_eq!(journal.take().await, [entry("b", "2"), entry("a", "2")]);
        journal.done(Vec::new());
        journal.flushed().await;
    }
}
