//! Messages of AMQP ⇄ the neutral [`Message`]. docs/mapping.md has the table.

use bytes::Bytes;

use super::json;
use super::stored::MessageView;
use super::{FieldTable, FieldValue, PERSISTENT, PropertyList, ShortStr};
use crate::format::FormatError;
use crate::message::{HeaderValue, Message};

/// Headers of the neutral message for what it has no field for.
const EXCHANGE: &str = "amqp.exchange";
const CONTENT_ENCODING: &str = "amqp.content-encoding";
pub(crate) const DELIVERY_MODE: &str = "amqp.delivery-mode";
const PRIORITY: &str = "amqp.priority";
const MESSAGE_ID: &str = "amqp.message-id";
const TIMESTAMP: &str = "amqp.timestamp";
const TYPE: &str = "amqp.type";
const USER_ID: &str = "amqp.user-id";
const APP_ID: &str = "amqp.app-id";

/// Headers of an AMQP message for what a foreign one has and AMQP has no property for.
const KEY: &str = "polymq.key";
const TOMBSTONE: &str = "polymq.tombstone";
/// As RabbitMQ's own interceptor names it: AMQP's timestamp has seconds only.
const TIMESTAMP_IN_MS: &str = "timestamp_in_ms";

/// What another protocol sees of a message. An error if its properties are not well-formed.
pub fn to_message(view: &MessageView) -> Result<Message, FormatError> {
    let list = view.properties.list().map_err(|_| FormatError)?;
    let mut headers = Vec::new();
    let mut bytes = |name: &str, value: Option<Bytes>| {
        if let Some(value) = value {
            headers.push((name.to_owned(), text_or_bytes(value)));
        }
    };
    bytes(EXCHANGE, (!view.exchange.is_empty()).then(|| view.exchange.bytes().clone()));
    bytes(CONTENT_ENCODING, list.content_encoding);
    bytes(MESSAGE_ID, list.message_id);
    bytes(TYPE, list.kind);
    bytes(USER_ID, list.user_id);
    bytes(APP_ID, list.app_id);
    let mut integer = |name: &str, value: Option<i64>| {
        if let Some(value) = value {
            headers.push((name.to_owned(), HeaderValue::Integer(value)));
        }
    };
    integer(DELIVERY_MODE, list.delivery_mode.map(i64::from));
    integer(PRIORITY, list.priority.map(i64::from));
    integer(TIMESTAMP, list.timestamp.and_then(|seconds| i64::try_from(seconds).ok()));
    let table = list.headers.unwrap_or_default();
    headers.extend(table.0.into_iter().map(|(name, value)| (name.to_string(), header_value(value))));
    Ok(Message {
        key: Some(view.routing_key.bytes().clone()),
        body: Some(view.body.clone()),
        headers,
        time_ms: Some(view.time_ms),
        expiry_ms: view.properties.expiration_ms().and_then(Result::ok),
        content_type: list.content_type.map(|text| String::from_utf8_lossy(&text).into_owned()),
        correlation_id: list.correlation_id,
        reply_to: list.reply_to.map(|text| String::from_utf8_lossy(&text).into_owned()),
    })
}

/// A foreign message as a consumer of queue `topic` gets it: as if it had been published to the default exchange.
/// `append_time_ms` is when it arrived, should it not know.
pub fn from_message(message: Message, position: u32, topic: &ShortStr, append_time_ms: i64) -> MessageView {
    let mut list = PropertyList { delivery_mode: Some(PERSISTENT), ..Default::default() };
    list.content_type = message.content_type.map(Bytes::from);
    list.correlation_id = message.correlation_id;
    list.reply_to = message.reply_to.map(Bytes::from);
    list.expiration = message.expiry_ms.map(|after_ms| Bytes::from(after_ms.to_string()));
    let mut table = FieldTable::default();
    for (name, value) in message.headers {
        if let Some(value) = take_property(&mut list, &name, value) {
            add(&mut table, &name, field_value(value));
        }
    }
    if let Some(key) = message.key {
        add(&mut table, KEY, field_value(text_or_bytes(key)));
    }
    if message.body.is_none() {
        add(&mut table, TOMBSTONE, FieldValue::Bool(true));
    }
    if let Some(time_ms) = message.time_ms {
        list.timestamp = list.timestamp.or(u64::try_from(time_ms / 1000).ok());
        if !table.contains(TIMESTAMP_IN_MS) {
            add(&mut table, TIMESTAMP_IN_MS, FieldValue::I64(time_ms));
        }
    }
    list.headers = (!table.is_empty()).then_some(table);
    // What does not fit a short string is told as a header rather than lost.
    for (name, value) in [
        ("content-type", &mut list.content_type),
        ("correlation-id", &mut list.correlation_id),
        ("reply-to", &mut list.reply_to),
    ] {
        if let Some(long) = value.take_if(|value| value.len() > ShortStr::BYTES_MAX) {
            add(list.headers.get_or_insert_default(), name, field_value(text_or_bytes(long)));
        }
    }
    let time_ms = message.time_ms.unwrap_or(append_time_ms);
    let after_ms = message.expiry_ms.map(|after_ms| i64::try_from(after_ms).unwrap_or(i64::MAX));
    MessageView {
        position,
        time_ms,
        expires_ms: after_ms.map(|after_ms| time_ms.saturating_add(after_ms)),
        priority: list.priority.unwrap_or(0),
        delivery_mode: list.delivery_mode.unwrap_or(0),
        exchange: ShortStr::default(),
        routing_key: topic.clone(),
        properties: list.encode(),
        body: message.body.unwrap_or_default(),
        has_died: false,
    }
}

