//! A RabbitMQ user's definitions, as RabbitMQ 3.10 exported them: they load, and the clients that they are for run.

use std::collections::BTreeSet;

use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection};
use serde_json::{Value, json};

use super::broker;
use crate::common::{Broker, within};
use core_rpc::Core;

fn exported() -> Value {
    serde_json::from_str(include_str!("rabbitmq_definitions.json")).unwrap()
}

async fn connect(broker: &Broker, user: &str, password: &str) -> lapin::Result<Connection> {
    broker.lapin_at(&format!("amqp://{user}:{password}@{}/shop", broker.gateway.address())).await
}

async fn publish(channel: &Channel, exchange: &str, key: &str, properties: BasicProperties) -> lapin::Result<bool> {
    let options = BasicPublishOptions::default();
    let publish = within(channel.basic_publish(exchange.into(), key.into(), options, b"x", properties)).await?;
    Ok(within(publish).await?.is_ack())
}

async fn ready(channel: &Channel, queue: &str) -> u32 {
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    within(channel.queue_declare(queue.into(), passive, FieldTable::default())).await.unwrap().message_count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rabbitmq_exported_is_imported_and_its_clients_run() {
    let (broker, http) = broker().await;
    http.change("POST", "definitions", exported()).await;
    // Again: what is there stays.
    http.change("POST", "definitions", exported()).await;

    // Passwords are those that the hashes were made of.
    let app = connect(&broker, "app", "app-secret").await.unwrap();
    assert!(connect(&broker, "app", "app-Secret").await.is_err());
    assert!(connect(&broker, "nobody", "").await.is_err());
    connect(&broker, "admin", "admin-secret").await.unwrap();
    connect(&broker, "guest", "guest").await.unwrap();
    let channel = within(app.create_channel()).await.unwrap();
    within(channel.confirm_select(ConfirmSelectOptions::default())).await.unwrap();

    // The binding, and the alternate exchange.
    assert!(publish(&channel, "orders", "new", BasicProperties::default().with_priority(5)).await.unwrap());
    assert!(publish(&channel, "orders", "old", BasicProperties::default()).await.unwrap());
    assert_eq!((ready(&channel, "app.orders").await, ready(&channel, "app.dead").await), (1, 1));
    let got = within(channel.basic_get("app.orders".into(), BasicGetOptions { no_ack: true })).await.unwrap().unwrap();
    assert_eq!((got.data.as_slice(), got.routing_key.as_str()), (&b"x"[..], "new"));
    // The policy applies: three messages, then publishes are refused.
    for accepted in [true, true, true, false] {
        assert_eq!(publish(&channel, "orders", "new", BasicProperties::default()).await.unwrap(), accepted);
    }

    // Permissions and topic permissions.
    let refused = publish(&channel, "unrouted", "", BasicProperties::default()).await.unwrap_err().to_string();
    assert!(
        refused.contains("write access to exchange 'unrouted' in vhost 'shop' refused for user 'app'"),
        "{refused}"
    );
    let channel = within(app.create_channel()).await.unwrap();
    let declared = within(channel.queue_declare("other".into(), QueueDeclareOptions::default(), FieldTable::default()));
    let refused = declared.await.unwrap_err().to_string();
    assert!(refused.contains("configure access to queue 'other' in vhost 'shop' refused for user 'app'"), "{refused}");

    // Through the binding between exchanges to that of headers.
    let admin = connect(&broker, "admin", "admin-secret").await.unwrap();
    let channel = within(admin.create_channel()).await.unwrap();
    within(channel.confirm_select(ConfirmSelectOptions::default())).await.unwrap();
    let mut headers = FieldTable::default();
    headers.insert("kind".into(), AMQPValue::LongString("invoice".into()));
    headers.insert("n".into(), AMQPValue::LongInt(1));
    let invoice = BasicProperties::default().with_headers(headers);
    assert!(publish(&channel, "events", "public.a", invoice.clone()).await.unwrap());
    assert!(publish(&channel, "events", "private.a", invoice).await.unwrap());
    assert_eq!(ready(&channel, "app.quorum").await, 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_exported_is_what_was_imported() {
    let (first, http) = broker().await;
    http.change("POST", "definitions", exported()).await;
    let own = http.get("definitions").await;
    for kind in ["users", "vhosts", "permissions", "topic_permissions", "policies", "exchanges", "queues", "bindings"] {
        let (expected, found) = (names(&exported(), kind), names(&own, kind));
        assert_eq!(found, expected, "{kind}");
    }
    let parameters = |of: &Value| -> BTreeSet<String> {
        let all = of["parameters"].as_array().unwrap().iter();
        all.map(|parameter| format!("{} {} {}", parameter["component"], parameter["name"], parameter["value"]))
            .collect()
    };
    assert_eq!(parameters(&own), parameters(&exported()));

    // Into a broker that has nothing, and out again: the same.
    let (second, other) = broker().await;
    other.change("POST", "definitions", own.clone()).await;
    let mut again = other.get("definitions").await;
    // Each cluster has its own.
    again["original_cluster_name"] = own["original_cluster_name"].clone();
    assert_eq!(again, own);
    assert!(connect(&second, "app", "app-secret").await.is_ok());

    // Of one vhost, into another.
    other.change("PUT", "vhosts/copy", json!({})).await;
    other.change("PUT", "permissions/copy/guest", json!({"configure": ".*", "write": ".*", "read": ".*"})).await;
    let of_shop = other.get("definitions/shop").await;
    other.change("POST", "definitions/copy", of_shop.clone()).await;
    assert_eq!(other.get("definitions/copy").await["bindings"], of_shop["bindings"]);
    for broker in [first, second] {
        broker.stop().await;
    }
}

/// What the objects of a kind say, without what servers add to it.
fn names(definitions: &Value, kind: &str) -> BTreeSet<String> {
    let object = |of: &Value| {
        let mut of = of.clone();
        let object = of.as_object_mut().unwrap();
        match kind {
            // RabbitMQ 4 says the type, be it asked for or not.
            "queues" => {
                object.remove("type");
                object["arguments"].as_object_mut().unwrap().remove("x-queue-type");
            }
            "vhosts" => object.retain(|name, _| name == "name"),
            _ => {}
        }
        of.to_string()
    };
    definitions[kind].as_array().unwrap().iter().map(object).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guest_stays_at_home_whatever_is_imported() {
    let (broker, http) = broker().await;
    http.change("POST", "definitions", exported()).await;
    let entry = broker.core.meta_get("user/guest".into()).await.unwrap().expect("a user");
    let stored: Value = serde_json::from_slice(&entry.value).unwrap();
    assert_eq!(stored["loopback_only"], true);
    let wrong = json!({"users": [{"name": "x", "password_hash": "y", "hashing_algorithm": "rot13", "tags": ""}]});
    let (status, answer) = http.call("POST", "definitions", Some(wrong)).await;
    assert_eq!((status, answer["error"].as_str()), (400, Some("bad_request")), "{answer}");
    broker.stop().await;
}
