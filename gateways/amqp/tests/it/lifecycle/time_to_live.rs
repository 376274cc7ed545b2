//! Messages that are over: by the queue's time to live and by their own, with and without consumers.

use std::time::{Duration, Instant};

use lapin::options::BasicQosOptions;

use super::support::*;

#[tokio::test]
async fn a_queue_forgets_what_is_over() {
    let broker = broker().await;
    let client = broker.client().await;
    // Long enough for a slow machine to get the first in time.
    client.queue("q", &[("x-message-ttl", int(1000))]).await;
    client.publish_all("q", &["a", "b"]).await;
    assert_eq!(client.get("q").await.unwrap().body, "a");
    let published = Instant::now();
    client.wait_for_ready("q", 0).await;
    assert!(published.elapsed() < Duration::from_secs(4));
    assert!(client.get("q").await.is_none());
    broker.stop().await;
}

#[tokio::test]
async fn the_shorter_time_counts() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("short", &[("x-message-ttl", int(50))]).await;
    client.queue("long", &[("x-message-ttl", int(600_000))]).await;
    assert!(client.publish_with("", "short", "a", expiring("600000")).await);
    assert!(client.publish_with("", "long", "b", expiring("50")).await);
    client.wait_for_ready("short", 0).await;
    client.wait_for_ready("long", 0).await;
    broker.stop().await;
}

#[tokio::test]
async fn what_is_over_goes_only_from_the_head_but_is_never_delivered() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("q", &[]).await;
    assert!(client.publish_with("", "q", "stays", expiring("600000")).await);
    assert!(client.publish_with("", "q", "over", expiring("1")).await);
    assert!(client.publish_with("", "q", "last", expiring("600000")).await);
    // As in RabbitMQ's classic queues, what is behind one that is not over is still counted.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(client.ready("q").await, 3);
    assert_eq!(client.bodies("q").await, ["stays", "last"]);
    broker.stop().await;
}

#[tokio::test]
async fn what_a_full_consumer_leaves_waiting_is_over_in_time() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("dead", &[]).await;
    let arguments = [
        // Long enough for a slow machine to deliver the first in time.
        ("x-message-ttl", int(1000)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    client.queue("q", &arguments).await;
    client.channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
    let mut messages = client.consume("q", "c").await;
    client.publish_all("q", &["held", "over", "over too"]).await;
    assert_eq!(messages.recv().await.unwrap().body, "held");
    client.wait_for_ready("dead", 2).await;
    assert_eq!(client.bodies("dead").await, ["over", "over too"]);
    broker.stop().await;
}

#[tokio::test]
async fn without_time_to_live_it_is_for_who_waits() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("q", &[("x-message-ttl", int(0))]).await;
    client.publish("q", "nobody waits").await;
    assert!(client.get("q").await.is_none());
    client.wait_for_ready("q", 0).await;
    let mut messages = client.consume("q", "c").await;
    // On a slow machine one may be over before it is taken; the next is tried then.
    let until = Instant::now() + PATIENCE;
    let taken = loop {
        client.publish("q", "somebody waits").await;
        match tokio::time::timeout(Duration::from_millis(500), messages.recv()).await {
            Ok(message) => break message.unwrap(),
            Err(_) => assert!(Instant::now() < until, "nothing is delivered"),
        }
    };
    assert_eq!(taken.body, "somebody waits");
    broker.stop().await;
}

#[tokio::test]
async fn an_expiration_that_is_no_number_is_refused() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("q", &[]).await;
    let options = lapin::options::BasicPublishOptions::default();
    let sent = client.channel.basic_publish("".into(), "q".into(), options, b"", expiring("soon")).await.unwrap();
    let error = sent.await.unwrap_err().to_string();
    assert!(error.contains("PRECONDITION_FAILED"), "{error}");
    broker.stop().await;
}

#[tokio::test]
async fn time_goes_on_while_the_broker_is_down() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("q", &[("x-message-ttl", int(1000))]).await;
    client.publish("q", "a").await;
    let broker = broker.restart().await;
    let client = broker.client().await;
    client.wait_for_ready("q", 0).await;
    // Nobody published to it since: the gateway found it by itself.
    client.publish("q", "b").await;
    assert_eq!(client.get("q").await.unwrap().body, "b");
    broker.stop().await;
}

#[tokio::test]
async fn what_is_given_back_too_late_is_over() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("dead", &[]).await;
    let dlx = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("dead"))];
    client.queue("by-queue", &[&[("x-message-ttl", int(1000))], &dlx[..]].concat()).await;
    client.queue("by-message", &dlx).await;
    assert!(client.publish("by-queue", "a").await);
    assert!(client.publish_with("", "by-message", "b", expiring("1000")).await);
    let (first, second) = (client.get_with("by-queue", false).await, client.get_with("by-message", false).await);
    // Nobody takes them away from who has them.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(client.ready("dead").await, 0);
    client.requeue(first.unwrap().tag).await;
    client.wait_for_ready("dead", 1).await;
    assert_eq!(client.get("dead").await.unwrap().deaths(), [r#"by-queue expired 1 "" by-queue"#]);
    // With its channel it is given back as well.
    let held = second.unwrap();
    assert_eq!(held.body, "b");
    client.channel.close(200, "bye".into()).await.unwrap();
    let other = broker.client().await;
    other.wait_for_ready("dead", 1).await;
    assert_eq!(other.get("dead").await.unwrap().body, "b");
    broker.stop().await;
}

#[tokio::test]
async fn a_policy_ends_what_lies_there_already() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("q", &[]).await;
    client.publish_all("q", &["a", "b", "c"]).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(client.ready("q").await, 3);
    broker.put_policy("short", serde_json::json!({"message-ttl": 100})).await;
    client.wait_for_ready("q", 0).await;
    assert!(client.get("q").await.is_none());
    broker.stop().await;
}
