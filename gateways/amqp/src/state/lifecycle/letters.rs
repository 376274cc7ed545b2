//! A dead message made ready for its journey: what its properties become, and by which keys it goes. Pure.

use bytes::Bytes;
use codec_amqp::{FieldTable, ShortStr};
use codec_record::amqp_message::MessageView;

use super::death_headers;
use super::deaths::{self, Deaths, Reason};

/// A dead message on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// With which it is published: the first of `routing_keys`.
    pub message: MessageView,
    /// By which it is routed: the queue's dead-letter routing key, or all that the message was published with.
    pub routing_keys: Vec<Bytes>,
    pub deaths: Deaths,
}

/// Where a message dies, and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Death<'d> {
    pub queue: &'d str,
    pub reason: Reason,
    /// The queue's `x-dead-letter-exchange`.
    pub exchange: &'d str,
    /// Its `x-dead-letter-routing-key`.
    pub routing_key: Option<&'d str>,
    pub now_ms: i64,
}

/// The letter that becomes of a message. None: its properties are no properties, or the queue's names are too long for any.
pub fn write(message: &MessageView, death: &Death<'_>) -> Option<Letter> {
    let mut headers: FieldTable = message.properties.headers();
    let mut deaths = Deaths::default();
    if message.has_died {
        deaths = death_headers::read(&headers);
    } else {
        death_headers::remove(&mut headers);
    }
    let copies = death_headers::copies(&headers, "CC").unwrap_or_default();
    let keys: Vec<Bytes> = [message.routing_key.bytes().clone()].into_iter().chain(copies).collect();
    let exchange = message.exchange.bytes();
    deaths.record(deaths::Death {
        queue: Bytes::copy_from_slice(death.queue.as_bytes()),
        reason: death.reason,
        count: 1,
        time_seconds: u64::try_from(death.now_ms / 1000).unwrap_or(0),
        exchange: exchange.clone(),
        routing_keys: keys.clone(),
        original_expiration: message.properties.expiration(),
    });
    death_headers::write(&mut headers, &deaths, exchange);
    let (routing_key, routing_keys) = match death.routing_key {
        None => (message.routing_key.clone(), keys),
        Some(key) => {
            // Its copies have been sent; where it goes now says the queue alone.
            headers.remove("CC");
            let key = ShortStr::try_from(key).ok()?;
            (key.clone(), vec![key.bytes().clone()])
        }
    };
    let properties = message.properties.with_header_table(&headers)?.without_expiration()?;
    let exchange = ShortStr::try_from(death.exchange).ok()?;
    let message = MessageView::arrived(death.now_ms, exchange, routing_key, properties, message.body.clone()).ok()?;
    Some(Letter { message: MessageView { has_died: true, ..message }, routing_keys, deaths })
}

#[cfg(test)]
mod tests {
    use codec_amqp::{FieldValue, PropertyList};

    use super::*;

    fn message(headers: FieldTable) -> MessageView {
        let expiration = Some(Bytes::from_static(b"500"));
        let message_id = Some(Bytes::from_static(b"m"));
        let list = PropertyList { headers: Some(headers), expiration, message_id, ..Default::default() };
        let (exchange, key) = (ShortStr::from_static("x"), ShortStr::from_static("k"));
        MessageView::arrived(5, exchange, key, list.encode(), Bytes::from_static(b"body")).unwrap()
    }

    fn die(message: &MessageView, reason: Reason, routing_key: Option<&str>) -> Letter {
        let now_ms = 1_700_000_000_123;
        write(message, &Death { queue: "q", reason, exchange: "dlx", routing_key, now_ms }).unwrap()
    }

    #[test]
    fn it_goes_by_all_keys_it_came_by() {
        let copies = vec![FieldValue::text("c1"), FieldValue::text("c2")];
        let before = message(FieldTable::from([("CC", copies.into()), ("mine", 1.into())]));
        let letter = die(&before, Reason::Expired, None);
        assert_eq!(letter.routing_keys, ["k", "c1", "c2"]);
        assert_eq!(letter.deaths.0[0].routing_keys, ["k", "c1", "c2"]);
        assert_eq!(letter.deaths.0[0].original_expiration.as_deref(), Some(&b"500"[..]));
        assert_eq!(letter.deaths.0[0].time_seconds, 1_700_000_000);
        assert_eq!((letter.message.properties.expiration(), letter.message.expires_ms), (None, None));
        let (exchange, key) = (&*letter.message.exchange, &*letter.message.routing_key);
        assert_eq!((exchange, key, &letter.message.body[..]), ("dlx", "k", &b"body"[..]));
        assert_eq!((letter.message.time_ms, letter.message.has_died), (1_700_000_000_123, true));
        assert_eq!(letter.message.properties.message_id().as_deref(), Some(&b"m"[..]));
        assert!(
            letter.message.properties.header("CC").is_some()
                && letter.message.properties.header("mine") == Some(1.into())
        );
    }

    #[test]
    fn the_queues_key_is_the_only_one() {
        let before = message(FieldTable::from([("CC", vec![FieldValue::text("c1")].into())]));
        let letter = die(&before, Reason::Rejected, Some("other"));
        assert_eq!((letter.message.routing_key.as_str(), letter.routing_keys.len()), ("other", 1));
        // It tells of the copies, which are no more where it goes.
        assert_eq!(letter.deaths.0[0].routing_keys, ["k", "c1"]);
        assert_eq!(letter.message.properties.header("CC"), None);
    }

    #[test]
    fn only_a_broker_writes_deaths() {
        let before = message(FieldTable::default());
        let once = die(&before, Reason::Rejected, None);
        let twice = die(&once.message, Reason::Rejected, None);
        assert_eq!(twice.deaths.0[0].count, 2);
        // A client published it again.
        let anew = die(&MessageView { has_died: false, ..twice.message }, Reason::Rejected, None);
        assert_eq!((anew.deaths.0.len(), anew.deaths.0[0].count), (1, 1));
    }
}
