//! What the log core asks of a payload of this format: offsets by time, and compaction, for which the routing key is a
//! message's key.

use bytes::{BufMut, Bytes, BytesMut};

use super::stored::{MessageView, Writer, messages};
use crate::batch::BatchHeader;
use crate::format::{Format, FormatError, RecordKey, Retained};

/// [`FormatId::AMQP_091`](crate::FormatId::AMQP_091).
#[derive(Debug, Clone, Copy, Default)]
pub struct AmqpFormat;

impl Format for AmqpFormat {
    fn first_at_or_after(
        &self,
        header: &BatchHeader,
        payload: &[u8],
        time_ms: i64,
    ) -> Result<Option<(u32, i64)>, FormatError> {
        if header.max_time_ms < time_ms {
            return Ok(None);
        }
        for message in (Times { payload, position: 0 }) {
            let (position, found_ms) = message?;
            if found_ms >= time_ms {
                return Ok(Some((position, found_ms)));
            }
        }
        Ok(None)
    }

    fn max_time(&self, header: &BatchHeader, payload: &[u8]) -> Result<(u32, i64), FormatError> {
        let mut greatest: Option<(u32, i64)> = None;
        for message in (Times { payload, position: 0 }) {
            let (position, time_ms) = message?;
            if greatest.is_none_or(|(_, greatest_ms)| greatest_ms < time_ms) {
                greatest = Some((position, time_ms));
            }
        }
        Ok(greatest.unwrap_or((header.count.saturating_sub(1), header.max_time_ms)))
    }

    fn has_keys(&self) -> bool {
        true
    }

    fn keys(
        &self,
        _header: &BatchHeader,
        payload: &[u8],
        visit: &mut dyn FnMut(RecordKey<'_>),
    ) -> Result<(), FormatError> {
        for message in messages(&Bytes::copy_from_slice(payload)) {
            visit(key_of(&message?));
        }
        Ok(())
    }

    fn retain(
        &self,
        _header: &BatchHeader,
        payload: &[u8],
        keep: &mut dyn FnMut(RecordKey<'_>) -> bool,
    ) -> Result<Retained, FormatError> {
        let (mut kept, mut dropped, mut places) = (Writer::new(), false, 0);
        let mut some = false;
        for message in messages(&Bytes::copy_from_slice(payload)) {
            let message = message?;
            if !keep(key_of(&message)) {
                dropped = true;
                continue;
            }
            for _ in places..message.position {
                kept.append_gone();
            }
            kept.append(&message);
            places = message.position + 1;
            some = true;
        }
        Ok(match (dropped, some) {
            (_, false) => {
                // One place that is gone: a batch without a byte would look like one that was lost.
                let mut payload = BytesMut::new();
                payload.put_u32_le(0);
                Retained::None { payload: payload.freeze() }
            }
            (false, true) => Retained::All,
            (true, true) => Retained::Some { max_time_ms: kept.max_time_ms(), payload: kept.take_payload() },
        })
    }
}

/// A message that AMQP published deletes nothing: there an empty body is a body.
fn key_of(message: &MessageView) -> RecordKey<'_> {
    let key = Some(message.routing_key.as_bytes());
    RecordKey { position: message.position, key, tombstone: false, expires_ms: None }
}

/// Position and time of each message, and nothing else of it.
struct Times<'a> {
    payload: &'a [u8],
    position: u32,
}

impl Iterator for Times<'_> {
    type Item = Result<(u32, i64), FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (length, rest) = match self.payload.split_first_chunk() {
                Some((length, rest)) => (u32::from_le_bytes(*length) as usize, rest),
                None if self.payload.is_empty() => return None,
                None => return Some(self.fail()),
            };
            let Some((message, rest)) = rest.split_at_checked(length) else { return Some(self.fail()) };
            self.payload = rest;
            self.position += 1;
            if message.is_empty() {
                continue;
            }
            let Some(time) = message.get(4..12).and_then(|time| time.first_chunk()) else { return Some(self.fail()) };
            return Some(Ok((self.position - 1, i64::from_le_bytes(*time))));
        }
    }
}

impl Times<'_> {
    fn fail<T>(&mut self) -> Result<T, FormatError> {
        self.payload = &[];
        Err(FormatError)
    }
}
