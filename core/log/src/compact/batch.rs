//! What compaction makes of one batch.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use codec_record::{Batch, BatchFlags, BatchHeader, Formats, Retained};
use core_rpc::AbortedTransaction;

use super::key_map::KeyMap;

/// What decides which records stay.
pub struct Rules<'a> {
    pub formats: &'a Formats,
    /// Where each key was last seen.
    pub keys: &'a KeyMap,
    /// The aborted transactions that may have batches here.
    pub aborted: &'a Aborted,
    pub now_ms: i64,
    /// Until when the tombstones are kept that are compacted for the first time.
    pub tombstones_until_ms: i64,
    /// A batch of an aborted transaction had to stay: then so do the markers of aborted ones in this pass.
    pub aborted_stays: Cell<bool>,
}

/// The markers of aborted transactions are kept at least so long, whatever the topic says of tombstones: a read that has
/// begun must not find the transaction's batches and then no word of it.
const MARKER_RETENTION_MS: i64 = 60_000;

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it, perhaps with another header.
    Whole(BatchHeader),
    Less(Batch),
    /// Nothing, unless it has to say where its segment ends: then this.
    Gone(Batch),
}

impl Rules<'_> {
    pub fn apply(&self, batch: &Batch) -> Outcome {
        let header = &batch.header;
        if header.flags.contains(BatchFlags::CONTROL) {
            return self.apply_to_marker(batch);
        }
        let format = self.formats.get(header.format);
        let aborted = self.aborted.contains(header);
        if !format.has_keys() {
            self.aborted_stays.set(self.aborted_stays.get() || aborted);
            return Outcome::Whole(*header);
        }
        if header.not_before_ms.is_some() {
            // It has no room for when its tombstones may go, and is read as it was written by whoever waits for it.
            self.aborted_stays.set(self.aborted_stays.get() || aborted);
            return Outcome::Whole(*header);
        }
        let expired = header.tombstones_until_ms.is_some_and(|until_ms| self.now_ms >= until_ms);
        let (mut tombstones, mut readable) = (false, true);
        let retained = format.retain(header, &batch.payload, &mut |record| {
            readable &= record.position < header.count;
            // A record without a key is of a time when the topic was not compacted: nothing can say that it is the last.
            let Some(key) = record.key.filter(|_| !aborted) else { return false };
            let offset = header.base_offset + u64::from(record.position);
            let is_last = self.keys.get(self.keys.hash(key)).is_none_or(|last| offset >= last);
            let deletes = record.tombstone || record.expires_ms.is_some_and(|expires_ms| self.now_ms >= expires_ms);
            let stays = is_last && !(deletes && expired);
            tombstones |= stays && deletes;
            stays
        });
        let first_time = tombstones && header.tombstones_until_ms.is_none();
        let until_ms = if first_time { Some(self.tombstones_until_ms) } else { header.tombstones_until_ms };
        let header = BatchHeader { tombstones_until_ms: until_ms, ..*header };
        match retained {
            // What its format cannot read is left alone.
            retained if retained.is_err() || !readable => {
                self.aborted_stays.set(self.aborted_stays.get() || aborted);
                Outcome::Whole(batch.header)
            }
            Err(_) => Outcome::Whole(batch.header),
            Ok(Retained::All) => Outcome::Whole(header),
            Ok(Retained::Some { payload, max_time_ms }) => {
                Outcome::Less(BatchHeader { max_time_ms, ..header }.with_payload(payload))
            }
            // A time that no search by time finds, and that is as old as can be.
            Ok(Retained::None { payload }) => {
                Outcome::Gone(BatchHeader { max_time_ms: 0, tombstones_until_ms: None, ..header }.with_payload(payload))
            }
        }
    }

    /// A committed reader needs no marker but those of aborted transactions, which end what it has to leave out; and those
    /// not for ever, once the batches are gone.
    fn apply_to_marker(&self, batch: &Batch) -> Outcome {
        let header = &batch.header;
        if !header.flags.contains(BatchFlags::TRANSACTIONAL) {
            return Outcome::Whole(*header);
        }
        if !self.aborted.ends_at(header) {
            return Outcome::Gone(batch.clone());
        }
        match header.tombstones_until_ms {
            Some(until_ms) if self.now_ms >= until_ms && !self.aborted_stays.get() => Outcome::Gone(batch.clone()),
            Some(_) => Outcome::Whole(*header),
            None => {
                let until_ms = self.tombstones_until_ms.max(self.now_ms.saturating_add(MARKER_RETENTION_MS));
                Outcome::Whole(BatchHeader { tombstones_until_ms: Some(until_ms), ..*header })
            }
        }
    }
}

/// Aborted transactions of a range of a partition.
#[derive(Debug, Default)]
pub struct Aborted {
    /// Of each producer, in the order of their offsets: the first batch's, the marker's.
    of_producer: HashMap<i64, Vec<(u64, u64)>>,
    markers: HashSet<u64>,
}

impl Aborted {
    /// `transactions` in the order of their first offsets.
    pub fn new(transactions: Vec<AbortedTransaction>) -> Aborted {
        let mut aborted = Aborted::default();
        for AbortedTransaction { producer_id, first_offset, last_offset } in transactions {
            aborted.of_producer.entry(producer_id).or_default().push((first_offset, last_offset));
            aborted.markers.insert(last_offset);
        }
        aborted
    }

    /// Whether a batch is of an aborted transaction.
    pub fn contains(&self, header: &BatchHeader) -> bool {
        let Some(producer) = header.producer.filter(|_| header.flags.contains(BatchFlags::TRANSACTIONAL)) else {
            return false;
        };
        // A producer has one transaction after the other.
        let Some(transactions) = self.of_producer.get(&producer.id) else { return false };
        let at = transactions.partition_point(|(first, _)| *first <= header.base_offset);
        at > 0 && transactions[at - 1].1 >= header.base_offset
    }

    /// Whether a marker ends one of them.
    pub fn ends_at(&self, header: &BatchHeader) -> bool {
        self.markers.contains(&header.base_offset)
    }
}
