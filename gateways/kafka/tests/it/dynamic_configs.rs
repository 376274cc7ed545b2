//! What is set for brokers and subscriptions of metrics while they run, through real sockets: on one gateway, seen on another.

use std::net::SocketAddr;

use crate::support::client::Client;
use crate::support::memory_core::MemoryCore;
use crate::support::*;
use codec_kafka::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use codec_kafka::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use codec_kafka::messages::{IncrementalAlterConfigsRequest, ListConfigResourcesRequest, alter_configs};
use kafka_gateway::{Config, Handle, start};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep, timeout};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const CLIENT_METRICS: i8 = 16;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;

async fn gateway_on(core: &MemoryCore) -> (Handle, Client) {
    let config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() };
    let gateway = start(core.clone(), config).await.unwrap();
    let client = Client::connect(gateway.address()).await;
    (gateway, client)
}

async fn alter(client: &mut Client, kind: i8, name: &str, operation: i8, key: &str, value: Option<&str>) -> i16 {
    let config = AlterableConfig { name: key.into(), config_operation: operation, value: value.map(str::to_owned) };
    let resource = AlterConfigsResource { resource_type: kind, resource_name: name.into(), configs: vec![config] };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    client.ask(1, &request).await.responses[0].error_code
}

async fn described(client: &mut Client, kind: i8, name: &str, key: &str) -> Option<DescribeConfigsResourceResult> {
    let resource = DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: Some(vec![key.into()]),
    };
    let request = DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, ..Default::default() };
    let mut result = client.ask(4, &request).await.results.remove(0);
    assert_eq!(result.error_code, 0, "{:?}", result.error_message);
    result.configs.pop()
}

/// The value and its source.
async fn value(client: &mut Client, kind: i8, name: &str, key: &str) -> (String, i8) {
    let config = described(client, kind, name, key).await.unwrap();
    (config.value.unwrap_or_default(), config.config_source)
}

