//! Messages as they are stored: the payload of [`FormatId::MQTT`](crate::FormatId::MQTT).
//!
//! ```text
//!  0        4  5           13         17     19         23
//!  ├ length ┼fl┼ publisher ┼ expiry s ┼ tl   ┼ pl ──────┼ topic │ properties │ payload
//!
//!  length: of what follows it; 0: the message is gone (compaction), and nothing follows
//!  fl: bits 0-1 QoS, bit 2 retain     publisher: a hash of the client id that published, 0: nobody's
//!  expiry: seconds after the batch's append time; 0xffff_ffff: never
//!  tl: bytes of the topic name     pl: bytes of the properties
//! ```
//! All integers are little-endian, but for those inside the properties, which are in MQTT 5's wire form without their length. A
//! batch has one message or more, one behind the other; a message's place among them is its offset relative to the batch's
//! base, and its time is the batch's. Messages that are gone at the end may be missing altogether.

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::Batch;
use crate::format::{FormatError, FormatId};

/// What stands before a message's topic name, bytes.
pub const HEAD_BYTES: usize = 23;

/// Bytes that the length does not count: itself.
const LENGTH_BYTES: usize = 4;

const QOS_MAX: u8 = 2;
const QOS_BITS: u8 = 3;
const RETAIN: u8 = 4;
const NEVER: u32 = u32::MAX;

/// One message, sharing the memory of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageView {
    /// Its offset relative to the batch's base.
    pub position: u32,
    /// 0 to 2.
    pub qos: u8,
    /// It was published with the retain flag.
    pub retain: bool,
    /// A hash of the client id that published it, so that nobody gets back what is his (no-local); 0: nobody's.
    pub publisher: u64,
    /// Seconds after the batch's append time from which on nobody may see it; None: never.
    pub expiry_s: Option<u32>,
    /// The topic name: what is compacted by. UTF-8, which its writer has seen to.
    pub topic: Bytes,
    /// In MQTT 5's wire form, without their length; those that belong to one packet only are not among them.
    pub properties: Bytes,
    pub payload: Bytes,
}

impl MessageView {
    /// The topic name as text. An error if it is none, which nobody writes.
    pub fn topic_str(&self) -> Result<&str, FormatError> {
        std::str::from_utf8(&self.topic).map_err(|_| FormatError)
    }

    /// The same, borrowed: to be stored again.
    pub fn parts(&self) -> MessageParts<'_> {
        MessageParts {
            qos: self.qos,
            retain: self.retain,
            publisher: self.publisher,
            expiry_s: self.expiry_s,
            topic: &self.topic,
            properties: &self.properties,
            payload: &self.payload,
        }
    }
}

/// A message in parts that lie anywhere. As in [`MessageView`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessageParts<'a> {
    pub qos: u8,
    pub retain: bool,
    pub publisher: u64,
    pub expiry_s: Option<u32>,
    /// At most 65,535 bytes, as on the wire.
    pub topic: &'a [u8],
    pub properties: &'a [u8],
    pub payload: &'a [u8],
}

impl MessageParts<'_> {
    /// Bytes that it takes when stored.
    pub fn stored_bytes(&self) -> usize {
        HEAD_BYTES + self.topic.len() + self.properties.len() + self.payload.len()
    }
}

/// Puts messages together into a batch.
#[derive(Debug, Default)]
pub struct Writer {
    out: BytesMut,
    count: u32,
}

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    /// With room for `bytes` of stored messages: who knows what will come reserves once.
    pub fn with_capacity(bytes: usize) -> Self {
        Writer { out: BytesMut::with_capacity(bytes), count: 0 }
    }

    /// Adds a message. What all messages of a batch take together must stay below 2 GiB. An expiry of `u32::MAX` seconds
    /// becomes one second less.
    pub fn append(&mut self, message: &MessageParts<'_>) {
        let MessageParts { topic, properties, payload, .. } = *message;
        debug_assert!(message.qos <= QOS_MAX && topic.len() <= usize::from(u16::MAX));
        let bytes = message.stored_bytes();
        let flags = message.qos & QOS_BITS | if message.retain { RETAIN } else { 0 };
        let expiry_s = message.expiry_s.map_or(NEVER, |expiry_s| expiry_s.min(NEVER - 1));
        let mut head = [0; HEAD_BYTES];
        head[0..4].copy_from_slice(&((bytes - LENGTH_BYTES) as u32).to_le_bytes());
        head[4] = flags;
        head[5..13].copy_from_slice(&message.publisher.to_le_bytes());
        head[13..17].copy_from_slice(&expiry_s.to_le_bytes());
        head[17..19].copy_from_slice(&(topic.len() as u16).to_le_bytes());
        head[19..23].copy_from_slice(&(properties.len() as u32).to_le_bytes());
        self.out.reserve(bytes);
        self.out.put_slice(&head);
        self.out.put_slice(topic);
        self.out.put_slice(properties);
        self.out.put_slice(payload);
        self.count += 1;
    }

    /// Adds the place of a message that is gone.
    pub fn append_gone(&mut self) {
        self.out.put_u32_le(0);
        self.count += 1;
    }

    /// How many messages there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> usize {
        self.out.len()
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The payload; the writer is empty then, and keeps what memory is left.
    pub fn take_payload(&mut self) -> Bytes {
        self.count = 0;
        self.out.split().freeze()
    }

    /// The batch of what was published at `time_ms`, milliseconds since the Unix epoch, if there is a message in it; the writer
    /// is empty then.
    pub fn take(&mut self, time_ms: i64) -> Option<Batch> {
        if self.count == 0 {
            return None;
        }
        let count = self.count;
        Some(Batch::new(FormatId::MQTT, count, time_ms, self.take_payload()))
    }
}

