//! A request that waits for the core holds up its own channel, and no other.

use std::time::Duration;

use bytes::BytesMut;
use codec_amqp::frame::FrameKind;
use codec_amqp::{Method, basic, channel, connection, queue, tx};
use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation};

use crate::common::{Broker, Raw, config, publish_frames, short, within};
use crate::consume::support::{body, consume_with, next};

async fn declare(channel: &lapin::Channel, name: &str) {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    within(channel.queue_declare(name.into(), options, FieldTable::default())).await.expect("a queue");
}

async fn transaction(raw: &mut Raw, number: u16, queue: &str) {
    raw.send(number, tx::Select {}).await;
    assert_eq!(raw.method().await, (number, tx::SelectOk {}.into()));
    raw.send_bytes(&publish_frames(number, queue, b"in a transaction")).await;
    raw.send(number, tx::Commit {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_channels_deliver_acknowledge_publish_and_declare() {
    let (broker, gate) = Broker::gated(config()).await;
    let connection = broker.lapin().await;
    let busy = within(connection.create_channel()).await.unwrap();
    let free = within(connection.create_channel()).await.unwrap();
    declare(&free, "q").await;
    declare(&free, "other").await;
    within(busy.tx_select()).await.unwrap();
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    within(busy.basic_publish("".into(), "q".into(), options, b"committed", properties.clone())).await.unwrap();
    gate.close();
    let committing = tokio::spawn(async move { (busy.tx_commit().await, busy) });
    gate.came(1).await;

    within(free.confirm_select(ConfirmSelectOptions::default())).await.unwrap();
    within(free.basic_qos(1, BasicQosOptions::default())).await.unwrap();
    let mut deliveries =
        consume_with(&free, "other", "c", BasicConsumeOptions::default(), FieldTable::default()).await.unwrap();
    for number in 0..5 {
        let content = [b'0' + number];
        let sent = free.basic_publish("".into(), "other".into(), options, &content, properties.clone());
        assert!(matches!(within(within(sent).await.unwrap()).await.unwrap(), Confirmation::Ack(None)));
        let delivery = next(&mut deliveries).await;
        assert_eq!(body(&delivery), number.to_string());
        // With a prefetch of one the next comes only when this is heard.
        within(delivery.acker.ack(BasicAckOptions::default())).await.unwrap();
    }
    declare(&free, "third").await;
    let another = within(connection.create_channel()).await.unwrap();
    within(another.close(200, "bye".into())).await.unwrap();
    assert!(!committing.is_finished());

    gate.open();
    let (committed, busy) = within(committing).await.unwrap();
    committed.unwrap();
    let got = within(busy.basic_get("q".into(), BasicGetOptions { no_ack: true })).await.unwrap();
    assert_eq!(got.map(|got| got.delivery.data).as_deref(), Some(&b"committed"[..]));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_for_a_busy_channel_waits_and_keeps_its_order() {
    let (broker, gate) = Broker::gated(config()).await;
    let connection = broker.lapin().await;
    let helper = within(connection.create_channel()).await.unwrap();
    declare(&helper, "q").await;
    declare(&helper, "other").await;
    let mut raw = broker.raw().await;
    raw.open(0).await;
    raw.open_channel(1).await;
    raw.send(
        1,
        basic::Consume {
            queue: short("other"),
            consumer_tag: short("c"),
            no_local: false,
            no_ack: true,
            exclusive: false,
            no_wait: false,
            arguments: Default::default(),
        },
    )
    .await;
    assert!(matches!(raw.method().await, (1, Method::BasicConsumeOk(_))));
    gate.close();
    transaction(&mut raw, 1, "q").await;
    gate.came(1).await;
    // Two more transactions, of which the channel hears later; and a delivery for it.
    raw.send_bytes(&publish_frames(1, "q", b"second")).await;
    raw.send(1, tx::Commit {}).await;
    raw.send_bytes(&publish_frames(1, "q", b"third")).await;
    raw.send(1, tx::Rollback {}).await;
    raw.send(1, basic::Qos { prefetch_size: 0, prefetch_count: 7, global: false }).await;
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    within(helper.basic_publish("".into(), "other".into(), options, b"delivered", properties)).await.unwrap();
    // The connection is listened to: another channel opens, behind all that.
    raw.open_channel(2).await;
    gate.open();
    let mut methods = Vec::new();
    while methods.len() < 5 {
        let frame = raw.frame().await.expect("a frame");
        if frame.kind == FrameKind::Method {
            assert_eq!(frame.channel, 1);
            methods.push(Method::decode(&frame.payload).unwrap().name());
        }
    }
    // The delivery comes somewhere behind the first answer.
    assert_eq!(methods[0], "tx.commit-ok");
    methods.retain(|name| *name != "basic.deliver");
    assert_eq!(methods, ["tx.commit-ok", "tx.commit-ok", "tx.rollback-ok", "basic.qos-ok"]);
    for expected in [Some("in a transaction"), Some("second"), None] {
        let got = within(helper.basic_get("q".into(), BasicGetOptions { no_ack: true })).await.unwrap();
        assert_eq!(got.map(|got| String::from_utf8(got.delivery.data).unwrap()).as_deref(), expected);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_and_connections_close_behind_what_was_asked() {
    let (broker, gate) = Broker::gated(config()).await;
    let connection = broker.lapin().await;
    let helper = within(connection.create_channel()).await.unwrap();
    declare(&helper, "q").await;
    let mut raw = broker.raw().await;
    raw.open(0).await;
    raw.open_channel(1).await;
    raw.open_channel(2).await;
    gate.close();
    transaction(&mut raw, 1, "q").await;
    gate.came(1).await;
    let close = || channel::Close { reply_code: 200, reply_text: short("bye"), class_id: 0, method_id: 0 };
    raw.send(1, close()).await;
    // The number is free behind the answer, not before.
    raw.send(1, channel::Open {}).await;
    // An error on another channel is told at once.
    raw.send(2, tx::Commit {}).await;
    let (number, closed) = raw.method().await;
    assert!(matches!(&closed, Method::ChannelClose(close) if close.reply_code == 406), "{closed:?}");
    assert_eq!(number, 2);
    raw.send(0, connection::Close { reply_code: 200, reply_text: short("bye"), class_id: 0, method_id: 0 }).await;
    gate.open();
    assert_eq!(raw.method().await, (1, tx::CommitOk {}.into()));
    assert_eq!(raw.method().await, (1, channel::CloseOk {}.into()));
    assert_eq!(raw.method().await, (1, channel::OpenOk {}.into()));
    assert_eq!(raw.method().await, (0, connection::CloseOk {}.into()));
    raw.end().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_vanishes_meanwhile_leaves_nothing_behind() {
    let (broker, gate) = Broker::gated(config()).await;
    let connection = broker.lapin().await;
    let helper = within(connection.create_channel()).await.unwrap();
    declare(&helper, "q").await;
    declare(&helper, "held").await;
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    within(helper.basic_publish("".into(), "held".into(), options, b"held", properties)).await.unwrap();
    let mut raw = broker.raw().await;
    raw.open(0).await;
    raw.open_channel(1).await;
    raw.send(1, basic::Get { queue: short("held"), no_ack: false }).await;
    assert!(matches!(raw.method().await, (1, Method::BasicGetOk(_))));
    // Its properties and its body.
    for _ in 0..2 {
        raw.frame().await.expect("a frame");
    }
    gate.close();
    transaction(&mut raw, 1, "q").await;
    gate.came(1).await;
    drop(raw);
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.open();
    let mut deliveries =
        consume_with(&helper, "held", "c", BasicConsumeOptions::default(), FieldTable::default()).await.unwrap();
    let delivery = next(&mut deliveries).await;
    assert!(delivery.redelivered && body(&delivery) == "held");
    // The commit was asked for, and so it is done.
    let got = within(helper.basic_get("q".into(), BasicGetOptions { no_ack: true })).await.unwrap();
    assert!(got.is_some());
    broker.stop().await;
}

fn declares(methods: &[(&str, bool)]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for (name, passive) in methods {
        let declare = queue::Declare {
            queue: short(name),
            passive: *passive,
            durable: true,
            exclusive: false,
            auto_delete: false,
            no_wait: false,
            arguments: Default::default(),
        };
        Method::from(declare).encode(1, &mut bytes);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn declares_that_come_behind_each_other_are_kept_together() {
    let (broker, _, creates) = Broker::with_gates(config()).await;
    let mut raw = broker.raw().await;
    raw.open(0).await;
    raw.open_channel(1).await;
    creates.close();
    // The last waits for the one of its name.
    raw.send_bytes(&declares(&[("a", false), ("b", false), ("c", false), ("a", false)])).await;
    creates.came(3).await;
    creates.open();
    for name in ["a", "b", "c", "a"] {
        let (_, declared) = raw.method().await;
        assert!(matches!(&declared, Method::QueueDeclareOk(declared) if declared.queue == *name), "{declared:?}");
    }
    // Behind one that is refused none is done.
    raw.send_bytes(&declares(&[("d", false), ("e", false), ("amq.reserved", false), ("f", false)])).await;
    for name in ["d", "e"] {
        let (_, declared) = raw.method().await;
        assert!(matches!(&declared, Method::QueueDeclareOk(declared) if declared.queue == *name), "{declared:?}");
    }
    let (_, closed) = raw.method().await;
    assert!(matches!(&closed, Method::ChannelClose(close) if close.reply_code == 403), "{closed:?}");
    raw.send(1, channel::CloseOk {}).await;
    raw.open_channel(1).await;
    raw.send_bytes(&declares(&[("e", true), ("f", true)])).await;
    assert!(matches!(raw.method().await, (1, Method::QueueDeclareOk(_))));
    let (_, closed) = raw.method().await;
    assert!(matches!(&closed, Method::ChannelClose(close) if close.reply_code == 404), "{closed:?}");
    broker.stop().await;
}
