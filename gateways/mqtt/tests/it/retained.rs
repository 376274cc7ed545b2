//! Retained messages.

use std::time::Duration;

use codec_mqtt::{Property, Publish, QoS, RetainHandling, Subscription, Version};

use crate::common::{Broker, Client, config, delivery, message, properties, text};

fn retained(topic: &str, payload: &str, qos: QoS, packet_id: u16) -> Publish {
    Publish { retain: true, ..message(topic, payload, delivery(qos, packet_id)) }
}

async fn retain(client: &mut Client, topic: &str, payload: &str, qos: QoS) {
    let packet_id = client.id();
    client.publish_all(retained(topic, payload, qos, packet_id)).await;
}

/// The next messages by their topics.
async fn next(client: &mut Client, count: usize) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(client.message().await);
    }
    found.sort();
    found
}

/// [MQTT-3.3.1-5] to [MQTT-3.3.1-8], [MQTT-3.3.1-12].
#[tokio::test]
async fn the_last_of_each_name_is_there_for_new_subscriptions() {
    let broker = Broker::start().await;
    for version in [Version::Mqtt31, Version::Mqtt311, Version::Mqtt5] {
        let mut publisher = broker.client(version, "publisher").await;
        retain(&mut publisher, "r/a/1", "old", QoS::AtLeastOnce).await;
        retain(&mut publisher, "r/a/1", "new", QoS::ExactlyOnce).await;
        retain(&mut publisher, "r/b", "b", QoS::AtLeastOnce).await;
        retain(&mut publisher, "r/c", "gone", QoS::AtLeastOnce).await;
        retain(&mut publisher, "r/c", "", QoS::AtLeastOnce).await;
        publisher.publish_to("r/d", "not retained", QoS::AtLeastOnce).await;
        let mut client = broker.client(version, "subscriber").await;
        client.subscribe("r/#", QoS::AtLeastOnce).await;
        let publish = client.publish().await;
        assert!(publish.retain && publish.delivery.qos() == QoS::AtLeastOnce);
        let (topic, payload) = client.message().await;
        assert_eq!((publish.topic.as_str(), &publish.payload[..]), ("r/a/1", &b"new"[..]));
        assert_eq!((topic.as_str(), payload.as_str()), ("r/b", "b"));
        client.silence().await;
        // What comes now is not retained for it.
        retain(&mut publisher, "r/b", "b2", QoS::AtLeastOnce).await;
        let publish = client.publish().await;
        assert!(!publish.retain && publish.payload == "b2");
        // Once more for the same filter, and as another would have it.
        let mut other = broker.client(version, "other").await;
        other.subscribe("+/b", QoS::AtMostOnce).await;
        let publish = other.publish().await;
        assert!(publish.retain && publish.delivery.qos() == QoS::AtMostOnce && publish.payload == "b2");
        other.subscribe("+/b", QoS::AtMostOnce).await;
        assert_eq!(other.message().await.1, "b2");
        other.silence().await;
    }
    broker.stop().await;
}

/// [MQTT-3.3.1-9] to [MQTT-3.3.1-11], [MQTT-3.8.3-3].
#[tokio::test]
async fn subscribers_say_when_they_want_them() {
    let broker = Broker::start().await;
    let mut client = broker.client(Version::Mqtt5, "handling").await;
    retain(&mut client, "h/a", "x", QoS::AtLeastOnce).await;
    let handling = |retain_handling, no_local| Subscription {
        retain_handling,
        no_local,
        ..Subscription::new(text("h/+"), QoS::AtLeastOnce)
    };
    client.subscribe_with([handling(RetainHandling::Never, false)], Default::default()).await;
    client.silence().await;
    client.subscribe_with([handling(RetainHandling::IfNew, false)], Default::default()).await;
    client.silence().await;
    client.subscribe_with([handling(RetainHandling::Always, true)], Default::default()).await;
    client.silence().await;
    client.subscribe_with([handling(RetainHandling::Always, false)], Default::default()).await;
    assert_eq!(client.message().await.1, "x");
    let mut other = broker.client(Version::Mqtt5, "other").await;
    let id = codec_mqtt::SubscriptionId::new(7).map(Property::SubscriptionIdentifier);
    other.subscribe_with([handling(RetainHandling::IfNew, false)], properties(id)).await;
    let publish = other.publish().await;
    assert_eq!(publish.properties.subscription_ids().map(|id| id.get()).collect::<Vec<_>>(), [7]);
    broker.stop().await;
}

