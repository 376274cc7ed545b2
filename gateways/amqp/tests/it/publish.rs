//! Publishing: confirms, returns, refusals, transactions.

use crate::common::{Broker, Raw, within};
use codec_amqp::{ContentHeader, ContentMethod, Method, Outgoing, PropertyList, ShortStr, basic, confirm, queue};
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, ExchangeKind};
use tokio::io::AsyncWriteExt;

async fn declare(channel: &Channel, name: &str) {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    within(channel.queue_declare(name.into(), options, FieldTable::default())).await.expect("a queue");
}

async fn publish(channel: &Channel, exchange: &str, key: &str, body: &[u8]) -> Confirmation {
    publish_with(channel, exchange, key, body, BasicPublishOptions::default(), BasicProperties::default()).await
}

async fn publish_with(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &[u8],
    options: BasicPublishOptions,
    properties: BasicProperties,
) -> Confirmation {
    let sent = within(channel.basic_publish(exchange.into(), key.into(), options, body, properties)).await;
    within(sent.expect("sent")).await.expect("an answer")
}

async fn get(channel: &Channel, name: &str) -> Option<Vec<u8>> {
    let got = within(channel.basic_get(name.into(), BasicGetOptions { no_ack: true })).await.expect("an answer");
    got.map(|message| message.delivery.data)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_is_there_at_once_and_in_order() {
    let broker = Broker::start().await;
    let connection = broker.lapin().await;
    let channel = within(connection.create_channel()).await.unwrap();
    declare(&channel, "q").await;
    for number in 0..500u32 {
        let body = number.to_be_bytes();
        assert!(matches!(publish(&channel, "", "q", &body).await, Confirmation::NotRequested));
    }
    for number in 0..500u32 {
        assert_eq!(get(&channel, "q").await.as_deref(), Some(&number.to_be_bytes()[..]));
    }
    assert_eq!(get(&channel, "q").await, None);
    // Bodies of no bytes, of one frame, of many.
    for bytes in [0usize, 1, 131_064, 131_065, 1_000_000] {
        let body: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
        publish(&channel, "", "q", &body).await;
        assert_eq!(get(&channel, "q").await, Some(body));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confirms_come_for_all() {
    let broker = Broker::start().await;
    let connection = broker.lapin().await;
    let channel = within(connection.create_channel()).await.unwrap();
    declare(&channel, "q").await;
    within(channel.confirm_select(ConfirmSelectOptions::default())).await.unwrap();
    let mut waiting = Vec::new();
    for number in 0..2000u32 {
        // Some of them go nowhere, and are confirmed in their turn.
        let key = if number % 10 == 0 { "nowhere" } else { "q" };
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let body = number.to_be_bytes();
        let sent = channel.basic_publish("".into(), key.into(), options, &body, properties);
        waiting.push(within(sent).await.unwrap());
    }
    for confirm in waiting {
        assert!(matches!(within(confirm).await.unwrap(), Confirmation::Ack(None)));
    }
    let declared = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let counted = within(channel.queue_declare("q".into(), declared, FieldTable::default())).await.unwrap();
    assert_eq!(counted.message_count(), 1800);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finds_no_queue_is_returned_before_it_is_confirmed() {
    let broker = Broker::start().await;
    let connection = broker.lapin().await;
    let channel = within(connection.create_channel()).await.unwrap();
    within(channel.confirm_select(ConfirmSelectOptions::default())).await.unwrap();
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let confirmed = publish_with(&channel, "", "nowhere", b"x", mandatory, BasicProperties::default()).await;
    let Confirmation::Ack(Some(returned)) = confirmed else { panic!("{confirmed:?}") };
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!(returned.delivery.data, b"x");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_message_goes_to_many_queues_and_each_has_its_order() {
    let broker = Broker::start().await;
    let connection = broker.lapin().await;
    let channel = within(connection.create_channel()).await.unwrap();
    let options = ExchangeDeclareOptions::default();
    within(channel.exchange_declare("f".into(), ExchangeKind::Fanout, options, FieldTable::default())).await.unwrap();
    for name in ["a", "b", "c"] {
        declare(&channel, name).await;
        let bound =
            channel.queue_bind(name.into(), "f".into(), "".into(), QueueBindOptions::default(), FieldTable::default());
        within(bound).await.unwrap();
    }
    within(channel.confirm_select(ConfirmSelectOptions::default())).await.unwrap();
    let mut waiting = Vec::new();
    for number in 0..300u32 {
        // To all, and now and then to one of them alone.
        let (exchange, key) = if number % 7 == 3 { ("", "b") } else { ("f", "") };
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let body = number.to_be_bytes();
        let sent = channel.basic_publish(exchange.into(), key.into(), options, &body, properties);
        waiting.push(within(sent).await.unwrap());
    }
    for confirm in waiting {
        assert!(within(confirm).await.unwrap().is_ack());
    }
    for (name, has_all) in [("a", false), ("b", true), ("c", false)] {
        let mut found = Vec::new();
        while let Some(body) = get(&channel, name).await {
            found.push(u32::from_be_bytes(body.try_into().unwrap()));
        }
        let expected: Vec<u32> = (0..300).filter(|number| has_all || number % 7 != 3).collect();
        assert_eq!(found, expected, "{name}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_go_where_cc_and_bcc_say_and_bcc_is_not_told() {
    let broker = Broker::start().await;
    let connection = broker.lapin().await;
    let channel = within(connection.create_channel()).await.unwrap();
    for name in ["a", "b", "c"] {
        declare(&channel, name).await;
    }
    let mut headers = FieldTable::default();
    let keys = |name: &str| AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::LongString(name.into())]));
    headers.insert("CC".into(), keys("b"));
    headers.insert("BCC".into(), keys("c"));
    let properties = BasicProperties::default().with_headers(headers);
    publish_with(&channel, "", "a", b"x", BasicPublishOptions::default(), properties).await;
    for name in ["a", "b", "c"] {
        let got = within(channel.basic_get(name.into(), BasicGetOptions { no_ack: true })).await.unwrap().unwrap();
        let headers = got.delivery.properties.headers().clone().unwrap();
        let names: Vec<_> = headers.inner().keys().map(|name| name.as_str().to_owned()).collect();
        assert_eq!(names, ["CC"]);
    }
    broker.stop().await;
}

/// Sends one publish by hand; answers what came back.
async fn refused(broker: &Broker, exchange: &str, immediate: bool, list: PropertyList) -> (u16, u16, String) {
    let mut raw = broker.raw().await;
    raw.open(0).await;
    raw.open_channel(1).await;
    let mut out = Outgoing::new();
    let method = ContentMethod::Publish { exchange, routing_key: "q", mandatory: false, immediate };
    out.put_content(1, method, list.encode().raw(), &bytes::Bytes::from_static(b"body"), 0);
    within(raw.stream.write_all_buf(&mut out)).await.unwrap();
    match raw.method().await {
        (on, Method::ChannelClose(close)) => (on, close.reply_code, close.reply_text.to_string()),
        (on, Method::ConnectionClose(close)) => (on, close.reply_code, close.reply_text.to_string()),
        (_, other) => panic!("{}", other.name()),
    }
}

#[tokio::test]
async fn what_may_not_be_published_is_refused() {
    let broker = Broker::start().await;
    let list = PropertyList::default;
    let (on, code, text) = refused(&broker, "missing", false, list()).await;
    assert_eq!((on, code, text.as_str()), (1, 404, "NOT_FOUND - no exchange 'missing' in vhost '/'"));
    let (on, code, text) = refused(&broker, "", true, list()).await;
    assert_eq!((on, code, text.as_str()), (0, 540, "NOT_IMPLEMENTED - immediate=true"));
    let (on, code, text) = refused(&broker, "amq.rabbitmq.trace", false, list()).await;
    assert_eq!((on, code), (1, 403), "{text}");
    let user = PropertyList { user_id: Some(bytes::Bytes::from_static(b"other")), ..list() };
    let (on, code, text) = refused(&broker, "", false, user).await;
    let expected = "PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'guest'";
    assert_eq!((on, code, text.as_str()), (1, 406, expected));
    let expiration = PropertyList { expiration: Some(bytes::Bytes::from_static(b"soon")), ..list() };
    assert_eq!(refused(&broker, "", false, expiration).await.1, 406);
    broker.stop().await;
}

#[tokio::test]
async fn frames_out_of_order_end_the_connection() {
    let broker = Broker::start().await;
    let publish = || basic::Publish { routing_key: ShortStr::from_static("q"), ..basic::Publish::default() };
    // Another method, or a body, instead of the header; a header instead of the body.
    for case in 0..3 {
        let mut raw = broker.raw().await;
        raw.open(0).await;
        raw.open_channel(1).await;
        raw.send(1, publish()).await;
        match case {
            0 => raw.send(1, publish()).await,
            1 => raw.send_bytes(&[3, 0, 1, 0, 0, 0, 1, b'x', 0xce]).await,
            _ => {
                let mut out = bytes::BytesMut::new();
                let header =
                    ContentHeader { class_id: 60, body_bytes: 5, properties: PropertyList::default().encode() };
                header.encode(1, &mut out);
                header.encode(1, &mut out);
                raw.send_bytes(&out).await;
            }
        }
        let (on, close) = raw.method().await;
        let Method::ConnectionClose(close) = close else { panic!("{}", close.name()) };
        assert_eq!((on, close.reply_code), (0, 505), "{}", close.reply_text);
    }
    broker.stop().await;
}

#[tokio::test]
async fn too_large_a_message_closes_the_channel_only() {
    let broker = Broker::with(amqp_gateway::Config { message_bytes_max: 1000, ..crate::common::config() }).await;
    let mut raw = broker.raw().await;
    raw.open(0).await;
    raw.open_channel(1).await;
    let mut out = Outgoing::new();
    let method = ContentMethod::Publish { exchange: "", routing_key: "q", mandatory: false, immediate: false };
    out.put_content(1, method, &[0, 0], &bytes::Bytes::from(vec![0; 1001]), 0);
    within(raw.stream.write_all_buf(&mut out)).await.unwrap();
    let (on, close) = raw.method().await;
    let Method::ChannelClose(close) = close else { panic!("{}", close.name()) };
    let text = "PRECONDITION_FAILED - message size 1001 is larger than configured max size 1000";
    assert_eq!((on, close.reply_code, close.reply_text.as_str()), (1, 406, text));
    raw.open_channel(2).await;
    broker.stop().await;
}

async fn count(raw: &mut Raw, name: &'static str) -> u32 {
    raw.send(1, queue::Declare { queue: ShortStr::from_static(name), passive: true, ..Default::default() }).await;
    match raw.method().await {
        (1, Method::QueueDeclareOk(declared)) => declared.message_count,
        (_, other) => panic!("{}", other.name()),
    }
}

#[tokio::test]
async fn a_transaction_happens_with_its_commit() {
    let broker = Broker::start().await;
    let mut raw = broker.raw().await;
    raw.open(0).await;
    raw.open_channel(1).await;
    for name in ["a", "b"] {
        raw.send(1, queue::Declare { queue: ShortStr::from_static(name), durable: true, ..Default::default() }).await;
        assert!(matches!(raw.method().await, (1, Method::QueueDeclareOk(_))));
    }
    raw.send(1, codec_amqp::tx::Select {}).await;
    assert_eq!(raw.method().await, (1, codec_amqp::tx::SelectOk {}.into()));
    let publish = async |raw: &mut Raw, routing_key: &str| {
        let mut out = Outgoing::new();
        let method = ContentMethod::Publish { exchange: "", routing_key, mandatory: false, immediate: false };
        out.put_content(1, method, &[0, 0], &bytes::Bytes::from_static(b"body"), 0);
        within(raw.stream.write_all_buf(&mut out)).await.unwrap();
    };
    publish(&mut raw, "a").await;
    publish(&mut raw, "b").await;
    let mut other = broker.raw().await;
    other.open(0).await;
    other.open_channel(1).await;
    assert_eq!((count(&mut other, "a").await, count(&mut other, "b").await), (0, 0));
    raw.send(1, codec_amqp::tx::Commit {}).await;
    assert_eq!(raw.method().await, (1, codec_amqp::tx::CommitOk {}.into()));
    assert_eq!((count(&mut other, "a").await, count(&mut other, "b").await), (1, 1));
    publish(&mut raw, "a").await;
    raw.send(1, codec_amqp::tx::Rollback {}).await;
    assert_eq!(raw.method().await, (1, codec_amqp::tx::RollbackOk {}.into()));
    raw.send(1, codec_amqp::tx::Commit {}).await;
    assert_eq!(raw.method().await, (1, codec_amqp::tx::CommitOk {}.into()));
    assert_eq!(count(&mut other, "a").await, 1);
    // An acknowledgement waits for the commit, and is taken back by a rollback.
    for is_committed in [false, true] {
        raw.send(1, basic::Get { queue: ShortStr::from_static("a"), no_ack: false }).await;
        let tag = match raw.method().await {
            (1, Method::BasicGetOk(got)) => got.delivery_tag,
            (_, other) if is_committed => {
                // It is still out: the rollback left it with this channel.
                assert_eq!(other, basic::GetEmpty {}.into());
                1
            }
            (_, other) => panic!("{}", other.name()),
        };
        if !is_committed {
            raw.frame().await;
            raw.frame().await;
        }
        raw.send(1, basic::Ack { delivery_tag: tag, multiple: false }).await;
        if is_committed {
            raw.send(1, codec_amqp::tx::Commit {}).await;
        } else {
            raw.send(1, codec_amqp::tx::Rollback {}).await;
        }
        raw.method().await;
    }
    raw.send(1, confirm::Select { no_wait: false }).await;
    let (_, close) = raw.method().await;
    let Method::ChannelClose(close) = close else { panic!("{}", close.name()) };
    let text = "PRECONDITION_FAILED - cannot switch from tx to confirm mode";
    assert_eq!((close.reply_code, close.reply_text.as_str()), (406, text));
    assert_eq!(count(&mut other, "a").await, 0);
    broker.stop().await;
}

#[tokio::test]
async fn a_publisher_is_blocked_while_memory_is_short_and_told_so() {
    // More than one byte is too much.
    let broker = Broker::with(amqp_gateway::Config { memory_bytes_max: Some(1), ..crate::common::config() }).await;
    let mut raw = broker.raw().await;
    raw.open(0).await;
    raw.open_channel(1).await;
    // The alarm may come a moment after the first publish.
    let blocked = loop {
        let mut out = Outgoing::new();
        let method = ContentMethod::Publish { exchange: "", routing_key: "q", mandatory: true, immediate: false };
        out.put_content(1, method, &[0, 0], &bytes::Bytes::from_static(b"body"), 0);
        within(raw.stream.write_all_buf(&mut out)).await.unwrap();
        match raw.method().await {
            (0, Method::ConnectionBlocked(blocked)) => break blocked,
            (1, Method::BasicReturn(_)) => {
                raw.frame().await;
                raw.frame().await;
            }
            (_, other) => panic!("{}", other.name()),
        }
    };
    assert_eq!(blocked.reason.as_str(), "low on memory");
    // Who does not publish goes on.
    let mut other = broker.raw().await;
    other.open(0).await;
    other.open_channel(1).await;
    broker.stop().await;
}
