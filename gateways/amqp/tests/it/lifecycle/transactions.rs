//! What a commit does beside publishing and acknowledging: dead letters and delayed messages, all of it or nothing.

use lapin::Channel;
use lapin::options::*;
use lapin::types::FieldTable;

use super::support::*;

async fn transactional(client: &Client) -> Channel {
    let channel = client.connection.create_channel().await.unwrap();
    channel.tx_select().await.unwrap();
    channel
}

async fn take(channel: &Channel, queue: &str) -> u64 {
    let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap();
    got.expect("a message").delivery_tag
}

async fn publish(channel: &Channel, exchange: &str, key: &str, properties: lapin::BasicProperties) {
    let options = BasicPublishOptions::default();
    channel.basic_publish(exchange.into(), key.into(), options, b"new", properties).await.unwrap();
}

#[tokio::test]
async fn what_is_rejected_dies_with_the_commit() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("dead", &[]).await;
    let to_dead = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("dead"))];
    client.queue("q", &to_dead).await;
    client.publish_all("q", &["a", "b", "c", "d"]).await;
    let channel = transactional(&client).await;
    let tags = [take(&channel, "q").await, take(&channel, "q").await, take(&channel, "q").await];
    let once = |requeue| BasicNackOptions { multiple: false, requeue };
    channel.basic_nack(tags[0], once(false)).await.unwrap();
    channel.tx_rollback().await.unwrap();
    assert_eq!(client.ready("dead").await, 0);
    channel.basic_reject(tags[1], BasicRejectOptions { requeue: false }).await.unwrap();
    channel.basic_nack(tags[0], once(false)).await.unwrap();
    channel.basic_ack(tags[2], BasicAckOptions::default()).await.unwrap();
    publish(&channel, "", "dead", Default::default()).await;
    assert_eq!(client.ready("dead").await, 0);
    channel.tx_commit().await.unwrap();
    // By then it is done.
    assert_eq!((client.ready("dead").await, client.ready("q").await), (3, 1));
    let (mut bodies, mut deaths) = (Vec::new(), Vec::new());
    while let Some(got) = client.get("dead").await {
        deaths.extend(got.deaths());
        bodies.push(got.body);
    }
    assert_eq!(bodies, ["new", "a", "b"]);
    assert_eq!(deaths, [r#"q rejected 1 "" q"#, r#"q rejected 1 "" q"#]);
    channel.close(200, "bye".into()).await.unwrap();
    assert_eq!(client.bodies("q").await, ["d"]);
    broker.stop().await;
}

#[tokio::test]
async fn what_failed_too_often_dies_with_the_commit() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("dead", &[]).await;
    let arguments = [
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", int(1)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    client.queue("q", &arguments).await;
    client.publish("q", "a").await;
    let channel = transactional(&client).await;
    for dead in [0, 1] {
        let tag = take(&channel, "q").await;
        channel.basic_nack(tag, BasicNackOptions { multiple: false, requeue: true }).await.unwrap();
        channel.tx_commit().await.unwrap();
        assert_eq!(client.ready("dead").await, dead);
    }
    assert_eq!(client.get("dead").await.unwrap().deaths(), [r#"q delivery_limit 1 "" q"#]);
    broker.stop().await;
}

#[tokio::test]
async fn a_delayed_message_waits_from_the_commit_on() {
    let broker = broker().await;
    let client = broker.client().await;
    client.exchange("later", "x-delayed-message", &[("x-delayed-type", text("direct"))]).await;
    client.queue("q", &[]).await;
    client.bind("q", "later", "k").await;
    let channel = transactional(&client).await;
    let delayed = |ms| with_headers(&[("x-delay", int(ms))]);
    publish(&channel, "later", "k", delayed(1)).await;
    channel.tx_rollback().await.unwrap();
    publish(&channel, "later", "k", delayed(30)).await;
    publish(&channel, "", "q", Default::default()).await;
    channel.tx_commit().await.unwrap();
    assert_eq!(client.wait_for("q").await.header("x-delay"), None);
    assert_eq!(client.wait_for("q").await.header("x-delay"), Some(int(-30)));
    assert_eq!(client.ready("q").await, 0);
    broker.stop().await;
}

#[tokio::test]
async fn a_commit_that_fails_gives_back_what_it_acknowledged() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("q", &[]).await;
    client.queue("full", &[("x-max-length", int(0)), ("x-overflow", text("reject-publish"))]).await;
    client.publish("q", "a").await;
    let channel = transactional(&client).await;
    let tag = take(&channel, "q").await;
    channel.basic_ack(tag, BasicAckOptions::default()).await.unwrap();
    publish(&channel, "", "full", Default::default()).await;
    let refused = channel.tx_commit().await.unwrap_err().to_string();
    assert!(refused.contains("full"), "{refused}");
    client.wait_for_ready("q", 1).await;
    broker.stop().await;
}

#[tokio::test]
async fn a_queue_that_is_deleted_takes_its_part_with_it() {
    let broker = broker().await;
    let client = broker.client().await;
    for queue in ["gone", "q"] {
        client.queue(queue, &[("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("q"))]).await;
        client.publish(queue, "old").await;
    }
    let channel = transactional(&client).await;
    for queue in ["gone", "q"] {
        let tag = take(&channel, queue).await;
        channel.basic_reject(tag, BasicRejectOptions { requeue: false }).await.unwrap();
        publish(&channel, "", queue, Default::default()).await;
    }
    client.channel.queue_delete("gone".into(), QueueDeleteOptions::default()).await.unwrap();
    channel.tx_commit().await.unwrap();
    let channel = client.connection.create_channel().await.unwrap();
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    assert!(channel.queue_declare("gone".into(), passive, FieldTable::default()).await.is_err());
    assert_eq!(client.bodies("q").await, ["new", "old"]);
    broker.stop().await;
}
