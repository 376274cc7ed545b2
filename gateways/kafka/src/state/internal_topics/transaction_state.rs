//! The records of `__transaction_state`, as Kafka writes them.
//!
//! ```text
//! key     version i16 = 0 │ transactional id
//! value   version i16 = 1 │ producer id i64 │ epoch i16 │ time-out i32 (ms) │ state i8 │ partitions? … │
//!         last change i64 (ms) │ begin i64 (ms) │ tagged: 0 = previous producer id i64, 1 = next producer id i64
//! partitions   topic │ indexes … (i32) │ tagged: none
//! ```
//! Numbers are big-endian. The key's text is its length as an i16 and its UTF-8 bytes. In the value lengths are varints, and one
//! more than they are; 0 where something is missing (?): an id that has no transaction has no partitions, which is not the same
//! as none. Tag 2, the client's version of transactions, is left out: the record does not know it.

use bytes::{BufMut, Bytes, BytesMut};
use core_rpc::TopicId;

use super::InternalTopic;
use crate::state::transactions::{TransactionRecord, TransactionState};

const KEY_VERSION: i16 = 0;
const VALUE_VERSION: i16 = 1;

const PREVIOUS_PRODUCER_ID_TAG: u8 = 0;
const NEXT_PRODUCER_ID_TAG: u8 = 1;

/// None: the id is too long for such a record.
pub fn key(id: &str) -> Option<Bytes> {
    let mut bytes = BytesMut::with_capacity(4 + id.len());
    bytes.put_i16(KEY_VERSION);
    bytes.put_i16(i16::try_from(id.len()).ok()?);
    bytes.put_slice(id.as_bytes());
    Some(bytes.freeze())
}

/// Topics without a name are gone, and left out.
pub fn value(record: &TransactionRecord, name: impl Fn(TopicId) -> Option<String>) -> Bytes {
    let mut bytes = BytesMut::with_capacity(64);
    bytes.put_i16(VALUE_VERSION);
    bytes.put_i64(record.producer_id);
    bytes.put_i16(record.epoch);
    bytes.put_i32(record.timeout_ms);
    bytes.put_u8(record.state.number());
    put_partitions(&mut bytes, record, name);
    bytes.put_i64(record.updated_ms);
    bytes.put_i64(record.started_ms);
    let ids =
        [(PREVIOUS_PRODUCER_ID_TAG, record.previous_producer_id), (NEXT_PRODUCER_ID_TAG, record.next_producer_id)];
    let ids: Vec<(u8, i64)> = ids.into_iter().filter(|(_, id)| *id != -1).collect();
    bytes.put_u8(ids.len() as u8);
    for (tag, id) in ids {
        bytes.put_u8(tag);
        bytes.put_u8(size_of::<i64>() as u8);
        bytes.put_i64(id);
    }
    bytes.freeze()
}

fn put_partitions(bytes: &mut BytesMut, record: &TransactionRecord, name: impl Fn(TopicId) -> Option<String>) {
    if record.state == TransactionState::Empty {
        return put_varint(bytes, 0);
    }
    let mut topics: Vec<(String, Vec<u32>)> = Vec::new();
    for (topic, indexes) in &record.partitions {
        if let Some(name) = name(*topic) {
            topics.push((name, indexes.iter().copied().collect()));
        }
    }
    if !record.offsets_partitions.is_empty() {
        let indexes = record.offsets_partitions.iter().copied().collect();
        topics.push((InternalTopic::ConsumerOffsets.name().to_owned(), indexes));
    }
    put_varint(bytes, topics.len() + 1);
    for (topic, indexes) in topics {
        put_varint(bytes, topic.len() + 1);
        bytes.put_slice(topic.as_bytes());
        put_varint(bytes, indexes.len() + 1);
        indexes.into_iter().for_each(|index| bytes.put_u32(index));
        put_varint(bytes, 0);
    }
}

fn put_varint(bytes: &mut BytesMut, mut value: usize) {
    while value > 0x7f {
        bytes.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(state: TransactionState) -> TransactionRecord {
        TransactionRecord {
            producer_id: 258,
            epoch: 3,
            previous_producer_id: -1,
            previous_epoch: 2,
            next_producer_id: -1,
            ending_epoch: -1,
            state,
            timeout_ms: 5,
            started_ms: -1,
            updated_ms: 9,
            partitions: Default::default(),
            offsets_partitions: Default::default(),
        }
    }

    #[test]
    fn keys_are_written_as_by_kafka() {
        assert_eq!(key("tx").unwrap(), &b"\0\0\0\x02tx"[..]);
        assert_eq!(key(&"x".repeat(40_000)), None);
    }

    #[test]
    fn values_are_written_as_by_kafka() {
        let empty = value(&record(TransactionState::Empty), |_| None);
        let head = b"\0\x01\0\0\0\0\0\0\x01\x02\0\x03\0\0\0\x05";
        let times = b"\0\0\0\0\0\0\0\x09\xff\xff\xff\xff\xff\xff\xff\xff";
        let expected: [&[u8]; 4] = [head, b"\0\0", times, b"\0"];
        assert_eq!(empty, expected.concat(), "no partitions at all");

        let mut ended = record(TransactionState::CompleteCommit);
        ended.previous_producer_id = 7;
        let expected: [&[u8]; 4] = [head, b"\x04\x01", times, b"\x01\0\x08\0\0\0\0\0\0\0\x07"];
        assert_eq!(value(&ended, |_| None), expected.concat(), "a list of none");

        let mut open = record(TransactionState::Ongoing);
        open.partitions.insert(TopicId(1), [0, 2].into());
        open.partitions.insert(TopicId(2), [0].into());
        open.offsets_partitions.insert(4);
        let named = value(&open, |topic| (topic == TopicId(1)).then(|| "t".repeat(200)));
        let name = "t".repeat(200);
        let expected: [&[u8]; 9] = [
            head,
            b"\x01\x03",
            b"\xc9\x01",
            name.as_bytes(),
            b"\x03\0\0\0\0\0\0\0\x02\0",
            b"\x13__consumer_offsets",
            b"\x02\0\0\0\x04\0",
            times,
            b"\0",
        ];
        assert_eq!(named, expected.concat());
    }
}
