//! What becomes of messages that die: where they go, what their headers say, and what does not go round for ever.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::BasicRejectOptions;

use super::support::*;

/// A queue that dead-letters to `dlx`, and the queue `dead` behind it.
async fn with_dead_letters(client: &Client, arguments: &[(&str, lapin::types::AMQPValue)]) {
    client.exchange("dlx", "fanout", &[]).await;
    client.queue("dead", &[]).await;
    client.bind("dead", "dlx", "").await;
    let all = [&[("x-dead-letter-exchange", text("dlx"))], arguments].concat();
    client.queue("q", &all).await;
}

#[tokio::test]
async fn a_rejected_message_says_why_it_died() {
    let broker = broker().await;
    let client = broker.client().await;
    with_dead_letters(&client, &[]).await;
    client.exchange("orders", "direct", &[]).await;
    client.bind("q", "orders", "new").await;
    let properties = with_headers(&[("mine", int(5))]).with_message_id("m1".into()).with_delivery_mode(2);
    assert!(client.publish_with("orders", "new", "body", properties).await);
    let got = client.get_with("q", false).await.unwrap();
    client.reject(got.tag).await;
    let dead = client.wait_for("dead").await;
    assert_eq!((dead.body.as_str(), dead.exchange.as_str(), dead.routing_key.as_str()), ("body", "dlx", "new"));
    assert_eq!(dead.deaths(), [r#"q rejected 1 "orders" new"#]);
    assert_eq!(dead.header("mine"), Some(int(5)));
    assert_eq!(dead.properties.message_id().as_ref().unwrap().as_str(), "m1");
    assert_eq!(*dead.properties.delivery_mode(), Some(2));
    assert!(!dead.redelivered);
    let said = |name: &str| dead.text(name).unwrap();
    assert_eq!(said("x-first-death-reason"), "rejected");
    assert_eq!(said("x-first-death-queue"), "q");
    assert_eq!(said("x-first-death-exchange"), "orders");
    assert_eq!(said("x-last-death-reason"), "rejected");
    assert_eq!(said("x-last-death-queue"), "q");
    assert_eq!(said("x-last-death-exchange"), "orders");
    assert_eq!(client.ready("q").await, 0);
    broker.stop().await;
}

#[tokio::test]
async fn nacked_messages_come_in_order() {
    let broker = broker().await;
    let client = broker.client().await;
    with_dead_letters(&client, &[]).await;
    let bodies: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    client.publish_all("q", &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut last = 0;
    for _ in 0..50 {
        last = client.get_with("q", false).await.unwrap().tag;
    }
    let all = lapin::options::BasicNackOptions { multiple: true, requeue: false };
    client.channel.basic_nack(last, all).await.unwrap();
    client.wait_for_ready("dead", 50).await;
    assert_eq!(client.bodies("dead").await, bodies);
    broker.stop().await;
}

#[tokio::test]
async fn the_routing_key_can_be_another() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("other", &[]).await;
    let arguments = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("other"))];
    client.queue("q", &arguments).await;
    client.publish("q", "body").await;
    let got = client.get_with("q", false).await.unwrap();
    client.reject(got.tag).await;
    let dead = client.wait_for("other").await;
    assert_eq!((dead.exchange.as_str(), dead.routing_key.as_str()), ("", "other"));
    assert_eq!(dead.deaths(), [r#"q rejected 1 "" q"#]);
    broker.stop().await;
}

#[tokio::test]
async fn copies_die_with_all_their_keys() {
    let broker = broker().await;
    let client = broker.client().await;
    client.exchange("dlx", "direct", &[]).await;
    for queue in ["one", "two", "three"] {
        client.queue(queue, &[]).await;
        client.bind(queue, "dlx", queue).await;
    }
    client.exchange("orders", "direct", &[]).await;
    client.queue("q", &[("x-dead-letter-exchange", text("dlx"))]).await;
    client.bind("q", "orders", "one").await;
    let copies = with_headers(&[("CC", texts(&["two"]))]);
    assert!(client.publish_with("orders", "one", "body", copies).await);
    let got = client.get_with("q", false).await.unwrap();
    client.reject(got.tag).await;
    for queue in ["one", "two"] {
        let dead = client.wait_for(queue).await;
        assert_eq!(dead.deaths(), [r#"q rejected 1 "orders" one,two"#]);
        assert_eq!(dead.routing_key, "one");
    }
    assert_eq!(client.ready("three").await, 0);
    broker.stop().await;
}

#[tokio::test]
async fn an_expired_message_loses_its_expiration() {
    let broker = broker().await;
    let client = broker.client().await;
    with_dead_letters(&client, &[]).await;
    assert!(client.publish_with("", "q", "body", expiring("50")).await);
    let dead = client.wait_for("dead").await;
    assert_eq!(dead.deaths(), [r#"q expired 1 "" q expiration 50"#]);
    assert_eq!(dead.properties.expiration(), &None);
    broker.stop().await;
}

#[tokio::test]
async fn dying_again_counts() {
    let broker = broker().await;
    let client = broker.client().await;
    // q → wait (until it expires) → q: the usual way to try again later.
    client.exchange("retry", "fanout", &[]).await;
    client.queue("q", &[("x-dead-letter-exchange", text("retry"))]).await;
    let back =
        [("x-message-ttl", int(20)), ("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("q"))];
    client.queue("wait", &back).await;
    client.bind("wait", "retry", "").await;
    client.publish("q", "body").await;
    for _ in 0..3 {
        let got = loop {
            match client.get_with("q", false).await {
                Some(got) => break got,
                None => tokio::task::yield_now().await,
            }
        };
        client.reject(got.tag).await;
    }
    let got = client.wait_for("q").await;
    assert_eq!(got.deaths(), [r#"wait expired 3 "retry" q"#, r#"q rejected 3 "" q"#]);
    assert_eq!(got.text("x-first-death-queue").unwrap(), "q");
    assert_eq!(got.text("x-last-death-queue").unwrap(), "wait");
    assert_eq!(got.text("x-last-death-exchange").unwrap(), "retry");
    broker.stop().await;
}

#[tokio::test]
async fn a_circle_that_nobody_breaks_ends() {
    let broker = broker().await;
    let client = broker.client().await;
    let to_itself =
        [("x-message-ttl", int(10)), ("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("q"))];
    client.queue("q", &to_itself).await;
    client.publish("q", "body").await;
    client.wait_for_ready("q", 0).await;
    // It does not come back: a second one, which only waits, is alone when it is there.
    client.queue("quiet", &[]).await;
    client.publish("quiet", "x").await;
    client.wait_for_ready("quiet", 1).await;
    assert_eq!(client.ready("q").await, 0);
    broker.stop().await;
}

#[tokio::test]
async fn what_a_client_says_of_deaths_is_not_believed() {
    let broker = broker().await;
    let client = broker.client().await;
    with_dead_letters(&client, &[]).await;
    client.publish("q", "body").await;
    let got = client.get_with("q", false).await.unwrap();
    client.reject(got.tag).await;
    let dead = client.wait_for("dead").await;
    // The application publishes it again, headers and all: the count begins anew, as in RabbitMQ 4.
    assert!(client.publish_with("", "q", "again", dead.properties).await);
    let got = client.get_with("q", false).await.unwrap();
    client.reject(got.tag).await;
    assert_eq!(client.wait_for("dead").await.deaths(), [r#"q rejected 1 "" q"#]);
    broker.stop().await;
}

#[tokio::test]
async fn without_an_exchange_they_are_gone() {
    let broker = broker().await;
    let client = broker.client().await;
    client.queue("q", &[("x-dead-letter-exchange", text("nowhere"))]).await;
    client.queue("plain", &[]).await;
    for queue in ["q", "plain"] {
        client.publish_all(queue, &["a", "b"]).await;
        let got = client.get_with(queue, false).await.unwrap();
        client.reject(got.tag).await;
        assert_eq!(client.bodies(queue).await, ["b"]);
        assert_eq!(client.ready(queue).await, 0);
    }
    broker.stop().await;
}

#[tokio::test]
async fn at_least_once_waits_for_a_way() {
    let broker = broker().await;
    let client = broker.client().await;
    let arguments = [
        ("x-queue-type", text("quorum")),
        ("x-overflow", text("reject-publish")),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-dead-letter-exchange", text("later")),
    ];
    client.queue("q", &arguments).await;
    client.publish("q", "body").await;
    let got = client.get_with("q", false).await.unwrap();
    client.reject(got.tag).await;
    client.wait_for_ready("q", 0).await;
    client.exchange("later", "fanout", &[]).await;
    client.queue("dead", &[]).await;
    client.bind("dead", "later", "").await;
    assert_eq!(client.wait_for("dead").await.deaths(), [r#"q rejected 1 "" q"#]);
    broker.stop().await;
}

#[tokio::test]
async fn a_quorum_queue_gives_up_after_its_limit() {
    let broker = broker().await;
    let client = broker.client().await;
    with_dead_letters(&client, &[("x-queue-type", text("quorum")), ("x-delivery-limit", int(2))]).await;
    client.publish_with("", "q", "body", BasicProperties::default()).await;
    for _ in 0..3 {
        let got = client.get_with("q", false).await.unwrap();
        client.requeue(got.tag).await;
    }
    assert_eq!(client.wait_for("dead").await.deaths(), [r#"q delivery_limit 1 "" q"#]);
    assert!(client.get("q").await.is_none());
    broker.stop().await;
}

#[tokio::test]
async fn dead_letters_survive_a_restart() {
    let broker = broker().await;
    let client = broker.client().await;
    with_dead_letters(&client, &[]).await;
    client.publish_all("q", &["a", "b"]).await;
    let got = client.get_with("q", false).await.unwrap();
    client.reject(got.tag).await;
    client.wait_for_ready("dead", 1).await;
    let broker = broker.restart().await;
    let client = broker.client().await;
    assert_eq!(client.bodies("dead").await, ["a"]);
    assert_eq!(client.bodies("q").await, ["b"]);
    broker.stop().await;
}

#[tokio::test]
async fn a_publishers_x_death_is_not_believed() {
    let broker = broker().await;
    let client = broker.client().await;
    with_dead_letters(&client, &[]).await;
    for nonsense in [text("nonsense"), int(5), texts(&["no table"])] {
        assert!(client.publish_with("", "q", "x", with_headers(&[("x-death", nonsense)])).await);
        let got = client.get_with("q", false).await.unwrap();
        client.reject(got.tag).await;
        assert_eq!(client.wait_for("dead").await.deaths(), [r#"q rejected 1 "" q"#]);
    }
    broker.stop().await;
}

#[tokio::test]
async fn what_was_given_back_too_often_goes_to_the_dead_letters() {
    let broker = broker().await;
    let client = broker.client().await;
    let arguments = [("x-queue-type", text("quorum")), ("x-delivery-limit", int(2))];
    with_dead_letters(&client, &arguments).await;
    assert!(client.publish("q", "poison").await);
    for count in 0..3 {
        let got = client.get_with("q", false).await.unwrap();
        let counted = (count > 0).then_some(lapin::types::AMQPValue::LongLongInt(count));
        assert_eq!(got.header("x-delivery-count"), counted);
        client.requeue(got.tag).await;
    }
    let dead = client.wait_for("dead").await;
    assert_eq!((dead.body.as_str(), dead.deaths()), ("poison", vec![r#"q delivery_limit 1 "" q"#.to_owned()]));
    assert_eq!(client.ready("q").await, 0);
    broker.stop().await;
}

/// A topic that another protocol made does not lie with the vhost's queues, so that no one commit does both.
#[tokio::test]
async fn dead_letters_reach_a_topic_that_another_protocol_made() {
    let broker = broker().await;
    let client = broker.client().await;
    broker.make_topic("events").await;
    let arguments = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("events"))];
    client.queue("q", &arguments).await;
    let until = std::time::Instant::now() + PATIENCE;
    while !client.exists("events").await {
        assert!(std::time::Instant::now() < until, "the topic is no queue");
    }
    assert!(client.publish("q", "a").await);
    let got = client.get_with("q", false).await.unwrap();
    client.reject(got.tag).await;
    let dead = client.wait_for("events").await;
    assert_eq!((dead.body.as_str(), dead.deaths()), ("a", vec![r#"q rejected 1 "" q"#.to_owned()]));
    client.wait_for_ready("q", 0).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_arrive_in_the_order_in_which_they_were_rejected() {
    let (broker, gate) = crate::common::Broker::gated(crate::common::config()).await;
    let client = Client::at(&broker.uri()).await;
    client.queue("dead", &[]).await;
    client.queue("q", &[("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("dead"))]).await;
    client.publish_all("q", &["1", "2", "3", "4"]).await;
    let mut got = Vec::new();
    for _ in 0..4 {
        got.push(client.get_with("q", false).await.unwrap().tag);
    }
    gate.close();
    let reject = |tag| client.channel.basic_reject(tag, BasicRejectOptions { requeue: false });
    reject(got[0]).await.unwrap();
    gate.came(1).await;
    // The first is on its way, and slow: those behind it do not overtake it.
    for tag in &got[1..] {
        reject(*tag).await.unwrap();
    }
    let open = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        gate.open();
    };
    // Who asks behind a rejection finds the letter.
    let (first, ()) = tokio::join!(client.get("dead"), open);
    let mut letters = vec![first.expect("a letter").body];
    while letters.len() < 4 {
        letters.push(client.get("dead").await.expect("a letter").body);
    }
    assert_eq!(letters, ["1", "2", "3", "4"]);
    broker.stop().await;
}
