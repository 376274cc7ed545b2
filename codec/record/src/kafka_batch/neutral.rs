//! Kafka's records ⇄ the neutral [`Message`]. docs/mapping.md has the table.

use bytes::Bytes;

use super::{Headers, NO_TIMESTAMP, Record};
use crate::message::{HeaderValue, Message};

/// Headers of a record for what the neutral message has a field for, and Kafka has not.
const CONTENT_TYPE: &str = "content-type";
const CORRELATION_ID: &str = "correlation-id";
const REPLY_TO: &str = "reply-to";
const EXPIRATION: &str = "expiration";

/// A record as other protocols see it. Of a header that stands for a field the first one counts; more of it stay headers.
pub fn to_message(record: Record) -> Message {
    let mut message = Message {
        key: record.key,
        body: record.value,
        time_ms: (record.timestamp_ms != NO_TIMESTAMP).then_some(record.timestamp_ms),
        ..Default::default()
    };
    for (name, value) in record.headers.iter() {
        let name = String::from_utf8_lossy(&name).into_owned();
        let value = match value.map(|value| (std::str::from_utf8(&value).map(str::to_owned), value)) {
            None => HeaderValue::Null,
            Some((Ok(text), _)) => HeaderValue::Text(text),
            Some((Err(_), bytes)) => HeaderValue::Bytes(bytes),
        };
        match (name.as_str(), &value) {
            (CONTENT_TYPE, HeaderValue::Text(text)) if message.content_type.is_none() => {
                message.content_type = Some(text.clone());
            }
            (REPLY_TO, HeaderValue::Text(text)) if message.reply_to.is_none() => {
                message.reply_to = Some(text.clone());
            }
            (CORRELATION_ID, HeaderValue::Text(text)) if message.correlation_id.is_none() => {
                message.correlation_id = Some(Bytes::from(text.clone()));
            }
            (CORRELATION_ID, HeaderValue::Bytes(bytes)) if message.correlation_id.is_none() => {
                message.correlation_id = Some(bytes.clone());
            }
            (EXPIRATION, HeaderValue::Text(text)) if message.expiry_ms.is_none() && text.parse::<u64>().is_ok() => {
                message.expiry_ms = text.parse().ok();
            }
            _ => message.headers.push((name, value)),
        }
    }
    message
}

/// A foreign message as a record at this offset in its batch.
pub fn from_message(message: Message, offset_delta: i32) -> Record {
    let fields = [
        (CONTENT_TYPE, message.content_type.map(Bytes::from)),
        (CORRELATION_ID, message.correlation_id),
        (REPLY_TO, message.reply_to.map(Bytes::from)),
        (EXPIRATION, message.expiry_ms.map(|after_ms| Bytes::from(after_ms.to_string()))),
    ];
    let fields = fields.into_iter().filter(|(_, value)| value.is_some()).map(|(name, value)| (name.to_owned(), value));
    let headers = message.headers.into_iter().map(|(name, value)| (name, header_bytes(value)));
    Record {
        offset_delta,
        timestamp_ms: message.time_ms.unwrap_or(NO_TIMESTAMP),
        key: message.key,
        value: message.body,
        headers: fields.chain(headers).collect::<Headers>(),
    }
}

/// Values as Kafka's own tools show and take them: as text.
fn header_bytes(value: HeaderValue) -> Option<Bytes> {
    Some(match value {
        HeaderValue::Null => return None,
        HeaderValue::Bool(value) => Bytes::from_static(if value { b"true" } else { b"false" }),
        HeaderValue::Integer(value) => Bytes::from(value.to_string()),
        HeaderValue::Float(value) => Bytes::from(value.to_string()),
        HeaderValue::Text(text) => Bytes::from(text),
        HeaderValue::Bytes(bytes) => bytes,
    })
}
