//! What clients publish: acknowledgements, order, exactly once, aliases, windows.

use codec_mqtt::{
    Acknowledgement, Connect, Delivery, Packet, Property, Publish, QoS, Reason, Subscription, TopicAlias, Version,
};
use mqtt_gateway::Config;

use crate::common::{Broker, Client, config, connect, delivery, id, message, persistent, properties, text};

const ALL: [Version; 3] = [Version::Mqtt31, Version::Mqtt311, Version::Mqtt5];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

#[tokio::test]
async fn messages_reach_their_subscribers() {
    let broker = Broker::start().await;
    for from in ALL {
        for to in ALL {
            for published in QOS {
                for wanted in QOS {
                    let mut subscriber = broker.client(to, "to").await;
                    let suback = subscriber.subscribe("sensors/+/temp", wanted).await;
                    assert_eq!(suback.reasons.iter().collect::<Vec<_>>(), [Reason::of(wanted as u8).unwrap()]);
                    let mut publisher = broker.client(from, "from").await;
                    publisher.publish_to("sensors/1/temp", "20.5", published).await;
                    let got = subscriber.publish().await;
                    assert_eq!((&*got.topic, &*got.payload, got.retain), ("sensors/1/temp", &b"20.5"[..], false));
                    assert_eq!(got.delivery.qos(), published.min(wanted), "{from:?} {to:?} {published:?} {wanted:?}");
                    publisher.disconnect().await;
                    subscriber.disconnect().await;
                }
            }
        }
    }
    broker.stop().await;
}

/// Many in one write, of all three, some of them large: they are acknowledged in their order and arrive in it.
#[tokio::test]
async fn order_is_kept() {
    let broker = Broker::start().await;
    let mut subscriber = broker.client(Version::Mqtt5, "to").await;
    subscriber.subscribe("ordered/#", QoS::ExactlyOnce).await;
    let mut publisher = broker.client(Version::Mqtt5, "from").await;
    // The one before makes the topic.
    publisher.publish_to("ordered/a", "first", QoS::AtLeastOnce).await;
    assert_eq!(subscriber.message().await.1, "first");
    let payload = |index: u16| format!("{index} {}", "x".repeat(if index.is_multiple_of(50) { 20_000 } else { 10 }));
    let qos = |index: u16| QOS[usize::from(index % 3)];
    let all = (1..=600).map(|index| Packet::Publish(message("ordered/a", payload(index), delivery(qos(index), index))));
    publisher.send_all(all).await;
    let reading = tokio::spawn(async move {
        for index in 1..=600 {
            assert_eq!(subscriber.message().await.1, payload(index));
        }
        subscriber
    });
    for index in (1..=600u16).filter(|index| index % 3 != 0) {
        let acknowledgement = Acknowledgement::success(id(index));
        match qos(index) {
            QoS::AtLeastOnce => assert_eq!(publisher.packet().await, Packet::Puback(acknowledgement)),
            _ => assert_eq!(publisher.packet().await, Packet::Pubrec(acknowledgement)),
        }
    }
    reading.await.expect("all of them").disconnect().await;
    broker.stop().await;
}

/// [MQTT-4.3.3-10], [MQTT-4.3.3-11].
#[tokio::test]
async fn a_message_that_is_sent_again_is_published_once() {
    let broker = Broker::start().await;
    for version in ALL {
        let mut subscriber = broker.client(version, "to").await;
        subscriber.subscribe("once", QoS::AtLeastOnce).await;
        let mut publisher = broker.client(version, "from").await;
        let first = message("once", "1", Delivery::ExactlyOnce(id(7)));
        let again = Publish { duplicate: true, ..first.clone() };
        publisher.send_all([first, again.clone(), again].map(Packet::Publish)).await;
        for _ in 0..3 {
            assert_eq!(publisher.packet().await, Packet::Pubrec(Acknowledgement::success(id(7))));
        }
        publisher.send(Packet::Pubrel(Acknowledgement::success(id(7)))).await;
        assert_eq!(publisher.packet().await, Packet::Pubcomp(Acknowledgement::success(id(7))));
        // It is another message now.
        publisher.publish_all(message("once", "2", Delivery::ExactlyOnce(id(7)))).await;
        // An identifier that is not in use.
        publisher.send(Packet::Pubrel(Acknowledgement::success(id(9)))).await;
        let reason = if version == Version::Mqtt5 { Reason::PacketIdNotFound } else { Reason::Success };
        assert_eq!(publisher.packet().await, Packet::Pubcomp(Acknowledgement::of(id(9), reason)));
        assert_eq!(subscriber.message().await.1, "1");
        assert_eq!(subscriber.message().await.1, "2");
        subscriber.silence().await;
        publisher.disconnect().await;
        subscriber.disconnect().await;
    }
    broker.stop().await;
}

