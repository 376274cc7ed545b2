//! Messages as they are stored: the payload of [`FormatId::AMQP_091`](crate::FormatId::AMQP_091).
//!
//! ```text
//!  0        4  5  6  7  8               16              24       28 29
//!  ├ length ┼fl┼pr┼dm┼xl┼ time ms ───────┼ expires ms ───┼ pl ────┼rl┼ exchange │ routing key │ properties │ body
//!
//!  length: of what follows it; 0: the message is gone (compaction), and nothing follows
//!  fl: flags; 1: the deaths in its headers are a broker's, others are not known     pr: priority, 0 if none
//!  dm: delivery mode, 0 if none     xl, rl, pl: bytes of exchange, routing key and properties
//!  time: when it arrived     expires: from then on nobody may see it; 0: never
//! ```
//! All integers are little-endian, but for those inside the properties, which are what the content header had, flags and
//! all: they go out as they came. A batch has one message or more, one behind the other; a message's place among them is
//! its offset relative to the batch's base. Messages that are gone at the end may be missing altogether.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{InvalidExpiration, Properties, ShortStr, SyntaxError, walk};
use crate::batch::Batch;
use crate::format::{FormatError, FormatId};

/// What stands before a message's exchange, bytes.
pub(super) const HEAD_BYTES: usize = 29;

/// Bytes that the length does not count: itself.
pub(super) const LENGTH_BYTES: usize = 4;

/// Where its time stands in a message, and when it expires.
const TIME_AT: usize = 8;
const EXPIRES_AT: usize = 16;

const NEVER: i64 = 0;

/// The flag of [`MessageView::has_died`].
const HAS_DIED: u8 = 1;

/// One message, sharing the memory of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageView {
    /// Its offset relative to the batch's base.
    pub position: u32,
    /// When it arrived, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// From then on nobody may see it, milliseconds since the Unix epoch.
    pub expires_ms: Option<i64>,
    /// 0 if it has none.
    pub priority: u8,
    /// 0 if it has none.
    pub delivery_mode: u8,
    pub exchange: ShortStr,
    pub routing_key: ShortStr,
    pub properties: Properties,
    pub body: Bytes,
    /// Whether the deaths that its headers tell of (`x-death`) are those that a broker wrote: it was dead-lettered. What a client
    /// says of deaths is only a header.
    pub has_died: bool,
}

impl MessageView {
    /// A message that arrives at `time_ms`, by its content. Priority, delivery mode and expiry are the properties'.
    /// An error if its expiration is not a number.
    pub fn arrived(
        time_ms: i64,
        exchange: ShortStr,
        routing_key: ShortStr,
        properties: Properties,
        body: Bytes,
    ) -> Result<Self, InvalidExpiration> {
        let expires_ms = match properties.expiration_ms() {
            None => None,
            Some(after_ms) => Some(time_ms.saturating_add(i64::try_from(after_ms?).unwrap_or(i64::MAX))),
        };
        let priority = properties.priority().unwrap_or(0);
        let delivery_mode = properties.delivery_mode().unwrap_or(0);
        Ok(MessageView {
            position: 0,
            time_ms,
            expires_ms,
            priority,
            delivery_mode,
            exchange,
            routing_key,
            properties,
            body,
            has_died: false,
        })
    }

    /// Whether nobody may see it any more.
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms)
    }

    /// Bytes that it takes when stored.
    pub fn stored_bytes(&self) -> usize {
        let properties = self.properties.raw().len();
        HEAD_BYTES + self.exchange.len() + self.routing_key.len() + properties + self.body.len()
    }
}

/// A message to be stored, in parts that lie anywhere. As in [`MessageView`]; a client's, so that it has not died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageParts<'a> {
    pub time_ms: i64,
    pub expires_ms: Option<i64>,
    pub priority: u8,
    pub delivery_mode: u8,
    /// UTF-8, as is the routing key.
    pub exchange: &'a [u8],
    pub routing_key: &'a [u8],
    /// Well-formed, flags first.
    pub properties: &'a [u8],
    pub body: &'a [u8],
}

