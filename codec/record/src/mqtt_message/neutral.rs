//! Messages of MQTT ⇄ the neutral [`Message`]. docs/mapping.md has the table.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

use super::properties::{FIELD_BYTES_MAX, Property, properties, put};
use super::stored::MessageView;
use crate::message::{HeaderValue, Message};
use crate::translate::names;

/// Headers of the neutral message for what it has no field for.
const QOS: &str = "mqtt.qos";
const RETAIN: &str = "mqtt.retain";
const PAYLOAD_FORMAT: &str = "mqtt.payload-format-indicator";

/// The QoS of a foreign message that does not say any: its subscribers get it at the one that they asked for, or this.
const QOS_DEFAULT: u8 = 1;

/// What another protocol sees of a message of a batch of this time, milliseconds since the Unix epoch.
pub fn to_message(view: &MessageView, time_ms: i64) -> Message {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut message = Message {
        key: Some(view.topic.clone()),
        body: Some(view.payload.clone()),
        headers: vec![(QOS.into(), HeaderValue::Integer(view.qos.into()))],
        time_ms: (time_ms >= 0).then_some(time_ms),
        expiry_ms: view.expiry_s.map(|expiry_s| u64::from(expiry_s) * 1000),
        ..Default::default()
    };
    if view.retain {
        message.headers.push((RETAIN.into(), HeaderValue::Bool(true)));
    }
    for property in properties(&view.properties) {
        match property {
            Property::PayloadFormat(format) => {
                message.headers.push((PAYLOAD_FORMAT.into(), HeaderValue::Integer(format.into())));
            }
            Property::ContentType(bytes) => message.content_type = Some(text(bytes)),
            Property::ResponseTopic(bytes) => message.reply_to = Some(text(bytes)),
            Property::CorrelationData(bytes) => message.correlation_id = Some(view.properties.slice_ref(bytes)),
            Property::User(name, value) => message.headers.push((text(name), HeaderValue::Text(text(value)))),
        }
    }
    message
}

/// A foreign message as a subscriber of MQTT gets it, published to `topic`. It arrived at `append_time_ms`, from which its
/// expiry is counted here.
pub fn from_message(message: Message, position: u32, topic: Bytes, append_time_ms: i64) -> MessageView {
    let mut qos = QOS_DEFAULT;
    let mut out = BytesMut::new();
    let payload = message.body.unwrap_or_default();
    if let Some(content_type) = message.content_type {
        put(&mut out, &Property::ContentType(wire_text(Cow::Owned(content_type)).as_bytes()));
    }
    if let Some(reply_to) = message.reply_to {
        match names::checked(reply_to.as_bytes()) {
            Some(name) => put(&mut out, &Property::ResponseTopic(name.as_bytes())),
            // What is no topic name nobody here can answer to; it may mean something to whoever reads it.
            None => put(&mut out, &Property::User(b"reply-to", wire_text(Cow::Owned(reply_to)).as_bytes())),
        }
    }
    if let Some(correlation_id) = message.correlation_id {
        if correlation_id.len() <= FIELD_BYTES_MAX {
            put(&mut out, &Property::CorrelationData(&correlation_id));
        } else {
            // Told rather than lost, and not as something that it is not.
            let text = wire_text(value_text(HeaderValue::Bytes(correlation_id)));
            put(&mut out, &Property::User(b"correlation-id", text.as_bytes()));
        }
    }
    let mut format_is_known = false;
    for (name, value) in message.headers {
        match (name.as_str(), small(&value)) {
            (QOS, Some(number @ 0..=2)) => qos = number,
            // Subscribers may take it at its word, so it has to be true.
            (PAYLOAD_FORMAT, Some(number @ 0..=1))
                if !format_is_known && (number == 0 || std::str::from_utf8(&payload).is_ok()) =>
            {
                format_is_known = true;
                put(&mut out, &Property::PayloadFormat(number));
            }
            _ => {
                let (name, value) = (wire_text(Cow::Owned(name)), wire_text(value_text(value)));
                put(&mut out, &Property::User(name.as_bytes(), value.as_bytes()));
            }
        }
    }
    let expiry_s = message.expiry_ms.map(|expiry_ms| {
        let time_ms = message.time_ms.unwrap_or(append_time_ms);
        let expires_ms = time_ms.saturating_add(i64::try_from(expiry_ms).unwrap_or(i64::MAX));
        let left_ms = expires_ms.saturating_sub(append_time_ms).max(0) as u64;
        u32::try_from(left_ms.div_ceil(1000)).unwrap_or(u32::MAX)
    });
    MessageView { position, qos, retain: false, publisher: 0, expiry_s, topic, properties: out.freeze(), payload }
}

fn small(value: &HeaderValue) -> Option<u8> {
    match value {
        HeaderValue::Integer(number) => u8::try_from(*number).ok(),
        HeaderValue::Text(text) => text.parse().ok(),
        _ => None,
    }
}

