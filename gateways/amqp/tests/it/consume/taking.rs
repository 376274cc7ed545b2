//! One client: ack, nack, requeue, get, cancel, recover, close.

use codec_amqp::{Method, basic};
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};

use super::support::*;
use crate::common::{Broker, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_gone_and_the_rest_comes_back_in_order() {
    let broker = Broker::start().await;
    let (connection, channel) = channel(&broker).await;
    declare(&channel, "q", FieldTable::default()).await;
    put(&broker.core, "q", 0, &numbers(0..5)).await;
    put(&broker.core, "q", 0, &numbers(5..10)).await;
    let mut deliveries = consume(&channel, "q", "c").await;
    let mut got = Vec::new();
    for number in 0..10 {
        let delivery = next(&mut deliveries).await;
        assert_eq!(
            (body(&delivery), delivery.delivery_tag, delivery.redelivered),
            (number.to_string(), number + 1, false)
        );
        assert_eq!((delivery.exchange.as_str(), delivery.routing_key.as_str()), ("", "q"));
        got.push(delivery);
    }
    counted(&broker.core, "q", (0, 10)).await;
    within(channel.basic_ack(3, BasicAckOptions { multiple: true })).await.unwrap();
    within(channel.basic_ack(7, BasicAckOptions::default())).await.unwrap();
    counted(&broker.core, "q", (0, 6)).await;
    // Put back out of order, they come again in order, before what is new.
    put(&broker.core, "q", 0, &numbers(10..11)).await;
    assert_eq!(body(&next(&mut deliveries).await), "10");
    within(channel.close(200, "".into())).await.unwrap();
    counted(&broker.core, "q", (7, 0)).await;
    let channel = within(connection.create_channel()).await.unwrap();
    let mut deliveries = consume(&channel, "q", "c").await;
    for expected in ["3", "4", "5", "7", "8", "9", "10"] {
        let delivery = next(&mut deliveries).await;
        assert_eq!((body(&delivery).as_str(), delivery.redelivered), (expected, true));
    }
    broker.stop().await;
}

/// More than fits into what a connection keeps ready: whoever deals waits for room, and is woken when there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_backlog_comes_without_a_pause() {
    const MESSAGES: usize = 400;
    let broker = Broker::start().await;
    let (_connection, channel) = channel(&broker).await;
    declare(&channel, "q", FieldTable::default()).await;
    let large = vec!["x".repeat(100 << 10)];
    for _ in 0..MESSAGES {
        put(&broker.core, "q", 0, &large).await;
    }
    let began = std::time::Instant::now();
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut deliveries = consume_with(&channel, "q", "c", options, FieldTable::default()).await.unwrap();
    for _ in 0..MESSAGES {
        assert_eq!(body(&next(&mut deliveries).await).len(), 100 << 10);
    }
    // It was a second for each mebibyte.
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nack_puts_back_in_place_or_drops() {
    let broker = Broker::start().await;
    let (_connection, channel) = channel(&broker).await;
    declare(&channel, "q", FieldTable::default()).await;
    put(&broker.core, "q", 0, &numbers(0..4)).await;
    within(channel.basic_qos(2, BasicQosOptions::default())).await.unwrap();
    let mut deliveries = consume(&channel, "q", "c").await;
    assert_eq!(bodies(&mut deliveries, 2).await, ["0", "1"]);
    within(channel.basic_nack(1, BasicNackOptions { multiple: false, requeue: true })).await.unwrap();
    let again = next(&mut deliveries).await;
    assert_eq!((body(&again).as_str(), again.redelivered, again.delivery_tag), ("0", true, 3));
    within(channel.basic_reject(3, BasicRejectOptions { requeue: false })).await.unwrap();
    assert_eq!(body(&next(&mut deliveries).await), "2");
    within(channel.basic_nack(0, BasicNackOptions { multiple: true, requeue: false })).await.unwrap();
    assert_eq!(body(&next(&mut deliveries).await), "3");
    counted(&broker.core, "q", (0, 1)).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn get_takes_one_and_says_how_many_are_left() {
    let broker = Broker::start().await;
    let (_connection, channel) = channel(&broker).await;
    declare(&channel, "q", FieldTable::default()).await;
    assert!(within(channel.basic_get("q".into(), BasicGetOptions::default())).await.unwrap().is_none());
    put(&broker.core, "q", 0, &numbers(0..3)).await;
    let get = |no_ack| within(channel.basic_get("q".into(), BasicGetOptions { no_ack }));
    let first = get(false).await.unwrap().unwrap();
    assert_eq!(
        (first.delivery.data.as_slice(), first.message_count, first.delivery.redelivered),
        (&b"0"[..], 2, false)
    );
    // A nack before a get is seen by it.
    within(channel.basic_nack(first.delivery.delivery_tag, BasicNackOptions { requeue: true, ..Default::default() }))
        .await
        .unwrap();
    let again = get(false).await.unwrap().unwrap();
    assert_eq!((again.delivery.data.as_slice(), again.message_count, again.delivery.redelivered), (&b"0"[..], 2, true));
    let second = get(true).await.unwrap().unwrap();
    assert_eq!((second.delivery.data.as_slice(), second.message_count), (&b"1"[..], 1));
    within(channel.basic_ack(again.delivery.delivery_tag, BasicAckOptions::default())).await.unwrap();
    counted(&broker.core, "q", (1, 0)).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_tag_closes_the_channel_and_a_tag_used_twice_the_connection() {
    let broker = Broker::start().await;
    // An ack has no answer: a client may notice the close before it asks for something else.
    let mut raw = broker.raw().await;
    raw.open(0).await;
    raw.open_channel(1).await;
    raw.send(1, basic::Ack { delivery_tag: 5, multiple: false }).await;
    let (on, Method::ChannelClose(close)) = raw.method().await else { panic!("the channel is not closed") };
    assert_eq!((on, close.reply_code), (1, 406));
    assert_eq!(close.reply_text.as_str(), "PRECONDITION_FAILED - unknown delivery tag 5");
    let (_connection, channel) = channel(&broker).await;
    declare(&channel, "q", FieldTable::default()).await;
    consume(&channel, "q", "twice").await;
    let again = within(channel.basic_consume(
        "q".into(),
        "twice".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    ));
    let closed = again.await.unwrap_err();
    assert!(closed.to_string().contains("NOT_ALLOWED - attempt to reuse consumer tag 'twice'"), "{closed}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_consumer_gets_no_more_and_keeps_what_it_has() {
    let broker = Broker::start().await;
    let (_connection, channel) = channel(&broker).await;
    declare(&channel, "q", FieldTable::default()).await;
    put(&broker.core, "q", 0, &numbers(0..2)).await;
    let mut deliveries = consume(&channel, "q", "c").await;
    assert_eq!(bodies(&mut deliveries, 2).await, ["0", "1"]);
    within(channel.basic_cancel("c".into(), BasicCancelOptions::default())).await.unwrap();
    put(&broker.core, "q", 0, &numbers(2..3)).await;
    counted(&broker.core, "q", (1, 2)).await;
    within(channel.basic_ack(1, BasicAckOptions::default())).await.unwrap();
    counted(&broker.core, "q", (1, 1)).await;
    // What it has comes again to the next, when it is recovered.
    let mut next_deliveries = consume(&channel, "q", "d").await;
    assert_eq!(bodies(&mut next_deliveries, 1).await, ["2"]);
    within(channel.basic_recover(BasicRecoverOptions { requeue: true })).await.unwrap();
    assert_eq!(bodies(&mut next_deliveries, 2).await, ["1", "2"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_is_told_when_its_queue_is_deleted() {
    let broker = Broker::start().await;
    let (connection, channel) = channel(&broker).await;
    declare(&channel, "q", FieldTable::default()).await;
    let mut deliveries = consume(&channel, "q", "c").await;
    let other = within(connection.create_channel()).await.unwrap();
    within(other.queue_delete("q".into(), QueueDeleteOptions::default())).await.unwrap();
    assert!(within(deliveries.recv()).await.expect("it is told").is_none());
    // The tag is free again.
    declare(&channel, "q", FieldTable::default()).await;
    put(&broker.core, "q", 0, &numbers(7..8)).await;
    let mut deliveries = consume(&channel, "q", "c").await;
    assert_eq!(bodies(&mut deliveries, 1).await, ["7"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_without_acknowledgements_has_nothing_out() {
    let broker = Broker::start().await;
    let (_connection, channel) = channel(&broker).await;
    declare(&channel, "q", FieldTable::default()).await;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut deliveries = consume_with(&channel, "q", "c", options, FieldTable::default()).await.unwrap();
    for batch in 0..20 {
        put(&broker.core, "q", 0, &numbers(batch * 500..(batch + 1) * 500)).await;
    }
    assert_eq!(bodies(&mut deliveries, 10_000).await, numbers(0..10_000));
    counted(&broker.core, "q", (0, 0)).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_expired_is_not_delivered() {
    let broker = Broker::start().await;
    let (_connection, channel) = channel(&broker).await;
    declare(&channel, "q", FieldTable::default()).await;
    let mut writer = codec_record::amqp_message::Writer::new();
    writer.append(&message("q", "over", Some(2)));
    writer.append(&message("q", "not over", Some(i64::MAX)));
    append(&broker.core, "q", 0, writer).await;
    let mut deliveries = consume(&channel, "q", "c").await;
    assert_eq!(bodies(&mut deliveries, 1).await, ["not over"]);
    counted(&broker.core, "q", (0, 1)).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_acknowledges_loses_its_channel() {
    let broker = Broker::start().await;
    let (_connection, channel) = channel(&broker).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-consumer-timeout".into(), AMQPValue::LongLongInt(1000));
    declare(&channel, "q", arguments).await;
    put(&broker.core, "q", 0, &numbers(0..1)).await;
    let mut deliveries = consume(&channel, "q", "c").await;
    assert_eq!(bodies(&mut deliveries, 1).await, ["0"]);
    counted(&broker.core, "q", (1, 0)).await;
    let closed = within(channel.basic_get("q".into(), BasicGetOptions::default())).await;
    assert!(closed.is_err());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quorum_queues_refuse_a_prefetch_of_the_channel() {
    let broker = Broker::start().await;
    let (_connection, channel) = channel(&broker).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    declare(&channel, "q", arguments).await;
    within(channel.basic_qos(5, BasicQosOptions { global: true })).await.unwrap();
    let consume = consume_with(&channel, "q", "c", BasicConsumeOptions::default(), FieldTable::default()).await;
    let error = consume.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("NOT_IMPLEMENTED - queue 'q' in vhost '/' does not support global qos"), "{error}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_acknowledges_loses_its_channel() {
    let timeout = Some(std::time::Duration::from_millis(500));
    let broker = Broker::with(amqp_gateway::Config { consumer_timeout: timeout, ..crate::common::config() }).await;
    let (connection, holder) = channel(&broker).await;
    declare(&holder, "q", FieldTable::default()).await;
    // Its own time-out goes before the gateway's.
    let mut patient = FieldTable::default();
    patient.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    patient.insert("x-consumer-timeout".into(), AMQPValue::LongInt(600_000));
    declare(&holder, "patient", patient).await;
    put(&broker.core, "q", 0, &numbers(0..1)).await;
    put(&broker.core, "patient", 0, &numbers(0..1)).await;
    let waiting = within(connection.create_channel()).await.unwrap();
    let mut kept = consume(&waiting, "patient", "c").await;
    next(&mut kept).await;
    let mut deliveries = consume(&holder, "q", "c").await;
    next(&mut deliveries).await;
    // The channel is closed: its consumer ends without a cancel.
    while within(deliveries.recv()).await.is_some() {}
    counted(&broker.core, "q", (1, 0)).await;
    let error = within(holder.basic_qos(1, BasicQosOptions::default())).await.unwrap_err().to_string();
    assert!(!holder.status().connected(), "{error}");
    assert!(waiting.status().connected());
    assert_eq!(counts(&broker.core, "patient").await, (0, 1));
    let again = within(connection.create_channel()).await.unwrap();
    let mut deliveries = consume(&again, "q", "c").await;
    assert!(next(&mut deliveries).await.redelivered);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_of_other_types_of_queues_are_refused() {
    let broker = Broker::start().await;
    let (connection, own) = channel(&broker).await;
    let text = |text: &str| AMQPValue::LongString(text.into());
    for (queue_type, argument, value) in [
        ("classic", "x-stream-offset", text("first")),
        ("quorum", "x-stream-filter", text("a")),
        ("stream", "x-priority", AMQPValue::LongInt(5)),
    ] {
        let mut of_type = FieldTable::default();
        of_type.insert("x-queue-type".into(), text(queue_type));
        declare(&own, queue_type, of_type).await;
        let taker = within(connection.create_channel()).await.unwrap();
        within(taker.basic_qos(5, BasicQosOptions::default())).await.unwrap();
        let mut arguments = FieldTable::default();
        arguments.insert(argument.into(), value);
        let consume = consume_with(&taker, queue_type, "c", BasicConsumeOptions::default(), arguments).await;
        let error = consume.map(|_| ()).unwrap_err().to_string();
        let expected = format!(
            "PRECONDITION_FAILED - invalid arg '{argument}' for queue '{queue_type}' in vhost '/' of queue type \
             rabbit_{queue_type}_queue"
        );
        assert!(error.contains(&expected), "{error}\n instead of\n{expected}");
    }
    broker.stop().await;
}