/// Puts messages together into a batch.
#[derive(Debug, Default)]
pub struct Writer {
    out: BytesMut,
    count: u32,
    max_time_ms: Option<i64>,
}

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message; its position is its place, whatever it says. What all messages of a batch take together must stay
    /// below 2 GiB.
    pub fn append(&mut self, message: &MessageView) {
        let at = self.out.len();
        self.append_parts(&MessageParts {
            time_ms: message.time_ms,
            expires_ms: message.expires_ms,
            priority: message.priority,
            delivery_mode: message.delivery_mode,
            exchange: message.exchange.as_bytes(),
            routing_key: message.routing_key.as_bytes(),
            properties: message.properties.raw(),
            body: &message.body,
        });
        if message.has_died {
            self.out[at + LENGTH_BYTES] = HAS_DIED;
        }
    }

    /// As [`Writer::append`], of what lies elsewhere. Exchange and routing key have at most 255 bytes.
    pub fn append_parts(&mut self, message: &MessageParts<'_>) {
        let MessageParts { exchange, routing_key, properties, body, .. } = *message;
        debug_assert!(exchange.len() <= ShortStr::BYTES_MAX && routing_key.len() <= ShortStr::BYTES_MAX);
        let bytes = HEAD_BYTES + exchange.len() + routing_key.len() + properties.len() + body.len();
        self.out.reserve(bytes);
        self.out.put_u32_le((bytes - LENGTH_BYTES) as u32);
        self.out.put_slice(&[0, message.priority, message.delivery_mode, exchange.len() as u8]);
        self.out.put_i64_le(message.time_ms);
        // A message that expired at the epoch has expired a millisecond later, too.
        self.out.put_i64_le(message.expires_ms.map_or(NEVER, |expires_ms| expires_ms.max(1)));
        self.out.put_u32_le(properties.len() as u32);
        self.out.put_u8(routing_key.len() as u8);
        self.out.put_slice(exchange);
        self.out.put_slice(routing_key);
        self.out.put_slice(properties);
        self.out.put_slice(body);
        self.count += 1;
        self.max_time_ms = self.max_time_ms.max(Some(message.time_ms));
    }

    /// Has all messages arrive at `time_ms` instead, and expire as long after that as they would have. Returns when the first of
    /// them does, if one does.
    pub fn arrive_at(&mut self, time_ms: i64) -> Option<i64> {
        let (mut at, mut first_ms) = (0, None);
        // The bytes are the writer's own: they can be read.
        while let Ok(Some(head)) = walk::head_at(&self.out, at) {
            if !head.is_gone {
                self.out[at + TIME_AT..at + EXPIRES_AT].copy_from_slice(&time_ms.to_le_bytes());
                self.max_time_ms = Some(time_ms);
            }
            if head.expires_ms != NEVER {
                let expires_ms = head.expires_ms.saturating_sub(head.time_ms).saturating_add(time_ms).max(1);
                self.out[at + EXPIRES_AT..at + EXPIRES_AT + 8].copy_from_slice(&expires_ms.to_le_bytes());
                first_ms = first_ms.into_iter().chain([expires_ms]).min();
            }
            at = head.next_at;
        }
        first_ms
    }

    /// Adds the place of a message that is gone.
    pub(crate) fn append_gone(&mut self) {
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

    /// The greatest time of a message, or -1.
    pub(super) fn max_time_ms(&self) -> i64 {
        self.max_time_ms.unwrap_or(-1)
    }

    pub(crate) fn take_payload(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    /// The batch, if there is a message in it; the writer is empty then, and keeps what memory is left.
    pub fn take(&mut self) -> Option<Batch> {
        if self.count == 0 {
            return None;
        }
        let payload = self.take_payload();
        let batch = Batch::new(FormatId::AMQP_091, self.count, self.max_time_ms(), payload);
        (self.count, self.max_time_ms) = (0, None);
        Some(batch)
    }
}

/// A batch of one message.
pub fn batch_of(message: &MessageView) -> Batch {
    let mut writer = Writer::new();
    writer.append(message);
    Batch::new(FormatId::AMQP_091, 1, message.time_ms, writer.take_payload())
}

/// The messages of a payload, in order, without a copy.
pub fn messages(payload: &Bytes) -> Messages {
    Messages { rest: payload.clone(), position: 0 }
}

/// The message at a position; None if it is gone, or there is no such position. Those before it are skipped, so for many
/// of a batch [`messages`] is the better way.
pub fn nth(payload: &Bytes, position: u32) -> Result<Option<MessageView>, FormatError> {
    let mut messages = messages(payload);
    while messages.position < position {
        if messages.skip_one()?.is_none() {
            return Ok(None);
        }
    }
    match messages.next() {
        Some(message) => message.map(|message| (message.position == position).then_some(message)),
        None => Ok(None),
    }
}

/// The messages of a payload that are still there. After an error there are no more.
#[derive(Debug, Clone)]
pub struct Messages {
    rest: Bytes,
    position: u32,
}

impl Messages {
    /// Takes the next one off, gone or not, as far as its length: Some(empty) if it is gone. None at the end.
    fn skip_one(&mut self) -> Result<Option<Bytes>, FormatError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let length = self.rest.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).ok_or(FormatError)? as usize;
        self.rest.advance(LENGTH_BYTES);
        if length > self.rest.len() {
            return Err(FormatError);
        }
        self.position = self.position.checked_add(1).ok_or(FormatError)?;
        Ok(Some(self.rest.split_to(length)))
    }
}

