//! The records of `__consumer_offsets`, as Kafka writes them.
//!
//! ```text
//! offset  key     version i16 = 1 │ group │ topic │ partition i32
//!         value   version i16 = 3 │ offset i64 │ leader epoch i32 │ metadata │ commit time i64 (ms)
//!                 version i16 = 1 │ offset i64 │ metadata │ commit time i64 │ expires at i64 (ms), where the commit said so
//! group   key     version i16 = 2 │ group
//!         value   version i16 = 3 │ protocol type │ generation i32 │ protocol? │ leader? │ since i64 (ms) │ members i32 ×
//!                 (id │ instance id? │ client id │ client host │ rebalance timeout i32 │ session timeout i32 (ms) │
//!                  subscription bytes │ assignment bytes)
//! ```
//! Numbers are big-endian. A text is its length as an i16 and its UTF-8 bytes; where it may be missing (?), the length -1
//! says so. Bytes have their length as an i32.

use bytes::{BufMut, Bytes, BytesMut};
use core_rpc::Cursor;

use crate::state::groups::{GroupRecord, MemberRecord, read_lifetime};

const OFFSET_KEY_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;
const OFFSET_VALUE_VERSION: i16 = 3;
/// The only one that has room for a moment of its own.
const EXPIRING_OFFSET_VALUE_VERSION: i16 = 1;
const GROUP_VALUE_VERSION: i16 = 3;

/// None, here and below: a text is too long for such a record.
pub fn offset_key(group: &str, topic: &str, partition: u32) -> Option<Bytes> {
    let mut bytes = BytesMut::with_capacity(10 + group.len() + topic.len());
    bytes.put_i16(OFFSET_KEY_VERSION);
    put_text(&mut bytes, group)?;
    put_text(&mut bytes, topic)?;
    bytes.put_i32(partition as i32);
    Some(bytes.freeze())
}

pub fn offset_value(cursor: &Cursor) -> Option<Bytes> {
    let (expires_at_ms, words) = read_lifetime(&cursor.metadata);
    let mut bytes = BytesMut::with_capacity(28 + words.len());
    bytes.put_i16(expires_at_ms.map_or(OFFSET_VALUE_VERSION, |_| EXPIRING_OFFSET_VALUE_VERSION));
    bytes.put_i64(cursor.offset as i64);
    if expires_at_ms.is_none() {
        bytes.put_i32(cursor.epoch);
    }
    put_text(&mut bytes, words)?;
    bytes.put_i64(cursor.time_ms);
    if let Some(at_ms) = expires_at_ms {
        bytes.put_i64(at_ms);
    }
    Some(bytes.freeze())
}

pub fn group_key(group: &str) -> Option<Bytes> {
    let mut bytes = BytesMut::with_capacity(4 + group.len());
    bytes.put_i16(GROUP_KEY_VERSION);
    put_text(&mut bytes, group)?;
    Some(bytes.freeze())
}

pub fn group_value(record: &GroupRecord) -> Option<Bytes> {
    let mut bytes = BytesMut::new();
    bytes.put_i16(GROUP_VALUE_VERSION);
    put_text(&mut bytes, record.protocol_type.as_deref().unwrap_or_default())?;
    bytes.put_i32(record.generation);
    put_optional_text(&mut bytes, record.protocol.as_deref())?;
    put_optional_text(&mut bytes, record.leader.as_deref())?;
    bytes.put_i64(record.state_since_ms);
    bytes.put_i32(i32::try_from(record.members.len()).ok()?);
    for member in &record.members {
        put_member(&mut bytes, member, record.protocol.as_deref())?;
    }
    Some(bytes.freeze())
}

fn put_member(bytes: &mut BytesMut, member: &MemberRecord, protocol: Option<&str>) -> Option<()> {
    put_text(bytes, &member.id)?;
    put_optional_text(bytes, member.instance_id.as_deref())?;
    put_text(bytes, &member.client_id)?;
    put_text(bytes, &member.client_host)?;
    bytes.put_i32(i32::try_from(member.rebalance_timeout_ms).ok()?);
    bytes.put_i32(i32::try_from(member.session_timeout_ms).ok()?);
    let subscription = member.protocols.iter().find(|offered| Some(offered.name.as_str()) == protocol);
    put_bytes(bytes, subscription.map_or(&[], |offered| &offered.metadata))?;
    put_bytes(bytes, &member.assignment)
}

fn put_text(bytes: &mut BytesMut, text: &str) -> Option<()> {
    bytes.put_i16(i16::try_from(text.len()).ok()?);
    bytes.put_slice(text.as_bytes());
    Some(())
}

fn put_optional_text(bytes: &mut BytesMut, text: Option<&str>) -> Option<()> {
    match text {
        Some(text) => put_text(bytes, text),
        None => {
            bytes.put_i16(-1);
            Some(())
        }
    }
}

fn put_bytes(bytes: &mut BytesMut, content: &[u8]) -> Option<()> {
    bytes.put_i32(i32::try_from(content.len()).ok()?);
    bytes.put_slice(content);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::groups::Protocol;

    #[test]
    fn offsets_are_written_as_by_kafka() {
        let key = offset_key("g", "topic", 7).unwrap();
        assert_eq!(key, &b"\x00\x01\x00\x01g\x00\x05topic\x00\x00\x00\x07"[..]);
        let cursor = Cursor { offset: 258, epoch: -1, metadata: "m".into(), time_ms: 5 };
        let value = offset_value(&cursor).unwrap();
        let expected = b"\x00\x03\0\0\0\0\0\0\x01\x02\xff\xff\xff\xff\x00\x01m\0\0\0\0\0\0\0\x05";
        assert_eq!(value, &expected[..]);
        let expiring = Cursor { metadata: "\u{1}7\u{1}m".into(), ..cursor };
        let expected = b"\x00\x01\0\0\0\0\0\0\x01\x02\x00\x01m\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x07";
        assert_eq!(offset_value(&expiring).unwrap(), &expected[..]);
        assert_eq!(offset_key(&"x".repeat(40_000), "t", 0), None);
    }

    #[test]
    fn groups_are_written_as_by_kafka() {
        assert_eq!(group_key("g").unwrap(), &b"\x00\x02\x00\x01g"[..]);
        let member = MemberRecord {
            id: "m".into(),
            instance_id: None,
            client_id: "c".into(),
            client_host: "/h".into(),
            rebalance_timeout_ms: 1,
            session_timeout_ms: 2,
            protocols: vec![Protocol { name: "range".into(), metadata: Bytes::from_static(b"sub") }],
            assignment: Bytes::from_static(b"as"),
        };
        let record = GroupRecord {
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            generation: 3,
            leader: None,
            state_since_ms: 9,
            members: vec![member],
        };
        let expected: [&[u8]; 2] = [
            b"\x00\x03\x00\x08consumer\x00\x00\x00\x03\x00\x05range\xff\xff\0\0\0\0\0\0\0\x09\x00\x00\x00\x01",
            b"\x00\x01m\xff\xff\x00\x01c\x00\x02/h\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03sub\x00\x00\x00\x02as",
        ];
        assert_eq!(group_value(&record).unwrap(), expected.concat());
    }
}
