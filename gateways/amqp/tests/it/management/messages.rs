//! Publishing to an exchange and taking messages out of a queue, over HTTP.

use serde_json::{Value, json};

use super::broker;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_published_and_taken() {
    let (broker, http) = broker().await;
    http.change("PUT", "queues/%2F/q", json!({"durable": true})).await;
    http.change("POST", "bindings/%2F/e/amq.topic/q/q", json!({"routing_key": "a.*"})).await;
    let message = |key: &str, payload: &str, encoding: &str| {
        json!({
            "routing_key": key,
            "payload": payload,
            "payload_encoding": encoding,
            "properties": {"message_id": "m", "headers": {"n": 1, "list": ["a"]}, "delivery_mode": 2},
        })
    };
    let publish = async |body: Value| http.call("POST", "exchanges/%2F/amq.topic/publish", Some(body)).await;
    assert_eq!(publish(message("a.b", "text", "string")).await, (200, json!({"routed": true})));
    assert_eq!(publish(message("a.c", "/wA=", "base64")).await, (200, json!({"routed": true})));
    assert_eq!(publish(message("b", "text", "string")).await, (200, json!({"routed": false})));
    assert_eq!(publish(message("a.b", "not base64!", "base64")).await.0, 400);
    let take = async |mode: &str, count: u32| {
        let body = json!({"count": count, "ackmode": mode, "encoding": "auto"});
        let (status, got) = http.call("POST", "queues/%2F/q/get", Some(body)).await;
        assert_eq!(status, 200, "{got}");
        got.as_array().unwrap().clone()
    };
    let seen = take("ack_requeue_true", 10).await;
    assert_eq!(seen.len(), 2, "{seen:?}");
    let first = &seen[0];
    let shown = ["payload", "payload_encoding", "exchange", "routing_key", "redelivered", "message_count"];
    assert_eq!(
        shown.map(|name| first[name].clone()),
        [json!("text"), json!("string"), json!("amq.topic"), json!("a.b"), json!(false), json!(1)]
    );
    assert_eq!(first["properties"]["headers"], json!({"n": 1, "list": ["a"]}));
    assert_eq!((&first["properties"]["message_id"], &first["properties"]["delivery_mode"]), (&json!("m"), &json!(2)));
    assert_eq!((&seen[1]["payload"], &seen[1]["payload_encoding"]), (&json!("/wA="), &json!("base64")));
    let taken = take("ack_requeue_false", 1).await;
    assert_eq!((&taken[0]["payload"], &taken[0]["redelivered"]), (&json!("text"), &json!(true)));
    http.until("queues/%2F/q", "one left", |queue| queue["messages"] == 1).await;
    http.change("DELETE", "queues/%2F/q/contents", Value::Null).await;
    http.until("queues/%2F/q", "empty", |queue| queue["messages"] == 0).await;
    assert!(take("reject_requeue_false", 1).await.is_empty());
    broker.stop().await;
}