fn aliased(topic: &str, alias: u16, payload: &str) -> Packet {
    let properties = properties([Property::TopicAlias(TopicAlias(alias.try_into().unwrap()))]);
    let topic = text(topic);
    Packet::Publish(Publish { topic, properties, ..message("x", payload, Delivery::AtMostOnce) })
}

/// 3.3.2.3.4, and [MQTT-3.1.2-27]: both ways.
#[tokio::test]
async fn aliases_stand_for_topics() {
    let broker = Broker::with(Config { topic_alias_maximum: 5, ..config() }).await;
    let asked = Connect { properties: properties([Property::TopicAliasMaximum(1)]), ..connect(Version::Mqtt5, "to") };
    let mut subscriber = broker.client_with(asked).await;
    subscriber.subscribe("#", QoS::AtMostOnce).await;
    let mut publisher = broker.client(Version::Mqtt5, "from").await;
    publisher.send(aliased("topic/a", 5, "1")).await;
    publisher.send(aliased("", 5, "2")).await;
    publisher.send(aliased("topic/b", 5, "3")).await;
    publisher.send(aliased("", 5, "4")).await;
    let mut known = String::new();
    let mut got = Vec::new();
    for _ in 0..4 {
        let publish = subscriber.publish().await;
        let alias = publish.properties.topic_alias().map(|alias| alias.0.get());
        match (publish.topic.is_empty(), alias) {
            (false, Some(1)) => known = publish.topic.to_string(),
            (true, Some(1)) => {}
            (false, None) => {}
            other => panic!("{other:?}"),
        }
        let topic = if publish.topic.is_empty() { known.clone() } else { publish.topic.to_string() };
        got.push((topic, String::from_utf8_lossy(&publish.payload).into_owned()));
    }
    got.sort_by(|(_, one), (_, other)| one.cmp(other));
    let expected = [("topic/a", "1"), ("topic/a", "2"), ("topic/b", "3"), ("topic/b", "4")];
    assert_eq!(got, expected.map(|(topic, payload)| (topic.to_owned(), payload.to_owned())));
    for (topic, alias, reason) in [("a", 6, Reason::TopicAliasInvalid), ("", 4, Reason::ProtocolError)] {
        let mut client = broker.client(Version::Mqtt5, "wrong").await;
        client.send(aliased(topic, alias, "x")).await;
        assert_eq!(client.end().await.map(|told| told.reason), Some(reason));
    }
    broker.stop().await;
}

/// [MQTT-3.3.4-9]: of QoS 2 counts what was not released.
#[tokio::test]
async fn more_than_the_receive_maximum_is_the_end() {
    let broker = Broker::with(Config { receive_maximum: 2, ..config() }).await;
    let publish = |packet_id| Packet::Publish(message("window", "x", Delivery::ExactlyOnce(id(packet_id))));
    let mut client = broker.client(Version::Mqtt5, "window").await;
    client.send_all([publish(1), publish(2)]).await;
    for packet_id in 1..=2 {
        assert_eq!(client.packet().await, Packet::Pubrec(Acknowledgement::success(id(packet_id))));
    }
    client.send(publish(3)).await;
    assert_eq!(client.end().await.map(|told| told.reason), Some(Reason::ReceiveMaximumExceeded));
    broker.stop().await;
}