/// Puts a header that stands for a property where it belongs; gives back what is none. A user id stays a header: in AMQP
/// it is one that a broker has checked.
fn take_property(list: &mut PropertyList, name: &str, value: HeaderValue) -> Option<HeaderValue> {
    let small = |value: &HeaderValue| match value {
        HeaderValue::Integer(number) => u8::try_from(*number).ok(),
        HeaderValue::Text(text) => text.parse().ok(),
        _ => None,
    };
    match name {
        DELIVERY_MODE => match small(&value) {
            Some(number) => list.delivery_mode = Some(number),
            None => return Some(value),
        },
        PRIORITY => match small(&value) {
            Some(number) => list.priority = Some(number),
            None => return Some(value),
        },
        TIMESTAMP => match &value {
            HeaderValue::Integer(seconds) if *seconds >= 0 => list.timestamp = Some(*seconds as u64),
            HeaderValue::Text(text) if text.parse::<u64>().is_ok() => list.timestamp = text.parse().ok(),
            _ => return Some(value),
        },
        CONTENT_ENCODING | MESSAGE_ID | TYPE | APP_ID => {
            let place = match name {
                CONTENT_ENCODING => &mut list.content_encoding,
                MESSAGE_ID => &mut list.message_id,
                TYPE => &mut list.kind,
                _ => &mut list.app_id,
            };
            match value {
                HeaderValue::Text(text) if text.len() <= ShortStr::BYTES_MAX => *place = Some(Bytes::from(text)),
                HeaderValue::Bytes(bytes) if bytes.len() <= ShortStr::BYTES_MAX => *place = Some(bytes),
                value => return Some(value),
            }
        }
        _ => return Some(value),
    }
    None
}

/// A name that is there already becomes a list of its values: a table has each name once.
fn add(table: &mut FieldTable, name: &str, value: FieldValue) {
    let name = ShortStr::truncated(name);
    let known = table.0.iter_mut().find(|(known, _)| *known == name);
    match known {
        None => table.0.push((name, value)),
        Some((_, FieldValue::Array(values))) => values.push(value),
        Some((_, first)) => *first = FieldValue::Array(vec![std::mem::replace(first, FieldValue::Void), value]),
    }
}

fn text_or_bytes(bytes: Bytes) -> HeaderValue {
    match std::str::from_utf8(&bytes) {
        Ok(text) => HeaderValue::Text(text.to_owned()),
        Err(_) => HeaderValue::Bytes(bytes),
    }
}

/// What a header's value is outside AMQP; lists and tables become JSON.
fn header_value(value: FieldValue) -> HeaderValue {
    match value {
        FieldValue::Void => HeaderValue::Null,
        FieldValue::Bool(value) => HeaderValue::Bool(value),
        FieldValue::F32(value) => HeaderValue::Float(value.into()),
        FieldValue::F64(value) => HeaderValue::Float(value),
        FieldValue::LongString(bytes) => text_or_bytes(bytes),
        FieldValue::Binary(bytes) => HeaderValue::Bytes(bytes),
        FieldValue::Timestamp(seconds) => match i64::try_from(seconds) {
            Ok(seconds) => HeaderValue::Integer(seconds),
            Err(_) => HeaderValue::Text(seconds.to_string()),
        },
        FieldValue::Decimal { scale, value } => HeaderValue::Text(json::decimal(scale, value)),
        FieldValue::Array(_) | FieldValue::Table(_) => HeaderValue::Text(json::text(&value)),
        integer => HeaderValue::Integer(integer.as_integer().unwrap_or_default()),
    }
}

fn field_value(value: HeaderValue) -> FieldValue {
    match value {
        HeaderValue::Null => FieldValue::Void,
        HeaderValue::Bool(value) => FieldValue::Bool(value),
        HeaderValue::Integer(value) => FieldValue::I64(value),
        HeaderValue::Float(value) => FieldValue::F64(value),
        HeaderValue::Text(text) => FieldValue::text(text),
        HeaderValue::Bytes(bytes) => FieldValue::Binary(bytes),
    }
}