/// Waits until the value is this.
async fn until(client: &mut Client, kind: i8, name: &str, key: &str, expected: (&str, i8)) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = value(client, kind, name, key).await;
        if (found.0.as_str(), found.1) == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{key} is {found:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn defaults_of_topics_hold_for_all_at_once() {
    let core = MemoryCore::default();
    let (one, mut to_one) = gateway_on(&core).await;
    let (two, mut to_two) = gateway_on(&core).await;
    create(&mut to_one, "old", 1, &[]).await;
    create(&mut to_one, "own", 1, &[("max.message.bytes", "5000")]).await;
    assert_eq!(alter(&mut to_one, BROKER, "", SET, "message.max.bytes", Some("1000")).await, 0);
    assert_eq!(alter(&mut to_one, BROKER, "", APPEND, "log.cleanup.policy", Some("compact")).await, 0);

    // The old topic has it when the change is answered, new topics are created with it.
    assert_eq!(value(&mut to_one, TOPIC, "old", "max.message.bytes").await, ("1000".into(), 3));
    assert_eq!(value(&mut to_one, TOPIC, "old", "cleanup.policy").await, ("delete,compact".into(), 3));
    assert_eq!(value(&mut to_one, TOPIC, "own", "max.message.bytes").await, ("5000".into(), 1));
    assert_eq!(produce(&mut to_one, "old", batch(&["x".repeat(2000).as_str()])).await.error_code, MESSAGE_TOO_LARGE);
    until(&mut to_two, BROKER, "", "message.max.bytes", ("1000", 3)).await;
    create(&mut to_two, "new", 1, &[]).await;
    assert_eq!(value(&mut to_two, TOPIC, "new", "max.message.bytes").await, ("1000".into(), 3));
    until(&mut to_two, TOPIC, "old", "max.message.bytes", ("1000", 3)).await;
    let synonyms = described(&mut to_one, TOPIC, "own", "max.message.bytes").await.unwrap().synonyms;
    let names: Vec<_> = synonyms.iter().map(|synonym| (synonym.name.as_str(), synonym.source)).collect();
    assert_eq!(names, [("max.message.bytes", 1), ("message.max.bytes", 3), ("message.max.bytes", 5)]);
    let of_broker = described(&mut to_one, BROKER, "1", "message.max.bytes").await.unwrap();
    assert_eq!((of_broker.value.as_deref(), of_broker.config_source, of_broker.read_only), (Some("1000"), 3, false));

    // What a topic has of its own can be changed beside it, and falls back to it.
    assert_eq!(alter(&mut to_one, TOPIC, "own", DELETE, "max.message.bytes", None).await, 0);
    assert_eq!(value(&mut to_one, TOPIC, "own", "max.message.bytes").await, ("1000".into(), 3));
    let config = alter_configs::AlterableConfig { name: "retention.ms".into(), value: Some("5".into()) };
    let resource =
        alter_configs::AlterConfigsResource { resource_type: 2, resource_name: "own".into(), configs: vec![config] };
    let request = alter_configs::AlterConfigsRequest { resources: vec![resource], ..Default::default() };
    assert_eq!(to_one.ask(2, &request).await.responses[0].error_code, 0);
    assert_eq!(value(&mut to_one, TOPIC, "own", "max.message.bytes").await, ("1000".into(), 3));
    assert_eq!(alter(&mut to_one, TOPIC, "own", SET, "inherited.retention.ms", Some("1")).await, INVALID_CONFIG);

    // And it ends.
    assert_eq!(alter(&mut to_one, BROKER, "", DELETE, "message.max.bytes", None).await, 0);
    assert_eq!(value(&mut to_one, TOPIC, "own", "max.message.bytes").await, ("1048588".into(), 5));
    assert_eq!(produce(&mut to_one, "old", batch(&["x".repeat(2000).as_str()])).await.error_code, 87, "it has no key");
    one.stop().await;
    two.stop().await;
    // A gateway that starts later finds them.
    let (three, mut to_three) = gateway_on(&core).await;
    assert_eq!(value(&mut to_three, BROKER, "", "log.cleanup.policy").await, ("delete,compact".into(), 3));
    three.stop().await;
}

#[tokio::test]
async fn what_cannot_change_is_refused_as_by_kafka() {
    let core = MemoryCore::default();
    let (gateway, mut client) = gateway_on(&core).await;
    for (name, key, value) in [
        ("", "num.partitions", "3"),
        ("", "auto.create.topics.enable", "false"),
        ("", "group.max.size", "5"),
        ("", "connections.max.idle.ms", "2000"),
        ("", "log.retention.hours", "2"),
        ("", "listeners", "PLAINTEXT://:1"),
        ("", "log.retention.ms", "x"),
        ("", "log.cleaner.threads", "2"),
        ("1", "log.retention.ms", "5"),
        ("9", "max.connections", "5"),
        ("x", "max.connections", "5"),
    ] {
        assert_eq!(alter(&mut client, BROKER, name, SET, key, Some(value)).await, INVALID_REQUEST, "{name} {key}");
    }
    assert_eq!(alter(&mut client, BROKER, "", DELETE, "num.partitions", None).await, 0, "nothing is set");
    assert!(described(&mut client, BROKER, "1", "num.partitions").await.unwrap().read_only);
    gateway.stop().await;
}

#[tokio::test]
async fn the_limit_of_connections_can_be_changed() {
    let core = MemoryCore::default();
    let (gateway, mut client) = gateway_on(&core).await;
    assert_eq!(alter(&mut client, BROKER, "", SET, "max.connections", Some("100")).await, 0);
    assert_eq!(alter(&mut client, BROKER, "1", SET, "max.connections", Some("1")).await, 0);
    assert_eq!(value(&mut client, BROKER, "1", "max.connections").await, ("1".into(), 2));
    // The limit is obeyed a moment later; then a connection has to wait.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut waiting = loop {
        let mut other = Client::connect(gateway.address()).await;
        let request = ListConfigResourcesRequest::default();
        if timeout(Duration::from_millis(300), other.ask(1, &request)).await.is_err() {
            break TcpStream::connect(gateway.address()).await.unwrap();
        }
        assert!(Instant::now() < deadline, "nobody waits");
    };
    assert_eq!(alter(&mut client, BROKER, "1", DELETE, "max.connections", None).await, 0);
    let mut other = Client::connect(gateway.address()).await;
    assert!(other.ask(1, &ListConfigResourcesRequest::default()).await.error_code == 0);
    tokio::io::AsyncWriteExt::shutdown(&mut waiting).await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn subscriptions_of_metrics_are_kept_and_nobody_is_asked_for_metrics() {
    let core = MemoryCore::default();
    let (gateway, mut client) = gateway_on(&core).await;
    let set = [("metrics", "org.apache.kafka.consumer."), ("interval.ms", "5000"), ("match", "client_id=a.*")];
    for (key, value) in set {
        assert_eq!(alter(&mut client, CLIENT_METRICS, "sub", SET, key, Some(value)).await, 0, "{key}");
    }
    for (name, key, value, code) in [
        ("sub", "interval.ms", "50", INVALID_REQUEST),
        ("sub", "nope", "1", INVALID_REQUEST),
        ("", "metrics", "a", INVALID_REQUEST),
        ("sub", "match", "x=a", INVALID_CONFIG),
        ("sub", "match", "client_id=(", INVALID_CONFIG),
    ] {
        assert_eq!(alter(&mut client, CLIENT_METRICS, name, SET, key, Some(value)).await, code, "{key}={value}");
    }
    assert_eq!(value(&mut client, CLIENT_METRICS, "sub", "interval.ms").await, ("5000".into(), 7));
    assert_eq!(value(&mut client, CLIENT_METRICS, "other", "interval.ms").await, ("300000".into(), 5));
    let listed = client.ask(0, &ListConfigResourcesRequest::default()).await.config_resources;
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].resource_name.as_str(), listed[0].resource_type), ("sub", CLIENT_METRICS));
    for (key, _) in set {
        assert_eq!(alter(&mut client, CLIENT_METRICS, "sub", DELETE, key, None).await, 0);
    }
    assert_eq!(client.ask(0, &ListConfigResourcesRequest::default()).await.config_resources, []);
    gateway.stop().await;
}

/// As a Kafka 4.1 without a receiver of metrics and without `streams.version`, asked for its versions, does not name them.
#[test]
fn telemetry_and_streams_groups_are_not_advertised() {
    let served: Vec<i16> = kafka_gateway::handlers::SERVED.iter().map(|served| served.api as i16).collect();
    for key in [71, 72, 88, 89] {
        assert!(!served.contains(&key), "{key}");
    }
}