/// Values as text, which is all that a user property has. Bytes that are none become text with U+FFFD in it.
fn value_text(value: HeaderValue) -> Cow<'static, str> {
    match value {
        HeaderValue::Null => Cow::Borrowed(""),
        HeaderValue::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
        HeaderValue::Integer(value) => Cow::Owned(value.to_string()),
        HeaderValue::Float(value) => Cow::Owned(value.to_string()),
        HeaderValue::Text(text) => Cow::Owned(text),
        HeaderValue::Bytes(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// Text as the wire can have it: without U+0000 [MQTT-1.5.4-2], and cut behind a whole character where it is too long.
fn wire_text(text: Cow<'_, str>) -> Cow<'_, str> {
    let text = if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { text };
    if text.len() <= FIELD_BYTES_MAX {
        return text;
    }
    let mut end = FIELD_BYTES_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(text[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(view: &MessageView) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        properties(&view.properties)
            .filter_map(|property| match property {
                Property::User(name, value) => Some((text(name), text(value))),
                _ => None,
            })
            .collect()
    }

    fn of(headers: &[(&str, HeaderValue)], body: &'static [u8]) -> MessageView {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let message = Message { headers, body: Some(body.into()), ..Default::default() };
        from_message(message, 0, "t".into(), 0)
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let mut wire = BytesMut::new();
        for property in [
            Property::ContentType(b"text/plain"),
            Property::ResponseTopic(b"answers/1"),
            Property::CorrelationData(&[0, 255]),
            Property::PayloadFormat(1),
            Property::User(b"a", b"1"),
            Property::User(b"a", b"2"),
        ] {
            put(&mut wire, &property);
        }
        let view = MessageView {
            position: 4,
            qos: 2,
            retain: false,
            publisher: 0,
            expiry_s: Some(60),
            topic: "sensors/1".into(),
            properties: wire.freeze(),
            payload: "21.5".into(),
        };
        let message = to_message(&view, 1_000);
        assert_eq!((message.key.as_deref(), message.expiry_ms), (Some(&b"sensors/1"[..]), Some(60_000)));
        assert_eq!(from_message(message.clone(), 4, "sensors/1".into(), 1_000), view);
        // A second later there is one less.
        assert_eq!(from_message(message, 4, "sensors/1".into(), 2_000).expiry_s, Some(59));
    }

    #[test]
    fn values_become_text() {
        let view = of(
            &[
                ("null", HeaderValue::Null),
                ("yes", HeaderValue::Bool(true)),
                ("seven", HeaderValue::Integer(7)),
                ("half", HeaderValue::Float(0.5)),
                ("bytes", HeaderValue::Bytes(Bytes::from_static(&[b'a', 0xff]))),
                ("nul\0", HeaderValue::Text("\0".into())),
                (RETAIN, HeaderValue::Bool(true)),
                (QOS, HeaderValue::Integer(3)),
            ],
            b"",
        );
        let expected = [
            ("null", ""),
            ("yes", "true"),
            ("seven", "7"),
            ("half", "0.5"),
            ("bytes", "a\u{fffd}"),
            ("nul\u{fffd}", "\u{fffd}"),
            ("mqtt.retain", "true"),
            ("mqtt.qos", "3"),
        ];
        assert_eq!(user(&view), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!((view.qos, view.retain), (QOS_DEFAULT, false));
    }

    #[test]
    fn a_payload_is_said_to_be_text_only_if_it_is() {
        let says = [(PAYLOAD_FORMAT, HeaderValue::Text("1".into()))];
        assert_eq!(properties(&of(&says, b"text").properties).next(), Some(Property::PayloadFormat(1)));
        assert_eq!(user(&of(&says, &[0xff])), [(PAYLOAD_FORMAT.to_owned(), "1".to_owned())]);
        let twice = of(&[says[0].clone(), says[0].clone()], b"text");
        assert_eq!(user(&twice).len(), 1, "a second one would make the packet malformed");
    }

    #[test]
    fn what_is_too_long_is_cut_behind_a_character() {
        let view = of(&[("ä", HeaderValue::Text("ä".repeat(40_000)))], b"");
        assert_eq!(user(&view)[0].1.len(), FIELD_BYTES_MAX - 1);
    }

    #[test]
    fn whom_nobody_can_answer_is_told_so() {
        let message = |reply_to: &str| Message { reply_to: Some(reply_to.into()), ..Default::default() };
        let view = from_message(message("answers/1"), 0, "t".into(), 0);
        assert_eq!(properties(&view.properties).next(), Some(Property::ResponseTopic(b"answers/1")));
        let view = from_message(message("answers/#"), 0, "t".into(), 0);
        assert_eq!(user(&view), [("reply-to".to_owned(), "answers/#".to_owned())]);
    }

    #[test]
    fn what_has_expired_stays_expired() {
        let message = Message { time_ms: Some(1_000), expiry_ms: Some(500), ..Default::default() };
        assert_eq!(from_message(message.clone(), 0, "t".into(), 9_000).expiry_s, Some(0));
        assert_eq!(from_message(message, 0, "t".into(), 1_000).expiry_s, Some(1));
    }
}
