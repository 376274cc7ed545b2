//! `$SYS`: what the gateway tells of itself is so.

use std::time::Duration;

use codec_mqtt::{Property, Publish, QoS, Version};
use mqtt_gateway::Config;

use crate::common::{Broker, Client, config, connect, delivery, message, persistent, properties, within};

const QOS1: QoS = QoS::AtLeastOnce;

async fn retain(client: &mut Client, topic: &str, payload: &str) {
    let packet_id = client.id();
    client.publish_all(Publish { retain: true, ..message(topic, payload, delivery(QOS1, packet_id)) }).await;
}

/// Waits until a value is told that is wanted.
async fn until(watcher: &mut Client, name: &str, wanted: impl Fn(u64) -> bool) {
    watcher.subscribe(&format!("$SYS/broker/{name}"), QoS::AtMostOnce).await;
    within(async {
        loop {
            let (topic, value) = watcher.message().await;
            if topic == format!("$SYS/broker/{name}") && wanted(value.parse().expect("a number")) {
                return;
            }
        }
    })
    .await;
}

/// As in mosquitto, CONNECT is among them.
#[tokio::test]
async fn every_packet_is_a_message_that_was_received() {
    let broker = Broker::with(Config { sys_interval: Some(Duration::from_millis(50)), ..config() }).await;
    let mut watcher = broker.client(Version::Mqtt311, "watcher").await;
    until(&mut watcher, "messages/received", |value| value == 2).await;
    broker.stop().await;
}

#[tokio::test]
async fn what_is_counted_is_told() {
    let broker = Broker::with(Config { sys_interval: Some(Duration::from_millis(50)), ..config() }).await;
    let mut client = broker.client(Version::Mqtt5, "client").await;
    client.subscribe("$share/g/a/#", QOS1).await;
    client.subscribe("$share/g/b/#", QOS1).await;
    client.subscribe("never", QOS1).await;
    retain(&mut client, "kept/1", "12345").await;
    retain(&mut client, "kept/2", "12345").await;
    let mut away = broker.client_with(persistent(Version::Mqtt5, "away")).await;
    away.subscribe("waits", QOS1).await;
    away.disconnect().await;
    client.publish_to("waits", "x", QOS1).await;
    client.publish_to("waits", "x", QOS1).await;
    let brief = properties([Property::SessionExpiryInterval(1)]);
    let brief = codec_mqtt::Connect { properties: brief, ..connect(Version::Mqtt5, "brief") };
    broker.client_with(brief).await.disconnect().await;

    for (name, wanted) in [
        ("shared_subscriptions/count", 2),
        ("retained messages/count", 2),
        ("store/messages/count", 4),
        ("messages/stored", 4),
        ("clients/expired", 1),
    ] {
        let mut watcher = broker.client(Version::Mqtt311, &format!("watcher-{}", name.len())).await;
        until(&mut watcher, name, |value| value == wanted).await;
        watcher.disconnect().await;
    }
    // CONNACK, SUBACK and all that; of a publish its PUBACK at least.
    let mut watcher = broker.client(Version::Mqtt311, "packets").await;
    until(&mut watcher, "messages/sent", |value| value > 10).await;
    let mut watcher = broker.client(Version::Mqtt311, "bytes").await;
    // Two retained ones, with the 23 bytes that are stored before each, and one reference: those that wait lie one behind the other.
    let stored = 2 * (23 + "kept/1".len() + 5) + 16;
    until(&mut watcher, "store/messages/bytes", |value| value == stored as u64).await;
    broker.stop().await;
}