/// [MQTT-3.3.2-5], [MQTT-3.3.2-6].
#[tokio::test]
async fn they_expire() {
    let broker = Broker::start().await;
    let mut client = broker.client(Version::Mqtt5, "expiring").await;
    for (topic, expiry_s) in [("e/short", 1), ("e/long", 100)] {
        let packet_id = client.id();
        let properties =
            properties([Property::MessageExpiryInterval(expiry_s), Property::UserProperty(text("a"), text("1"))]);
        client.publish_all(Publish { properties, ..retained(topic, "x", QoS::AtLeastOnce, packet_id) }).await;
    }
    let since = std::time::Instant::now();
    client.subscribe("e/long", QoS::AtLeastOnce).await;
    let publish = client.publish().await;
    assert!((90..=100).contains(&publish.properties.message_expiry_interval_s().unwrap_or(0)));
    assert_eq!(publish.properties.user_properties().count(), 1);
    tokio::time::sleep(Duration::from_millis(1100).saturating_sub(since.elapsed())).await;
    client.subscribe("e/short", QoS::AtLeastOnce).await;
    client.silence().await;
    broker.stop().await;
}

/// Also those that are not kept in memory, and more than wait in a session at once; at any gateway, and after a restart.
#[tokio::test]
async fn many_survive_a_restart() {
    const COUNT: usize = 1000;
    for retained_cache_bytes in [0, 10_000, 64 << 20] {
        let mut config = config();
        config.retained_cache_bytes = retained_cache_bytes;
        config.limits.here_messages_max = 100;
        let broker = Broker::with(config.clone()).await;
        let mut publisher = broker.client(Version::Mqtt311, "publisher").await;
        for number in 0..COUNT {
            // Their number in the packet is not needed: nobody waits.
            publisher
                .send(codec_mqtt::Packet::Publish(retained(
                    &format!("m/{}/{number}", number % 7),
                    &number.to_string(),
                    QoS::AtMostOnce,
                    0,
                )))
                .await;
        }
        retain(&mut publisher, "m/last", "last", QoS::AtLeastOnce).await;
        // Another gateway finds them at once.
        let other = mqtt_gateway::start(broker.core.clone(), config.clone()).await.expect("a gateway");
        let mut client = Client::raw(other.address(), Version::Mqtt311).await;
        client.connect(crate::common::connect(Version::Mqtt311, "elsewhere")).await;
        client.subscribe("m/last", QoS::AtMostOnce).await;
        assert_eq!(client.message().await.1, "last");
        client.subscribe("m/+/#", QoS::AtMostOnce).await;
        assert_eq!(next(&mut client, COUNT + 1).await.len(), COUNT + 1);
        other.stop().await;
        let broker = broker.restart(config).await;
        let mut client = broker.client(Version::Mqtt311, "back").await;
        client.subscribe("m/#", QoS::AtLeastOnce).await;
        let found = next(&mut client, COUNT + 1).await;
        let mut expected: Vec<_> =
            (0..COUNT).map(|number| (format!("m/{}/{number}", number % 7), number.to_string())).collect();
        expected.push(("m/last".into(), "last".into()));
        expected.sort();
        assert_eq!(found, expected);
        client.silence().await;
        broker.stop().await;
    }
}

/// Of what is not in memory only that is read which is wanted; large ones take more than one try.
#[tokio::test]
async fn what_is_not_in_memory_is_read_where_it_lies() {
    let mut config = config();
    config.retained_cache_bytes = 0;
    let broker = Broker::with(config).await;
    let mut publisher = broker.client(Version::Mqtt311, "publisher").await;
    let payload = |number: u16| match number % 50 {
        7 => format!("{number}").repeat(3_000),
        8 => format!("{number}").repeat(40_000),
        _ => format!("{number}"),
    };
    // Names in another order than the messages, so that what is sent together does not lie together.
    let name = |number: u16| format!("far/{:03}", number.wrapping_mul(77) % 400);
    for number in 0..400 {
        retain(&mut publisher, &name(number), &payload(number), QoS::AtLeastOnce).await;
    }
    retain(&mut publisher, &name(9), "", QoS::AtLeastOnce).await;
    let mut expected: Vec<_> =
        (0..400).filter(|number| *number != 9).map(|number| (name(number), payload(number))).collect();
    expected.sort();
    let mut client = broker.client(Version::Mqtt311, "subscriber").await;
    client.subscribe("far/#", QoS::AtLeastOnce).await;
    for one in expected {
        assert!(client.message().await == one, "{}", one.0);
    }
    client.silence().await;
    broker.stop().await;
}
