//! What belongs to one gateway, asked of another.

use std::net::SocketAddr;

use amqp_gateway::Config;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use serde_json::{Value, json};

use super::broker;
use super::http::Http;
use crate::common::{config, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gateway_tells_of_all() {
    let (broker, http) = broker().await;
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let other_config = Config { management_listen: Some(loopback), ..config() };
    let other = amqp_gateway::start(broker.core.clone(), other_config).await.unwrap();
    let other_http = Http::at(other.management_address().unwrap(), "guest", "guest");
    let uri = |vhost: &str| format!("amqp://guest:guest@{}/{vhost}", other.address());

    let connection = broker.lapin_at(&uri("%2f")).await.unwrap();
    let channel = within(connection.create_channel()).await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    within(channel.queue_declare("q".into(), durable, FieldTable::default())).await.unwrap();
    let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
    let consumer = channel.basic_consume("q".into(), "there".into(), options, FieldTable::default());
    let consumer = within(consumer).await.unwrap();
    let queue = http.until("queues/%2F/q", "consumed", |queue| queue["consumers"] == 1).await;
    assert_eq!(queue["exclusive_consumer_tag"], "there");
    assert_eq!(queue["consumer_details"][0]["consumer_tag"], "there");
    assert_eq!(http.get("queues/%2F").await[0]["consumers"], 1);
    // Each is told of once, wherever it is asked for.
    for http in [&http, &other_http] {
        for list in ["connections", "channels", "consumers", "consumers/%2F", "vhosts/%2F/connections"] {
            let listed = http.get(list).await;
            assert_eq!(listed.as_array().unwrap().len(), 1, "{list}: {listed}");
        }
        let totals = http.get("overview").await["object_totals"].clone();
        assert_eq!(["connections", "channels", "consumers"].map(|of| totals[of].clone()), [1, 1, 1]);
    }
    let name = http.get("connections").await[0]["name"].as_str().unwrap().replace(' ', "%20").replace('>', "%3E");
    let shown = http.get(&format!("connections/{name}")).await;
    assert_ne!(shown["node"], http.get("overview").await["node"]);
    assert_eq!(http.get(&format!("connections/{name}/channels")).await.as_array().unwrap().len(), 1);
    let shown = http.get(&format!("channels/{name}%20(1)")).await;
    assert_eq!(shown["consumer_details"][0]["queue"]["name"], "q");
    // Who is in use is not deleted as unused, by either way.
    let (status, _) = http.call("DELETE", "queues/%2F/q?if-unused=true", None).await;
    assert_eq!(status, 400);
    let own = broker.lapin().await;
    let own_channel = within(own.create_channel()).await.unwrap();
    let unused = QueueDeleteOptions { if_unused: true, ..Default::default() };
    let refused = within(own_channel.queue_delete("q".into(), unused)).await.unwrap_err().to_string();
    assert!(refused.contains("queue 'q' in vhost '/' in use"), "{refused}");
    within(own.close(200, "bye".into())).await.unwrap();
    // What is closed is closed where it is.
    http.change("DELETE", &format!("connections/{name}"), Value::Null).await;
    http.until("connections", "closed", |all| all.as_array().unwrap().is_empty()).await;
    assert!(!connection.status().connected());
    assert_eq!(http.call("GET", &format!("connections/{name}"), None).await.0, 404);
    drop(consumer);

    // A limit holds for all gateways together.
    let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
    http.change("PUT", "vhosts/v", json!({})).await;
    http.change("PUT", "permissions/v/guest", all).await;
    http.change("PUT", "vhost-limits/v/max-connections", json!({"value": 1})).await;
    other_http.until("vhost-limits/v", "known there", |limits| !limits.as_array().unwrap().is_empty()).await;
    let there = broker.lapin_at(&uri("v")).await.unwrap();
    let here = format!("amqp://guest:guest@{}/v", broker.gateway.address());
    let refused = broker.lapin_at(&here).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("connection limit (1) is reached"), "{refused}");
    // With its vhost a connection goes, wherever it is.
    http.change("DELETE", "vhosts/v", Value::Null).await;
    http.until("connections", "closed", |all| all.as_array().unwrap().is_empty()).await;
    assert!(!there.status().connected());
    within(other.stop()).await;
    // Whom nobody can ask, nobody waits for.
    assert_eq!(http.get("connections").await, json!([]));
    broker.stop().await;
}
