//! Connections, channels and consumers as others see them.

use codec_amqp::{ContentMethod, Outgoing, confirm};
use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::broker;
use crate::common::within;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_are_told_of() {
    let (broker, http) = broker().await;
    let connection = broker.lapin().await;
    let channel = within(connection.create_channel()).await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    within(channel.queue_declare("q".into(), durable, arguments)).await.unwrap();
    within(channel.basic_qos(7, BasicQosOptions::default())).await.unwrap();
    let mut priority = FieldTable::default();
    priority.insert("x-priority".into(), AMQPValue::LongInt(3));
    let options = BasicConsumeOptions::default();
    let first = within(channel.basic_consume("q".into(), "first".into(), options, priority)).await.unwrap();
    let unacknowledged = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let second = channel.basic_consume("q".into(), "second".into(), unacknowledged, FieldTable::default());
    let second = within(second).await.unwrap();
    let consumers = http.get("consumers/%2F").await;
    let words = ["consumer_tag", "ack_required", "prefetch_count", "active", "activity_status", "exclusive"];
    let shown = |consumer: &Value| words.map(|word| consumer[word].clone());
    let expected = [
        [json!("first"), json!(true), json!(7), json!(true), json!("single_active"), json!(false)],
        [json!("second"), json!(false), json!(7), json!(false), json!("waiting"), json!(false)],
    ];
    assert_eq!(consumers.as_array().unwrap().iter().map(shown).collect::<Vec<_>>(), expected);
    assert_eq!(consumers[0]["consumer_timeout"], 1_800_000);
    assert_eq!(consumers[0]["queue"], json!({"name": "q", "vhost": "/"}));
    // rabbitmqadmin-ng does not read what lacks it.
    assert_eq!(consumers[0]["consumer_timeout"], 30 * 60 * 1000);
    assert_eq!(consumers[0]["arguments"], json!({"x-priority": 3}));
    assert_eq!(consumers[0]["channel_details"]["user"], "guest");
    let queue = http.get("queues/%2F/q").await;
    assert_eq!((&queue["consumers"], &queue["single_active_consumer_tag"]), (&json!(2), &json!("first")));
    assert_eq!(queue["consumer_details"], consumers);
    // As a tool writes the name in a path.
    let name = consumers[0]["channel_details"]["name"].as_str().unwrap().replace(' ', "%20").replace('>', "%3E");
    let of_channel = http.get(&format!("channels/{name}")).await;
    assert_eq!((&of_channel["consumer_details"], &of_channel["consumer_count"]), (&consumers, &json!(2)));
    within(channel.basic_cancel("first".into(), Default::default())).await.unwrap();
    let left = http.get("consumers").await;
    assert_eq!((left.as_array().unwrap().len(), &left[0]["active"]), (1, &json!(true)));
    drop((first, second));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_and_unconfirmed_publishes_are_counted() {
    let (broker, http) = broker().await;
    let mut raw = broker.raw().await;
    raw.open(0).await;
    raw.open_channel(1).await;
    raw.send(1, confirm::Select { no_wait: false }).await;
    raw.method().await;
    let mut out = Outgoing::new();
    let body = bytes::Bytes::from(vec![7; 10_000]);
    for _ in 0..3 {
        let method = ContentMethod::Publish { exchange: "", routing_key: "no", mandatory: false, immediate: false };
        out.put_content(1, method, &[0, 0], &body, 0);
    }
    within(raw.stream.write_all_buf(&mut out)).await.unwrap();
    // All are confirmed, together or one by one.
    loop {
        if let (1, codec_amqp::Method::BasicAck(ack)) = raw.method().await
            && ack.delivery_tag == 3
        {
            break;
        }
    }
    let connections = http.until("connections", "counted", |all| all[0]["recv_oct"].as_u64() > Some(30_000)).await;
    assert!(connections[0]["send_oct"].as_u64() > Some(100), "{connections}");
    let channels = http.get("channels").await;
    let counts = ["messages_unconfirmed", "message_stats"].map(|word| channels[0][word].clone());
    assert_eq!((&counts[0], &counts[1]["publish"], &counts[1]["confirm"]), (&json!(0), &json!(3), &json!(3)));
    broker.stop().await;
}
