//! Limits of vhosts and users, in RabbitMQ's words.

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use serde_json::{Value, json};

use super::broker;
use crate::common::within;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_enough_gets_no_more() {
    let (broker, http) = broker().await;
    for vhost in ["a", "b"] {
        http.change("PUT", &format!("vhosts/{vhost}"), json!({})).await;
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        http.change("PUT", &format!("permissions/{vhost}/guest"), all).await;
    }
    let address = broker.gateway.address();
    let connect = async |vhost: &str| broker.lapin_at(&format!("amqp://guest:guest@{address}/{vhost}")).await;
    let refused = |refused: lapin::Result<lapin::Connection>, text: &str| {
        let error = refused.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(text), "{error}\n instead of\n{text}");
    };
    http.change("PUT", "vhost-limits/a/max-connections", json!({"value": 1})).await;
    let own = connect("a").await.unwrap();
    let text = "access to vhost 'a' refused for user 'guest': connection limit (1) is reached";
    refused(connect("a").await, text);
    let other = connect("b").await.unwrap();
    http.change("PUT", "user-limits/guest/max-connections", json!({"value": 2})).await;
    refused(connect("b").await, "connection refused for user 'guest': user connection limit (2) is reached");
    // Who leaves makes room.
    within(other.close(200, "bye".into())).await.unwrap();
    http.until("connections", "one left", |all| all.as_array().unwrap().len() == 1).await;
    let other = connect("b").await.unwrap();

    http.change("PUT", "user-limits/guest/max-channels", json!({"value": 2})).await;
    let first = within(own.create_channel()).await.unwrap();
    // Kept: one that is dropped is closed.
    let second = within(other.create_channel()).await.unwrap();
    let error = within(other.create_channel()).await.unwrap_err().to_string();
    let text = "number of channels opened for user 'guest' has reached the maximum allowed user limit of (2)";
    assert!(error.contains(text), "{error}");
    // That was the end of its connection.
    assert!(!second.status().connected() && first.status().connected());

    http.change("PUT", "vhost-limits/a/max-queues", json!({"value": 1})).await;
    let declare = async |name: &str| {
        let declared = first.queue_declare(name.into(), QueueDeclareOptions::default(), FieldTable::default());
        within(declared).await.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(declare("one").await, Ok(()));
    let error = declare("two").await.unwrap_err();
    assert!(error.contains("cannot declare queue 'two': queue limit in vhost 'a' (1) is reached"), "{error}");
    // A limit that is taken away is none, as is one below zero.
    http.change("DELETE", "vhost-limits/a/max-connections", Value::Null).await;
    http.change("PUT", "user-limits/guest/max-connections", json!({"value": -1})).await;
    connect("a").await.unwrap();
    broker.stop().await;
}