/// A batch of one message, published at `time_ms`.
pub fn batch_of(message: &MessageParts<'_>, time_ms: i64) -> Batch {
    let mut writer = Writer::new();
    writer.append(message);
    Batch::new(FormatId::MQTT, 1, time_ms, writer.take_payload())
}

/// The messages of a payload that are still there, in order, without a copy.
pub fn messages(payload: &Bytes) -> Messages {
    Messages { payload: payload.clone(), at: 0, position: 0 }
}

/// The same for whoever only looks: nothing is counted, nothing shared.
pub fn walk(payload: &[u8]) -> Walk<'_> {
    Walk { payload, at: 0, position: 0 }
}

/// The message at a position; None if it is gone, or there is no such position. Those before it are skipped, so for many of a
/// batch [`messages`] is the better way.
pub fn nth(payload: &Bytes, position: u32) -> Result<Option<MessageView>, FormatError> {
    let mut at = 0;
    for _ in 0..position {
        if at == payload.len() {
            return Ok(None);
        }
        at += LENGTH_BYTES + length_at(payload, at)?;
    }
    match at == payload.len() {
        true => Ok(None),
        false => {
            let (_, parts) = stored_at(payload, at)?;
            Ok(parts.map(|parts| view(payload, position, &parts)))
        }
    }
}

/// The messages of a payload. After an error there are no more.
#[derive(Debug, Clone)]
pub struct Messages {
    payload: Bytes,
    at: usize,
    position: u32,
}

impl Iterator for Messages {
    type Item = Result<MessageView, FormatError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match step(&self.payload, &mut self.at, &mut self.position)? {
            Ok(stored) => Some(Ok(view(&self.payload, stored.position, &stored.parts))),
            Err(error) => Some(Err(error)),
        }
    }
}

/// A message where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored<'a> {
    pub position: u32,
    pub parts: MessageParts<'a>,
    /// All of it.
    pub bytes: &'a [u8],
}

/// The messages of a payload, borrowed. After an error there are no more.
#[derive(Debug, Clone)]
pub struct Walk<'a> {
    payload: &'a [u8],
    at: usize,
    position: u32,
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<Stored<'a>, FormatError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        step(self.payload, &mut self.at, &mut self.position)
    }
}

/// The next message that is there.
#[inline]
fn step<'a>(payload: &'a [u8], at: &mut usize, position: &mut u32) -> Option<Result<Stored<'a>, FormatError>> {
    while *at < payload.len() {
        let from = *at;
        // As many places as there may be messages of the least length: they do not overflow.
        let place = *position;
        match stored_at(payload, from) {
            Ok((next_at, parts)) => {
                (*at, *position) = (next_at, place.wrapping_add(1));
                if let Some(parts) = parts {
                    return Some(Ok(Stored { position: place, parts, bytes: &payload[from..next_at] }));
                }
            }
            Err(error) => {
                *at = payload.len();
                return Some(Err(error));
            }
        }
    }
    None
}

/// The length of the message that begins `at`, which is whole.
fn length_at(payload: &[u8], at: usize) -> Result<usize, FormatError> {
    let rest = payload.get(at..).ok_or(FormatError)?;
    let (length, rest) = rest.split_first_chunk().ok_or(FormatError)?;
    let length = u32::from_le_bytes(*length) as usize;
    if length <= rest.len() { Ok(length) } else { Err(FormatError) }
}

