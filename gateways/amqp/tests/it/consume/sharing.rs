//! Several consumers of one queue: prefetch, turns, priorities, exclusive, single active, and one that does not read.

use std::time::Duration;

use codec_amqp::{Method, ShortStr, basic};
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};

use super::support::*;
use crate::common::{Broker, within};

fn table(fields: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in fields {
        table.insert((*name).into(), value.clone());
    }
    table
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefetch_is_each_consumers_or_the_channels() {
    let broker = Broker::start().await;
    let (connection, channel) = channel(&broker).await;
    declare(&channel, "q", FieldTable::default()).await;
    put(&broker.core, "q", 0, &numbers(0..20)).await;
    within(channel.basic_qos(3, BasicQosOptions::default())).await.unwrap();
    let mut first = consume(&channel, "q", "first").await;
    let mut second = consume(&channel, "q", "second").await;
    counted(&broker.core, "q", (14, 6)).await;
    let mut got = bodies(&mut first, 2).await;
    let last = next(&mut first).await;
    got.push(body(&last));
    got.extend(bodies(&mut second, 3).await);
    got.sort();
    assert_eq!(got, numbers(0..6));
    within(channel.basic_ack(last.delivery_tag, BasicAckOptions::default())).await.unwrap();
    assert_eq!(bodies(&mut first, 1).await, ["6"]);
    // The channel's own limit holds for all of its consumers, from now on.
    let shared = within(connection.create_channel()).await.unwrap();
    within(shared.basic_qos(2, BasicQosOptions { global: true })).await.unwrap();
    let mut third = consume(&shared, "q", "third").await;
    let mut fourth = consume(&shared, "q", "fourth").await;
    counted(&broker.core, "q", (11, 8)).await;
    within(shared.basic_qos(4, BasicQosOptions { global: true })).await.unwrap();
    counted(&broker.core, "q", (9, 10)).await;
    let mut got = bodies(&mut third, 1).await;
    got.extend(bodies(&mut fourth, 1).await);
    assert_eq!(got.len(), 2);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_take_turns_and_higher_priorities_go_first() {
    let broker = Broker::start().await;
    let (_connection, channel) = channel(&broker).await;
    declare(&channel, "q", FieldTable::default()).await;
    let mut first = consume(&channel, "q", "first").await;
    let mut second = consume(&channel, "q", "second").await;
    put(&broker.core, "q", 0, &numbers(0..100)).await;
    let (mut firsts, mut seconds) = (bodies(&mut first, 50).await, bodies(&mut second, 50).await);
    firsts.append(&mut seconds);
    firsts.sort_by_key(|number| number.parse::<u32>().unwrap());
    assert_eq!(firsts, numbers(0..100));
    within(channel.basic_qos(2, BasicQosOptions::default())).await.unwrap();
    let priority = table(&[("x-priority", AMQPValue::LongInt(10))]);
    let mut high =
        consume_with(&channel, "q", "high", BasicConsumeOptions::default(), priority).await.expect("a consumer");
    put(&broker.core, "q", 0, &numbers(100..104)).await;
    assert_eq!(bodies(&mut high, 2).await, ["100", "101"]);
    let mut rest = bodies(&mut first, 1).await;
    rest.extend(bodies(&mut second, 1).await);
    rest.sort();
    assert_eq!(rest, ["102", "103"]);
    let bad = table(&[("x-priority", AMQPValue::LongString("high".into()))]);
    let refused = consume_with(&channel, "q", "bad", BasicConsumeOptions::default(), bad).await.unwrap_err();
    assert!(refused.to_string().contains("PRECONDITION_FAILED"), "{refused}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_a_higher_priority_go_first() {
    let broker = Broker::start().await;
    let (_connection, channel) = channel(&broker).await;
    declare(&channel, "q", table(&[("x-max-priority", AMQPValue::LongInt(3))])).await;
    put(&broker.core, "q", 0, &numbers(0..3)).await;
    put(&broker.core, "q", 3, &numbers(30..32)).await;
    put(&broker.core, "q", 1, &numbers(10..12)).await;
    within(channel.basic_qos(1, BasicQosOptions::default())).await.unwrap();
    let mut deliveries = consume(&channel, "q", "c").await;
    for expected in ["30", "31", "10", "11", "0", "1", "2"] {
        let delivery = next(&mut deliveries).await;
        assert_eq!(body(&delivery), expected);
        within(channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default())).await.unwrap();
    }
    put(&broker.core, "q", 2, &numbers(20..21)).await;
    assert_eq!(bodies(&mut deliveries, 1).await, ["20"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exclusive_consumer_is_alone() {
    let broker = Broker::start().await;
    let (connection, channel) = channel(&broker).await;
    declare(&channel, "q", FieldTable::default()).await;
    let exclusive = BasicConsumeOptions { exclusive: true, ..Default::default() };
    let _alone = consume_with(&channel, "q", "alone", exclusive, FieldTable::default()).await.unwrap();
    let other = within(connection.create_channel()).await.unwrap();
    let refused = consume_with(&other, "q", "other", BasicConsumeOptions::default(), FieldTable::default()).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"), "{refused}");
    within(channel.basic_cancel("alone".into(), BasicCancelOptions::default())).await.unwrap();
    let other = within(connection.create_channel()).await.unwrap();
    let _other = consume(&other, "q", "other").await;
    assert!(consume_with(&channel, "q", "alone", exclusive, FieldTable::default()).await.is_err());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_active_consumer_is_followed_by_the_next() {
    let broker = Broker::start().await;
    let (connection, channel) = channel(&broker).await;
    declare(&channel, "q", table(&[("x-single-active-consumer", AMQPValue::Boolean(true))])).await;
    let mut first = consume(&channel, "q", "first").await;
    let other = within(connection.create_channel()).await.unwrap();
    let mut second = consume(&other, "q", "second").await;
    put(&broker.core, "q", 0, &numbers(0..4)).await;
    assert_eq!(bodies(&mut first, 4).await, numbers(0..4));
    assert!(second.try_recv().is_err());
    within(channel.basic_ack(1, BasicAckOptions::default())).await.unwrap();
    within(channel.close(200, "".into())).await.unwrap();
    assert_eq!(bodies(&mut second, 3).await, ["1", "2", "3"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_holds_nobody_up() {
    let broker = Broker::start().await;
    let (_connection, channel) = channel(&broker).await;
    declare(&channel, "q", FieldTable::default()).await;
    let mut deaf = broker.raw().await;
    deaf.open(0).await;
    deaf.open_channel(1).await;
    let queue = ShortStr::from_static("q");
    let consume_all = basic::Consume {
        queue,
        consumer_tag: ShortStr::from_static("deaf"),
        no_local: false,
        no_ack: false,
        exclusive: false,
        no_wait: false,
        arguments: codec_amqp::FieldTable::default(),
    };
    deaf.send(1, consume_all).await;
    assert!(matches!(deaf.method().await, (1, Method::BasicConsumeOk(_))));
    within(channel.basic_qos(10, BasicQosOptions::default())).await.unwrap();
    let mut deliveries = consume(&channel, "q", "reads").await;
    let large = "x".repeat(10_000);
    let core = broker.core.clone();
    let putting = tokio::spawn(async move {
        for _ in 0..40 {
            put(&core, "q", 0, &vec![large.clone(); 50]).await;
        }
    });
    // Sixteen times what the sockets and the outbox take.
    let mut read = 0;
    while read < 800 {
        let delivery = next(&mut deliveries).await;
        within(channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default())).await.unwrap();
        read += 1;
    }
    within(putting).await.unwrap();
    drop(deaf);
    // What it had comes to who reads.
    while read < 2000 {
        let delivery = tokio::time::timeout(Duration::from_secs(20), deliveries.recv()).await;
        let delivery = delivery.unwrap_or_else(|_| panic!("{read} were read")).unwrap().unwrap();
        within(channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default())).await.unwrap();
        read += 1;
    }
    counted(&broker.core, "q", (0, 0)).await;
    broker.stop().await;
}
