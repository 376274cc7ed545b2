//! Two gateways on one core: consumers of one queue at both.

use amqp_gateway::Handle;
use core_rpc::Core;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};

use super::support::*;
use crate::common::{Broker, config, within};

async fn second(broker: &Broker) -> (Handle, lapin::Connection, lapin::Channel) {
    let gateway = amqp_gateway::start(broker.core.clone(), config()).await.expect("a second gateway");
    let connection = broker.lapin_at(&format!("amqp://guest:guest@{}/%2f", gateway.address())).await.unwrap();
    let channel = within(connection.create_channel()).await.unwrap();
    (gateway, connection, channel)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_gateway_had_the_other_delivers_in_order() {
    let broker = Broker::start().await;
    let (_connection, channel) = channel(&broker).await;
    declare(&channel, "q", FieldTable::default()).await;
    let (gateway, _other_connection, other) = second(&broker).await;
    within(other.basic_qos(5, BasicQosOptions::default())).await.unwrap();
    let mut theirs = consume(&other, "q", "theirs").await;
    put(&broker.core, "q", 0, &numbers(0..5)).await;
    assert_eq!(bodies(&mut theirs, 5).await, numbers(0..5));
    let mut ours = consume(&channel, "q", "ours").await;
    put(&broker.core, "q", 0, &numbers(5..7)).await;
    assert_eq!(bodies(&mut ours, 2).await, ["5", "6"]);
    within(other.basic_ack(2, BasicAckOptions::default())).await.unwrap();
    counted(&broker.core, "q", (0, 6)).await;
    // The core takes a gateway that it hears nothing of for dead: its session ends. This one asks for nothing then, as dead ones do.
    let keys = broker.core.meta_list("amqp/consumers/%2F/q/2".into()).await.unwrap();
    let session = keys.entries[0].session.unwrap();
    within(other.basic_cancel("theirs".into(), BasicCancelOptions::default())).await.unwrap();
    broker.core.session_close(session).await.unwrap();
    for expected in ["0", "2", "3", "4"] {
        let delivery = next(&mut ours).await;
        assert_eq!((body(&delivery).as_str(), delivery.redelivered), (expected, true));
    }
    gateway.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_single_active_consumer_may_be_at_the_other_gateway() {
    let broker = Broker::start().await;
    let (_connection, channel) = channel(&broker).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    declare(&channel, "q", arguments).await;
    let (gateway, _other_connection, other) = second(&broker).await;
    let mut theirs = consume(&other, "q", "theirs").await;
    put(&broker.core, "q", 0, &numbers(0..2)).await;
    assert_eq!(bodies(&mut theirs, 2).await, ["0", "1"]);
    let mut ours = consume(&channel, "q", "ours").await;
    put(&broker.core, "q", 0, &numbers(2..3)).await;
    assert_eq!(bodies(&mut theirs, 1).await, ["2"]);
    assert!(ours.try_recv().is_err());
    within(other.close(200, "".into())).await.unwrap();
    assert_eq!(bodies(&mut ours, 3).await, ["0", "1", "2"]);
    gateway.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exclusive_consumer_is_alone_at_all_gateways() {
    let broker = Broker::start().await;
    let (connection, channel) = channel(&broker).await;
    declare(&channel, "q", FieldTable::default()).await;
    let (gateway, other_connection, other) = second(&broker).await;
    let exclusive = BasicConsumeOptions { exclusive: true, ..Default::default() };
    let _theirs = consume_with(&other, "q", "theirs", exclusive, FieldTable::default()).await.unwrap();
    let refused = consume_with(&channel, "q", "ours", BasicConsumeOptions::default(), FieldTable::default()).await;
    assert!(refused.unwrap_err().to_string().contains("in exclusive use"));
    within(other_connection.close(200, "".into())).await.unwrap();
    let mut ours = Err(lapin::ErrorKind::InvalidChannel(0).into());
    for _ in 0..100 {
        let channel = within(connection.create_channel()).await.unwrap();
        ours = consume_with(&channel, "q", "ours", exclusive, FieldTable::default()).await;
        if ours.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(ours.is_ok());
    gateway.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_declared_at_one_gateway_is_known_to_the_other_at_once() {
    let broker = Broker::start().await;
    let (_connection, channel) = channel(&broker).await;
    let (gateway, _other_connection, other) = second(&broker).await;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    for number in 0..40 {
        let (queue, exchange) = (format!("q{number}"), format!("x{number}"));
        declare(&channel, &queue, FieldTable::default()).await;
        let got = within(other.basic_get(queue.as_str().into(), BasicGetOptions::default())).await;
        assert!(got.expect("a queue").is_none());
        let kind = lapin::ExchangeKind::Fanout;
        within(channel.exchange_declare(exchange.as_str().into(), kind, durable, FieldTable::default())).await.unwrap();
        let bind = other.queue_bind(
            queue.as_str().into(),
            exchange.as_str().into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        within(bind).await.expect("an exchange");
        // Deleted there, though it was declared here.
        declare(&channel, &format!("{queue}-gone"), FieldTable::default()).await;
        let deleted = other.queue_delete(format!("{queue}-gone").as_str().into(), QueueDeleteOptions::default());
        within(deleted).await.unwrap();
        let key = core_rpc::Topic::key("default", &format!("{queue}-gone"));
        assert!(broker.core.meta_get(key).await.unwrap().is_none());
    }
    gateway.stop().await;
    broker.stop().await;
}
