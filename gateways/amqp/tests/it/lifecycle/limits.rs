//! Queues that hold only so much.

use std::sync::Arc;

use super::support::*;

#[tokio::test]
async fn the_oldest_make_room() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("q", &[("x-max-length", int(3))]).await;
    client.publish_all("q", &["a", "b", "c", "d", "e"]).await;
    assert_eq!(client.bodies("q").await, ["c", "d", "e"]);
    client.queue("none", &[("x-max-length", int(0))]).await;
    client.publish_all("none", &["a"]).await;
    assert!(client.get("none").await.is_none());
    broker.stop().await;
}

#[tokio::test]
async fn the_oldest_are_dead_lettered_where_there_is_a_way() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("dead", &[]).await;
    let arguments =
        [("x-max-length", int(1)), ("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("dead"))];
    client.queue("q", &arguments).await;
    client.publish_all("q", &["a", "b", "c"]).await;
    client.wait_for_ready("dead", 2).await;
    let dead = client.get("dead").await.unwrap();
    assert_eq!((dead.body.as_str(), dead.deaths()), ("a", vec![r#"q maxlen 1 "" q"#.to_owned()]));
    assert_eq!(client.bodies("dead").await, ["b"]);
    assert_eq!(client.bodies("q").await, ["c"]);
    broker.stop().await;
}

#[tokio::test]
async fn bytes_are_those_of_the_bodies() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("q", &[("x-max-length-bytes", int(10))]).await;
    client.publish_all("q", &["aaaa", "bbbb", "cc"]).await;
    assert_eq!(client.ready("q").await, 3);
    client.publish_all("q", &["d"]).await;
    assert_eq!(client.bodies("q").await, ["bbbb", "cc", "d"]);
    client.publish_all("q", &["larger than all"]).await;
    assert_eq!(client.ready("q").await, 0);
    broker.stop().await;
}

#[tokio::test]
async fn what_consumers_hold_does_not_count() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("q", &[("x-max-length", int(1))]).await;
    client.publish_all("q", &["a"]).await;
    let held = client.get_with("q", false).await.unwrap();
    client.publish_all("q", &["b"]).await;
    assert_eq!(client.ready("q").await, 1);
    // Given back it is the oldest, and one too many at once.
    client.requeue(held.tag).await;
    assert_eq!(client.ready("q").await, 1);
    assert_eq!(client.bodies("q").await, ["b"]);
    broker.stop().await;
}

#[tokio::test]
async fn what_is_too_much_goes_before_it_is_delivered_again() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("dead", &[]).await;
    let to_dead = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("dead"))];
    for (limit, arguments) in
        [("x-max-length", &[][..]), ("x-max-length-bytes", &[][..]), ("x-max-length", &to_dead[..])]
    {
        let name = format!("{limit}{}", arguments.len());
        client.queue(&name, &[&[(limit, int(2))], arguments].concat()).await;
        let mut taken = client.consume(&name, &name).await;
        let mut last = 0;
        for body in ["a", "b", "c", "d", "e"] {
            client.publish(&name, body).await;
            last = taken.recv().await.unwrap().tag;
        }
        // The consumer has places for all of them.
        let all = lapin::options::BasicNackOptions { multiple: true, requeue: true };
        client.channel.basic_nack(last, all).await.unwrap();
        let again = [taken.recv().await.unwrap(), taken.recv().await.unwrap()];
        assert_eq!(again.map(|got| (got.body, got.redelivered)), [("d".into(), true), ("e".into(), true)], "{name}");
        assert_eq!(client.ready(&name).await, 0);
        assert!(taken.try_recv().is_err(), "{name}");
    }
    assert_eq!(client.bodies("dead").await, ["a", "b", "c"]);
    broker.stop().await;
}

#[tokio::test]
async fn a_full_queue_can_refuse() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("q", &[("x-max-length", int(2)), ("x-overflow", text("reject-publish"))]).await;
    client.publish_all("q", &["a", "b"]).await;
    assert!(!client.publish("q", "c").await, "refused");
    assert_eq!(client.get("q").await.unwrap().body, "a");
    assert!(client.publish("q", "d").await);
    assert_eq!(client.bodies("q").await, ["b", "d"]);
    // Without confirms it is dropped silently.
    let silent = client.connection.create_channel().await.unwrap();
    for _ in 0..5 {
        let options = lapin::options::BasicPublishOptions::default();
        silent.basic_publish("".into(), "q".into(), options, b"x", Default::default()).await.unwrap();
    }
    silent.close(200, "bye".into()).await.unwrap();
    client.wait_for_ready("q", 2).await;
    broker.stop().await;
}

#[tokio::test]
async fn what_a_full_queue_refuses_can_be_dead_lettered() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("dead", &[]).await;
    let arguments = [
        ("x-max-length", int(1)),
        ("x-overflow", text("reject-publish-dlx")),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    client.queue("q", &arguments).await;
    client.publish_all("q", &["a"]).await;
    assert!(!client.publish("q", "b").await);
    let dead = client.wait_for("dead").await;
    assert_eq!((dead.body.as_str(), dead.deaths()), ("b", vec![r#"q maxlen 1 "" q"#.to_owned()]));
    assert_eq!(client.bodies("q").await, ["a"]);
    broker.stop().await;
}

#[tokio::test]
async fn one_queue_refuses_while_another_takes() {
    let broker = broker().await;
    let client = broker.client().await;
    client.exchange("all", "fanout", &[]).await;
    client.queue("full", &[("x-max-length", int(0)), ("x-overflow", text("reject-publish"))]).await;
    client.queue("open", &[]).await;
    client.bind("full", "all", "").await;
    client.bind("open", "all", "").await;
    // One no is a no, though the other has it: as RabbitMQ says it.
    assert!(!client.publish_with("all", "", "x", Default::default()).await);
    assert_eq!(client.bodies("open").await, ["x"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_is_exact_however_many_publish() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("drops", &[("x-max-length", int(10))]).await;
    client.queue("refuses", &[("x-max-length", int(10)), ("x-overflow", text("reject-publish"))]).await;
    let publishers: Vec<Arc<Client>> = {
        let mut publishers = Vec::new();
        for _ in 0..4 {
            publishers.push(Arc::new(broker.client().await));
        }
        publishers
    };
    let tasks: Vec<_> = publishers
        .iter()
        .cloned()
        .map(|publisher| {
            tokio::spawn(async move {
                let mut taken = 0;
                for _ in 0..25 {
                    assert!(publisher.publish("drops", "x").await);
                    taken += u32::from(publisher.publish("refuses", "x").await);
                }
                taken
            })
        })
        .collect();
    let mut taken = 0;
    for task in tasks {
        taken += task.await.unwrap();
    }
    assert_eq!(taken, 10);
    assert_eq!((client.ready("refuses").await, client.ready("drops").await), (10, 10));
    broker.stop().await;
}
