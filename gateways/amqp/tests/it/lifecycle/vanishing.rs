//! Queues and exchanges that go by themselves: unused, without their last consumer, with their connection, or with the broker.

use std::time::{Duration, Instant};

use lapin::ExchangeKind;
use lapin::options::*;
use lapin::types::FieldTable;

use super::support::*;

#[tokio::test]
async fn an_unused_queue_goes() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("q", &[("x-expires", int(300))]).await;
    client.queue("stays", &[("x-expires", int(600_000))]).await;
    client.publish("q", "messages are no use").await;
    eventually("q is gone", async || !client.exists("q").await).await;
    assert!(client.exists("stays").await);
    broker.stop().await;
}

#[tokio::test]
async fn a_consumer_is_use() {
    let broker = broker().await;
    let client = broker.client().await;
    // Long enough to begin to consume on a busy machine.
    client.queue("q", &[("x-expires", int(1000))]).await;
    client.consume("q", "c").await;
    tokio::time::sleep(Duration::from_millis(2000)).await;
    client.cancel("c").await;
    eventually("q is gone", async || !client.exists("q").await).await;
    broker.stop().await;
}

#[tokio::test]
async fn asking_for_messages_is_use() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("q", &[("x-expires", int(400))]).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(80)).await;
        client.get("q").await;
    }
    eventually("q is gone", async || !client.exists("q").await).await;
    broker.stop().await;
}

#[tokio::test]
async fn a_use_soon_after_another_counts() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("q", &[("x-expires", int(3000))]).await;
    let declared = Instant::now();
    tokio::time::sleep_until((declared + Duration::from_millis(600)).into()).await;
    let asked = Instant::now();
    client.ready("q").await;
    tokio::time::sleep_until((declared + Duration::from_millis(3200)).into()).await;
    let exists = client.exists("q").await;
    // Nothing is said where the machine was too slow to look in time.
    assert!(exists || asked.elapsed() > Duration::from_millis(2950));
    eventually("q is gone", async || !client.exists("q").await).await;
    broker.stop().await;
}

#[tokio::test]
async fn the_last_consumer_takes_the_queue_with_it() {
    let broker = broker().await;
    let client = broker.client().await;
    let options = QueueDeclareOptions { durable: true, auto_delete: true, ..Default::default() };
    client.queue_with("q", options, &[]).await;
    let other = broker.client().await;
    client.consume("q", "one").await;
    other.consume("q", "two").await;
    client.cancel("one").await;
    assert!(client.exists("q").await);
    other.close().await;
    eventually("q is gone", async || !client.exists("q").await).await;
    // One that never had a consumer stays.
    client.queue_with("never", options, &[]).await;
    assert!(client.exists("never").await);
    broker.stop().await;
}

#[tokio::test]
async fn an_exclusive_queue_goes_with_its_connection() {
    let broker = broker().await;
    let client = broker.client().await;
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let owner = broker.client().await;
    owner.queue_with("q", options, &[]).await;
    assert!(owner.exists("q").await);
    owner.close().await;
    eventually("q is gone", async || !client.exists("q").await).await;
    broker.stop().await;
}

#[tokio::test]
async fn what_is_transient_goes_with_the_broker() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue_with("transient", QueueDeclareOptions::default(), &[]).await;
    client.queue_with("mine", QueueDeclareOptions { exclusive: true, ..Default::default() }, &[]).await;
    client.queue("durable", &[]).await;
    let options = ExchangeDeclareOptions::default();
    let table = FieldTable::default();
    client.channel.exchange_declare("x".into(), ExchangeKind::Direct, options, table).await.unwrap();
    let broker = broker.restart().await;
    let client = broker.client().await;
    assert!(client.exists("durable").await);
    for queue in ["transient", "mine"] {
        eventually("it is gone", async || !client.exists(queue).await).await;
    }
    let channel = client.connection.create_channel().await.unwrap();
    let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let found = channel.exchange_declare("x".into(), ExchangeKind::Direct, passive, FieldTable::default()).await;
    assert!(found.unwrap_err().to_string().contains("NOT_FOUND"));
    broker.stop().await;
}