impl Iterator for Messages {
    type Item = Result<MessageView, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = loop {
            match self.skip_one() {
                Ok(Some(gone)) if gone.is_empty() => {}
                Ok(Some(message)) => break view(&message, self.position - 1),
                Ok(None) => return None,
                Err(error) => break Err(error),
            }
        };
        if found.is_err() {
            self.rest.clear();
        }
        Some(found)
    }
}

/// A message, from what its length counts.
fn view(message: &Bytes, position: u32) -> Result<MessageView, FormatError> {
    let head: &[u8; HEAD_BYTES - LENGTH_BYTES] = message.first_chunk().ok_or(FormatError)?;
    let [flags, priority, delivery_mode, exchange_bytes, numbers @ .., key_bytes] = *head;
    if flags & !HAS_DIED != 0 {
        return Err(FormatError);
    }
    let mut numbers = &numbers[..];
    let (time_ms, expires_ms, properties_bytes) = (numbers.get_i64_le(), numbers.get_i64_le(), numbers.get_u32_le());
    let mut rest = message.slice(head.len()..);
    let mut take = |bytes: usize| match bytes <= rest.len() {
        true => Ok(rest.split_to(bytes)),
        false => Err(FormatError),
    };
    let text = |bytes| ShortStr::from_wire(bytes).map_err(|_: SyntaxError| FormatError);
    Ok(MessageView {
        position,
        time_ms,
        expires_ms: (expires_ms != NEVER).then_some(expires_ms),
        priority,
        delivery_mode,
        exchange: text(take(exchange_bytes.into())?)?,
        routing_key: text(take(key_bytes.into())?)?,
        properties: Properties::from_stored(take(properties_bytes as usize)?),
        body: rest,
        has_died: flags & HAS_DIED != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp_message::PropertyList;

    fn message(time_ms: i64, body: &'static [u8]) -> MessageView {
        let list = PropertyList {
            delivery_mode: Some(2),
            priority: Some(9),
            expiration: Some(Bytes::from_static(b"500")),
            ..Default::default()
        };
        let (exchange, key) = (ShortStr::from_static("x"), ShortStr::from_static("a.b"));
        MessageView::arrived(time_ms, exchange, key, list.encode(), Bytes::from_static(body)).unwrap()
    }

    #[test]
    fn a_message_knows_what_its_properties_say() {
        let message = message(1_000, b"");
        assert_eq!((message.priority, message.delivery_mode, message.expires_ms), (9, 2, Some(1_500)));
        assert!(!message.is_expired(1_499) && message.is_expired(1_500));
        let list = PropertyList { expiration: Some(Bytes::from_static(b"x")), ..Default::default() };
        let none = ShortStr::default();
        assert!(MessageView::arrived(0, none.clone(), none, list.encode(), Bytes::new()).is_err());
    }

    #[test]
    fn messages_are_found_where_they_are() {
        let mut writer = Writer::new();
        assert_eq!(writer.take(), None);
        writer.append(&message(5, b"first"));
        writer.append_gone();
        writer.append(&MessageView { has_died: true, ..message(3, b"third") });
        let batch = writer.take().unwrap();
        assert!(writer.is_empty());
        assert_eq!((batch.header.format, batch.header.count, batch.header.max_time_ms), (FormatId::AMQP_091, 3, 5));
        let third = MessageView { position: 2, has_died: true, ..message(3, b"third") };
        let found: Vec<_> = messages(&batch.payload).map(Result::unwrap).collect();
        assert_eq!(found, [message(5, b"first"), third.clone()]);
        assert_eq!(nth(&batch.payload, 0), Ok(Some(message(5, b"first"))));
        assert_eq!(nth(&batch.payload, 1), Ok(None));
        assert_eq!(nth(&batch.payload, 2), Ok(Some(third)));
        assert_eq!(nth(&batch.payload, 3), Ok(None));
        assert_eq!(batch_of(&message(7, b"b")).header.max_time_ms, 7);
    }
}