/// What is larger than CONNACK says is the end (3.2.2.3.6); what is larger than the client takes is not sent to it, and those
/// behind it are [MQTT-3.1.2-24], [MQTT-3.1.2-25].
#[tokio::test]
async fn packets_have_a_maximum_both_ways() {
    let broker = Broker::with(Config { packet_bytes_max: 2000, ..config() }).await;
    let maximum = Property::MaximumPacketSize(200.try_into().unwrap());
    let asked = Connect { properties: properties([maximum]), ..connect(Version::Mqtt5, "to") };
    let mut subscriber = broker.client_with(asked).await;
    subscriber.subscribe("large", QoS::ExactlyOnce).await;
    let mut publisher = broker.client(Version::Mqtt5, "from").await;
    for qos in QOS {
        publisher.publish_to("large", vec![b'x'; 300], qos).await;
        publisher.publish_to("large", "small", qos).await;
        assert_eq!(subscriber.message().await.1, "small");
    }
    publisher.send(Packet::Publish(message("large", vec![b'x'; 3000], Delivery::AtMostOnce))).await;
    assert_eq!(publisher.end().await.map(|told| told.reason), Some(Reason::PacketTooLarge));
    broker.stop().await;
}

/// [MQTT-3.2.2-19]: an answer without its string, where that is too large; without any, where nothing is small enough.
#[tokio::test]
async fn an_answer_is_as_small_as_the_client_wants() {
    let broker = Broker::start().await;
    for (maximum, is_answered) in [(30, true), (5, true), (4, false)] {
        let maximum = Property::MaximumPacketSize(maximum.try_into().unwrap());
        let method = Property::AuthenticationMethod(text("none"));
        let mut client = broker.raw(Version::Mqtt5).await;
        let asked = Connect { properties: properties([maximum, method]), ..connect(Version::Mqtt5, "small") };
        client.send(Packet::Connect(Box::new(asked))).await;
        match client.next().await {
            Some(Packet::Connack(connack)) if is_answered => {
                assert_eq!(connack.reason, Reason::BadAuthenticationMethod);
                assert!(connack.properties.is_empty());
                assert_eq!(client.next().await, None);
            }
            None if !is_answered => {}
            other => panic!("{other:?}"),
        }
    }
    broker.stop().await;
}

/// [MQTT-4.7.2-1]: the server's own names. Older versions cannot be told (3.3.5 of 3.1.1).
#[tokio::test]
async fn names_of_the_server_are_refused() {
    let broker = Broker::start().await;
    let mut subscriber = broker.client(Version::Mqtt5, "to").await;
    subscriber.subscribe("$SYS/mine", QoS::AtMostOnce).await;
    for version in [Version::Mqtt311, Version::Mqtt5] {
        let mut client = broker.client(version, "from").await;
        let reason = if version == Version::Mqtt5 { Reason::NotAuthorized } else { Reason::Success };
        client.send(Packet::Publish(message("$SYS/mine", "x", delivery(QoS::AtLeastOnce, 1)))).await;
        assert_eq!(client.packet().await, Packet::Puback(Acknowledgement::of(id(1), reason)));
        client.send(Packet::Publish(message("$SYS/mine", "x", delivery(QoS::ExactlyOnce, 2)))).await;
        assert_eq!(client.packet().await, Packet::Pubrec(Acknowledgement::of(id(2), reason)));
        client.disconnect().await;
    }
    subscriber.silence().await;
    broker.stop().await;
}

/// What was published before a goodbye in the same write is kept, and acknowledged by nobody who is gone.
#[tokio::test]
async fn a_goodbye_does_not_overtake_messages() {
    let broker = Broker::start().await;
    let mut subscriber = broker.client(Version::Mqtt311, "to").await;
    subscriber.subscribe("bye/+", QoS::AtLeastOnce).await;
    for qos in QOS {
        let mut client = broker.client(Version::Mqtt311, "from").await;
        let publish = Packet::Publish(message("bye/now", "last words", delivery(qos, 1)));
        client.send_all([publish, Packet::Disconnect(Default::default())]).await;
        assert_eq!(subscriber.message().await.1, "last words");
        while client.next().await.is_some() {}
    }
    broker.stop().await;
}

