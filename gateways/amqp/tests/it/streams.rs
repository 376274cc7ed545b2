//! Streams: what consumers ask for, transactions, and what policies say of what is kept.

use core_rpc::Core;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use serde_json::json;

use crate::common::{Broker, within};
use crate::consume::support::{bodies, body, channel, consume_with, declare, next, topic};

fn table(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert((*name).into(), value.clone());
    }
    table
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

async fn stream(channel: &Channel, name: &str) {
    declare(
        channel,
        name,
        table(&[("x-queue-type", text("stream")), ("x-stream-filter-size-bytes", AMQPValue::LongInt(32))]),
    )
    .await;
    within(channel.basic_qos(100, BasicQosOptions::default())).await.unwrap();
}

async fn publish(channel: &Channel, queue: &str, body: &str, filter: Option<&str>) {
    let headers = filter.map(|value| table(&[("x-stream-filter-value", text(value))])).unwrap_or_default();
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default().with_headers(headers));
    let sent = channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties);
    within(within(sent).await.unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_gives_what_was_asked_for() {
    let broker = Broker::start().await;
    let (connection, own) = channel(&broker).await;
    within(own.confirm_select(ConfirmSelectOptions::default())).await.unwrap();
    stream(&own, "s").await;
    for (body, filter) in
        [("1", Some("red")), ("2", None), ("3", Some("green")), ("4", Some("red")), ("5", Some("blue"))]
    {
        publish(&own, "s", body, filter).await;
    }
    let first = ("x-stream-offset", text("first"));
    let either = AMQPValue::FieldArray(vec![text("green"), text("blue")].into());
    let unfiltered = ("x-stream-match-unfiltered", AMQPValue::Boolean(true));
    let options = BasicConsumeOptions::default;
    for (tag, arguments, expected) in [
        ("one", table(&[first.clone(), ("x-stream-filter", text("red"))]), vec!["1", "4"]),
        ("two", table(&[first.clone(), ("x-stream-filter", either)]), vec!["3", "5"]),
        ("too", table(&[first.clone(), ("x-stream-filter", text("red")), unfiltered]), vec!["1", "2", "4"]),
        ("all", table(std::slice::from_ref(&first)), vec!["1", "2", "3", "4", "5"]),
    ] {
        let mut deliveries = consume_with(&own, "s", tag, options(), arguments).await.unwrap();
        assert_eq!(bodies(&mut deliveries, expected.len()).await, expected, "{tag}");
        if tag == "one" {
            // And of what comes later.
            publish(&own, "s", "6", Some("green")).await;
            publish(&own, "s", "7", Some("red")).await;
            assert_eq!(body(&next(&mut deliveries).await), "7");
            publish(&own, "s", "8", None).await;
        }
        within(own.basic_cancel(tag.into(), Default::default())).await.unwrap();
    }
    let wrong = within(connection.create_channel()).await.unwrap();
    within(wrong.basic_qos(1, BasicQosOptions::default())).await.unwrap();
    let arguments = table(&[("x-stream-filter", AMQPValue::LongInt(5))]);
    let error = consume_with(&wrong, "s", "c", options(), arguments).await.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("PRECONDITION_FAILED - invalid arg 'x-stream-filter'"), "{error}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_may_acknowledge_what_was_read_of_a_stream() {
    let broker = Broker::start().await;
    let (connection, own) = channel(&broker).await;
    stream(&own, "s").await;
    declare(&own, "q", FieldTable::default()).await;
    for body in ["1", "2", "3"] {
        let options = BasicPublishOptions::default();
        let sent = own.basic_publish("".into(), "s".into(), options, body.as_bytes(), BasicProperties::default());
        within(sent).await.unwrap();
    }
    let transactional = within(connection.create_channel()).await.unwrap();
    within(transactional.tx_select()).await.unwrap();
    within(transactional.basic_qos(1, BasicQosOptions::default())).await.unwrap();
    let arguments = table(&[("x-stream-offset", text("first"))]);
    let mut deliveries =
        consume_with(&transactional, "s", "c", BasicConsumeOptions::default(), arguments).await.unwrap();
    for expected in ["1", "2", "3"] {
        let delivery = next(&mut deliveries).await;
        assert_eq!(body(&delivery), expected);
        let options = BasicPublishOptions::default();
        let copied = transactional.basic_publish("".into(), "q".into(), options, &delivery.data, Default::default());
        within(copied).await.unwrap();
        within(transactional.basic_ack(delivery.delivery_tag, BasicAckOptions::default())).await.unwrap();
        // The place in the window is free when it is committed.
        within(transactional.tx_commit()).await.unwrap();
    }
    let mut copies = consume_with(&own, "q", "q", BasicConsumeOptions::default(), FieldTable::default()).await.unwrap();
    assert_eq!(bodies(&mut copies, 3).await, ["1", "2", "3"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_says_how_long_a_stream_that_is_there_keeps_its_messages() {
    let (broker, http) = crate::management::broker().await;
    let (_connection, own) = channel(&broker).await;
    stream(&own, "s").await;
    let retention = async || {
        let settings = topic(&broker.core, "s").await.settings;
        (settings.retention_ms, settings.retention_bytes)
    };
    let until = async |expected: (Option<u64>, Option<u64>)| {
        let until = tokio::time::Instant::now() + crate::common::PATIENCE;
        while retention().await != expected {
            assert!(tokio::time::Instant::now() < until, "{:?} instead of {expected:?}", retention().await);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    assert_eq!(retention().await, (None, None));
    let policy = |definition| json!({"pattern": "^s", "apply-to": "streams", "definition": definition});
    http.change("PUT", "policies/%2F/p", policy(json!({"max-age": "1h", "max-length-bytes": 5_000_000}))).await;
    until((Some(3_600_000), Some(5_000_000))).await;
    // One that is made later has it from the start, more or less.
    stream(&own, "s2").await;
    let later = async || topic(&broker.core, "s2").await.settings.retention_ms;
    let patience = tokio::time::Instant::now() + crate::common::PATIENCE;
    while later().await != Some(3_600_000) {
        assert!(tokio::time::Instant::now() < patience);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // What another protocol's clients set stays until the policy changes.
    let mut settings = topic(&broker.core, "s").await.settings;
    settings.retention_ms = Some(7_000);
    let alter = core_rpc::TopicAlter { settings: Some(settings), ..Default::default() };
    broker.core.topic_alter("default".into(), "s".into(), alter).await.unwrap();
    http.change("PUT", "policies/%2F/other", json!({"pattern": "^x", "definition": {"max-age": "2h"}})).await;
    http.change("DELETE", "policies/%2F/p", serde_json::Value::Null).await;
    until((None, None)).await;
    broker.stop().await;
}
