//! Going through stored messages without building any: whoever deals a batch of them to many looks at times only, and whoever
//! sends one borrows its parts.

use std::ops::Range;

use bytes::Bytes;

use super::stored::{HEAD_BYTES, LENGTH_BYTES};
use crate::format::FormatError;

/// What stands before a message, and where the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The message is gone: nothing of it is left but its place.
    pub is_gone: bool,
    /// When it arrived, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// From then on nobody may see it, milliseconds since the Unix epoch; 0: never.
    pub expires_ms: i64,
    pub body_bytes: u32,
    /// Where the next message begins in the payload.
    pub next_at: usize,
}

/// The parts of a message, where they lie in its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts<'a> {
    pub exchange: &'a str,
    pub routing_key: &'a str,
    /// As in a content header.
    pub properties: &'a [u8],
    /// In the payload.
    pub body: Range<usize>,
}

impl Parts<'_> {
    /// The body, sharing the payload's memory.
    pub fn body_of(&self, payload: &Bytes) -> Bytes {
        payload.slice(self.body.clone())
    }
}

/// The head of the message that begins `at`; None at the payload's end.
pub fn head_at(payload: &[u8], at: usize) -> Result<Option<Head>, FormatError> {
    let Some(rest) = payload.get(at..).filter(|rest| !rest.is_empty()) else { return Ok(None) };
    let length = rest.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)).ok_or(FormatError)? as usize;
    if length == 0 {
        let next_at = at + LENGTH_BYTES;
        return Ok(Some(Head { is_gone: true, time_ms: 0, expires_ms: 0, body_bytes: 0, next_at }));
    }
    let bytes = LENGTH_BYTES + length;
    let head: &[u8; HEAD_BYTES] = rest.first_chunk().filter(|_| bytes <= rest.len()).ok_or(FormatError)?;
    let texts = usize::from(head[7]) + usize::from(head[28]);
    let properties = u32::from_le_bytes([head[24], head[25], head[26], head[27]]) as usize;
    let body = bytes.checked_sub(HEAD_BYTES + texts + properties).ok_or(FormatError)?;
    Ok(Some(Head {
        is_gone: false,
        time_ms: i64_at(head, 8),
        expires_ms: i64_at(head, 16),
        body_bytes: body as u32,
        next_at: at + bytes,
    }))
}

/// The message that begins `at`.
pub fn parts_at(payload: &[u8], at: usize) -> Result<Parts<'_>, FormatError> {
    let head = head_at(payload, at)?.filter(|head| !head.is_gone).ok_or(FormatError)?;
    let (exchange, routing_key) = (usize::from(payload[at + 7]), usize::from(payload[at + 28]));
    let exchange_at = at + HEAD_BYTES;
    let key_at = exchange_at + exchange;
    let properties_at = key_at + routing_key;
    let body_at = head.next_at - head.body_bytes as usize;
    let text = |from: usize, to: usize| std::str::from_utf8(&payload[from..to]).map_err(|_| FormatError);
    Ok(Parts {
        exchange: text(exchange_at, key_at)?,
        routing_key: text(key_at, properties_at)?,
        properties: &payload[properties_at..body_at],
        body: body_at..head.next_at,
    })
}

fn i64_at(head: &[u8; HEAD_BYTES], at: usize) -> i64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[at..at + 8]);
    i64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::amqp_message::{MessageView, Properties, ShortStr, Writer, messages};

    fn message(body: &[u8], key: &str, expires_ms: Option<i64>) -> MessageView {
        MessageView {
            position: 0,
            has_died: false,
            time_ms: 7,
            expires_ms,
            priority: 0,
            delivery_mode: 2,
            exchange: ShortStr::from_static("x"),
            routing_key: ShortStr::truncated(key),
            properties: Properties::default(),
            body: Bytes::copy_from_slice(body),
        }
    }

    proptest! {
        #[test]
        fn a_walk_sees_what_the_views_have(
            bodies in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), "[a-zä]{0,9}", prop::option::of(1i64..99)), 1..9)
        ) {
            let mut writer = Writer::new();
            bodies.iter().for_each(|(body, key, expires_ms)| writer.append(&message(body, key, *expires_ms)));
            let payload = writer.take().unwrap().payload;
            let mut at = 0;
            for view in messages(&payload).map(Result::unwrap) {
                let head = head_at(&payload, at).unwrap().unwrap();
                prop_assert_eq!((head.time_ms, head.expires_ms), (view.time_ms, view.expires_ms.unwrap_or(0)));
                let parts = parts_at(&payload, at).unwrap();
                prop_assert_eq!((parts.exchange, parts.routing_key), (&*view.exchange, &*view.routing_key));
                prop_assert_eq!(parts.properties, &view.properties.raw()[..]);
                prop_assert_eq!(parts.body_of(&payload), view.body);
                at = head.next_at;
            }
            prop_assert_eq!(head_at(&payload, at), Ok(None));
        }

        #[test]
        fn what_arrives_later_expires_later(
            written in prop::collection::vec((1i64..1000, prop::option::of(0i64..1000), prop::collection::vec(any::<u8>(), 0..9)), 1..9),
            later_ms in -500i64..5000,
        ) {
            let mut writer = Writer::new();
            for (time_ms, after_ms, body) in &written {
                let expires_ms = after_ms.map(|after_ms| time_ms + after_ms);
                writer.append(&MessageView { time_ms: *time_ms, ..message(body, "key", expires_ms) });
            }
            let arrive_ms = 1000 + later_ms;
            let first_ms = writer.arrive_at(arrive_ms);
            prop_assert_eq!(first_ms, written.iter().filter_map(|(_, after_ms, _)| *after_ms).min().map(|ms| ms + arrive_ms));
            let batch = writer.take().unwrap();
            prop_assert_eq!(batch.header.max_time_ms, arrive_ms);
            for (view, (_, after_ms, body)) in messages(&batch.payload).map(Result::unwrap).zip(&written) {
                prop_assert_eq!((view.time_ms, view.expires_ms), (arrive_ms, after_ms.map(|after_ms| arrive_ms + after_ms)));
                prop_assert_eq!((&*view.routing_key, &view.body[..]), ("key", &body[..]));
            }
        }

        #[test]
        fn no_bytes_are_overrun(bytes: Vec<u8>, at in 0usize..40) {
            if let Ok(Some(head)) = head_at(&bytes, at) {
                prop_assert!(head.next_at > at && head.next_at <= bytes.len());
            }
            let _ = parts_at(&bytes, at);
        }
    }
}