/// 3.8.3.1: no-local, and what bridges get.
#[tokio::test]
async fn own_messages_come_back_unless_they_are_not_wanted() {
    let broker = Broker::start().await;
    let mut client = broker.client(Version::Mqtt5, "own").await;
    let no_local = Subscription { no_local: true, ..Subscription::new(text("local/no"), QoS::AtLeastOnce) };
    let local = Subscription::new(text("local/yes"), QoS::AtLeastOnce);
    client.subscribe_with([no_local, local], Default::default()).await;
    client.publish_to("local/no", "no", QoS::AtMostOnce).await;
    client.publish_to("local/yes", "yes", QoS::AtMostOnce).await;
    assert_eq!(client.message().await.1, "yes");
    let mut other = broker.client(Version::Mqtt5, "other").await;
    other.publish_to("local/no", "other's", QoS::AtMostOnce).await;
    assert_eq!(client.message().await.1, "other's");
    let mut bridge: Client = broker.client_with(Connect { bridge: true, ..connect(Version::Mqtt311, "bridge") }).await;
    bridge.subscribe("local/#", QoS::AtLeastOnce).await;
    bridge.publish_to("local/bridged", "x", QoS::AtMostOnce).await;
    bridge.silence().await;
    broker.stop().await;
}

/// EMQX's `$delayed/SECONDS/NAME`.
#[tokio::test]
async fn a_delayed_message_comes_when_it_is_due() {
    let broker = Broker::start().await;
    let mut subscriber = broker.client(Version::Mqtt5, "to").await;
    subscriber.subscribe("later", QoS::ExactlyOnce).await;
    let mut publisher = broker.client(Version::Mqtt5, "from").await;
    let begun = std::time::Instant::now();
    for qos in QOS {
        publisher.publish_to("$delayed/1/later", "x", qos).await;
    }
    for _ in QOS {
        assert_eq!(subscriber.message().await, ("later".to_owned(), "x".to_owned()));
    }
    assert!(begun.elapsed() >= std::time::Duration::from_secs(1));
    publisher.send(Packet::Publish(message("$delayed/soon/later", "x", delivery(QoS::AtLeastOnce, 9)))).await;
    let refused = Acknowledgement::of(id(9), Reason::TopicNameInvalid);
    assert_eq!(publisher.packet().await, Packet::Puback(refused));
    broker.stop().await;
}

/// What is refused for its number was not taken: sent again it is published. And what earlier connections have left does not count (4.9).
#[tokio::test]
async fn the_receive_maximum_counts_a_connections_messages_and_loses_none() {
    let broker = Broker::with(Config { receive_maximum: 2, ..config() }).await;
    let mut subscriber = broker.client(Version::Mqtt5, "to").await;
    subscriber.subscribe("counted", QoS::AtLeastOnce).await;
    let publish = |number: u16| message("counted", number.to_string(), delivery(QoS::ExactlyOnce, number));
    let mut client = broker.client_with(persistent(Version::Mqtt5, "from")).await;
    client.send_all((1..=3).map(publish).map(Packet::Publish)).await;
    assert_eq!(client.end().await.unwrap().reason, Reason::ReceiveMaximumExceeded);
    let mut client = broker.client_with(persistent(Version::Mqtt5, "from")).await;
    for number in [3, 4] {
        client.publish_all(publish(number)).await;
    }
    for number in ["1", "2", "3", "4"] {
        assert_eq!(subscriber.message().await.1, number);
    }
    subscriber.silence().await;
    broker.stop().await;
}

/// As large as a packet may be, behind a small one, and retained; of QoS 2 it needs more than one commit.
#[tokio::test]
async fn large_messages_are_kept() {
    let broker = Broker::with(Config { packet_bytes_max: 70 << 20, ..config() }).await;
    let mut subscriber = broker.client(Version::Mqtt5, "to").await;
    subscriber.subscribe("large", QoS::ExactlyOnce).await;
    let mut publisher = broker.client_with(persistent(Version::Mqtt5, "from")).await;
    let payload = vec![7; (70 << 20) - 100];
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let large = Publish { retain: true, ..message("large", &payload, delivery(qos, 2)) };
        publisher.send_all([Packet::Publish(message("large", "small", Delivery::AtMostOnce))]).await;
        publisher.publish_all(large).await;
        assert_eq!(subscriber.message().await.1, "small");
        assert_eq!(subscriber.publish().await.payload.len(), payload.len());
    }
    broker.stop().await;
}