/// The message that begins `at`, None if it is gone, and where the next one begins.
#[inline]
fn stored_at(payload: &[u8], at: usize) -> Result<(usize, Option<MessageParts<'_>>), FormatError> {
    let length = length_at(payload, at)?;
    let next_at = at + LENGTH_BYTES + length;
    if length == 0 {
        return Ok((next_at, None));
    }
    let head: &[u8; HEAD_BYTES] = payload[at..next_at].first_chunk().ok_or(FormatError)?;
    let [_, _, _, _, flags, publisher @ .., e0, e1, e2, e3, t0, t1, p0, p1, p2, p3] = *head;
    if flags & !(QOS_BITS | RETAIN) != 0 || flags & QOS_BITS > QOS_MAX {
        return Err(FormatError);
    }
    let expiry_s = u32::from_le_bytes([e0, e1, e2, e3]);
    let rest = &payload[at + HEAD_BYTES..next_at];
    let (topic, rest) = rest.split_at_checked(u16::from_le_bytes([t0, t1]).into()).ok_or(FormatError)?;
    let properties = u32::from_le_bytes([p0, p1, p2, p3]) as usize;
    let (properties, payload) = rest.split_at_checked(properties).ok_or(FormatError)?;
    let parts = MessageParts {
        qos: flags & QOS_BITS,
        retain: flags & RETAIN != 0,
        publisher: u64::from_le_bytes(publisher),
        expiry_s: (expiry_s != NEVER).then_some(expiry_s),
        topic,
        properties,
        payload,
    };
    Ok((next_at, Some(parts)))
}

/// Parts of this payload, sharing its memory.
#[inline]
fn view(source: &Bytes, position: u32, parts: &MessageParts<'_>) -> MessageView {
    MessageView {
        position,
        qos: parts.qos,
        retain: parts.retain,
        publisher: parts.publisher,
        expiry_s: parts.expiry_s,
        topic: source.slice_ref(parts.topic),
        properties: source.slice_ref(parts.properties),
        payload: source.slice_ref(parts.payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &'static str, payload: &'static str) -> MessageView {
        MessageView {
            position: 0,
            qos: 1,
            retain: true,
            publisher: 7,
            expiry_s: Some(60),
            topic: topic.into(),
            properties: Bytes::from_static(&[1, 1]),
            payload: payload.into(),
        }
    }

    #[test]
    fn messages_are_found_where_they_are() {
        let mut writer = Writer::with_capacity(100);
        assert_eq!(writer.take(5), None);
        writer.append(&message("a/b", "first").parts());
        writer.append_gone();
        writer.append(&message("", "").parts());
        assert_eq!(writer.count(), 3);
        let batch = writer.take(5).unwrap();
        assert!(writer.is_empty());
        assert_eq!((batch.header.format, batch.header.count, batch.header.max_time_ms), (FormatId::MQTT, 3, 5));
        let third = MessageView { position: 2, ..message("", "") };
        let found: Vec<_> = messages(&batch.payload).map(Result::unwrap).collect();
        assert_eq!(found, [message("a/b", "first"), third.clone()]);
        assert_eq!(found[0].topic_str(), Ok("a/b"));
        assert_eq!(nth(&batch.payload, 0), Ok(Some(message("a/b", "first"))));
        assert_eq!(nth(&batch.payload, 1), Ok(None));
        assert_eq!(nth(&batch.payload, 2), Ok(Some(third)));
        assert_eq!(nth(&batch.payload, 3), Ok(None));
        assert_eq!(nth(&batch.payload, 9), Ok(None));
    }

    /// The layout is the disk's: it does not change.
    #[test]
    fn the_layout_is_what_it_says() {
        let batch = batch_of(&message("a", "xyz").parts(), 0);
        let expected = [
            &[25, 0, 0, 0, 5][..],
            &[7, 0, 0, 0, 0, 0, 0, 0],
            &[60, 0, 0, 0],
            &[1, 0],
            &[2, 0, 0, 0],
            b"a",
            &[1, 1],
            b"xyz",
        ];
        assert_eq!(batch.payload, expected.concat());
    }

    #[test]
    fn the_longest_expiry_is_not_never() {
        let longest = MessageParts { expiry_s: Some(u32::MAX), ..Default::default() };
        let batch = batch_of(&longest, 0);
        assert_eq!(messages(&batch.payload).next().unwrap().unwrap().expiry_s, Some(u32::MAX - 1));
        let never = batch_of(&MessageParts::default(), 0);
        assert_eq!(messages(&never.payload).next().unwrap().unwrap().expiry_s, None);
    }
}
