//! Sessions that outlive their connections.

use codec_mqtt::{Acknowledgement, Connect, Delivery, Packet, Property, QoS, Reason, Version};

use crate::common::{Broker, connect, id, message, persistent, properties, will};

const KEEPING: [Version; 2] = [Version::Mqtt311, Version::Mqtt5];

/// [MQTT-3.1.2-4] to [MQTT-3.1.2-6], [MQTT-3.2.2-2], [MQTT-3.2.2-3]; messages that come meanwhile wait, in order.
#[tokio::test]
async fn a_session_waits_for_its_client() {
    let broker = Broker::start().await;
    for version in KEEPING {
        let mut client = broker.raw(version).await;
        assert!(!client.connect(persistent(version, "away")).await.session_present);
        client.subscribe("away/#", QoS::ExactlyOnce).await;
        client.disconnect().await;
        let mut publisher = broker.client(version, "from").await;
        publisher.publish_to("away/a", "dropped", QoS::AtMostOnce).await;
        for index in 0..300 {
            let qos = if index % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            publisher.publish_to("away/a", index.to_string(), qos).await;
        }
        let mut client = broker.raw(version).await;
        assert!(client.connect(persistent(version, "away")).await.session_present);
        for index in 0..300 {
            assert_eq!(client.message().await.1, index.to_string());
        }
        publisher.publish_to("away/a", "now", QoS::AtMostOnce).await;
        assert_eq!(client.message().await.1, "now");
        client.disconnect().await;
        // Clean.
        let mut client = broker.raw(version).await;
        assert!(!client.connect(connect(version, "away")).await.session_present);
        publisher.publish_to("away/a", "to nobody", QoS::AtLeastOnce).await;
        client.silence().await;
        client.disconnect().await;
    }
    broker.stop().await;
}

/// [MQTT-4.4.0-1]: with the same identifiers, in order, as duplicates; released ones with PUBREL.
#[tokio::test]
async fn what_was_not_acknowledged_comes_again() {
    let broker = Broker::start().await;
    for version in KEEPING {
        let mut client = broker.client_with(persistent(version, "again")).await;
        client.subscribe("again", QoS::ExactlyOnce).await;
        let mut publisher = broker.client(version, "from").await;
        let all = [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce, QoS::AtLeastOnce];
        for (index, qos) in all.into_iter().enumerate() {
            publisher.publish_to("again", index.to_string(), qos).await;
        }
        let mut sent = Vec::new();
        for _ in 0..4 {
            let publish = client.publish().await;
            assert!(!publish.duplicate);
            sent.push(publish.delivery);
        }
        let ids: Vec<_> = sent.iter().filter_map(|delivery| delivery.packet_id()).collect();
        client.send(Packet::Pubrec(Acknowledgement::success(ids[1]))).await;
        assert_eq!(client.packet().await, Packet::Pubrel(Acknowledgement::success(ids[1])));
        drop(client);
        let mut client = broker.raw(version).await;
        assert!(client.connect(persistent(version, "again")).await.session_present);
        for (index, sent) in sent.iter().enumerate() {
            if index == 1 {
                assert_eq!(client.packet().await, Packet::Pubrel(Acknowledgement::success(ids[1])));
                client.send(Packet::Pubcomp(Acknowledgement::success(ids[1]))).await;
                continue;
            }
            let publish = client.publish().await;
            assert!(publish.duplicate);
            assert_eq!((publish.delivery, &*publish.payload), (*sent, index.to_string().as_bytes()));
            match publish.delivery {
                Delivery::AtLeastOnce(id) => client.send(Packet::Puback(Acknowledgement::success(id))).await,
                Delivery::ExactlyOnce(id) => {
                    client.send(Packet::Pubrec(Acknowledgement::success(id))).await;
                }
                Delivery::AtMostOnce => panic!("QoS 0 again"),
            }
        }
        assert_eq!(client.packet().await, Packet::Pubrel(Acknowledgement::success(ids[2])));
        client.send(Packet::Pubcomp(Acknowledgement::success(ids[2]))).await;
        client.silence().await;
        client.disconnect().await;
        broker.client(version, "again").await.disconnect().await;
    }
    broker.stop().await;
}

/// [MQTT-4.3.3-10] over a connection that broke: the identifier is still in use.
#[tokio::test]
async fn exactly_once_survives_a_connection() {
    let broker = Broker::start().await;
    for version in KEEPING {
        let mut subscriber = broker.client(version, "to").await;
        subscriber.subscribe("exactly", QoS::AtLeastOnce).await;
        let mut client = broker.client_with(persistent(version, "from")).await;
        let publish = message("exactly", "1", Delivery::ExactlyOnce(id(3)));
        client.send(Packet::Publish(publish.clone())).await;
        assert_eq!(client.packet().await, Packet::Pubrec(Acknowledgement::success(id(3))));
        drop(client);
        let mut client = broker.raw(version).await;
        assert!(client.connect(persistent(version, "from")).await.session_present);
        client.publish_all(codec_mqtt::Publish { duplicate: true, ..publish }).await;
        client.publish_all(message("exactly", "2", Delivery::ExactlyOnce(id(3)))).await;
        assert_eq!(subscriber.message().await.1, "1");
        assert_eq!(subscriber.message().await.1, "2");
        subscriber.silence().await;
        broker.client(version, "from").await.disconnect().await;
        subscriber.disconnect().await;
    }
    broker.stop().await;
}

/// [MQTT-3.1.2-8], [MQTT-3.1.2-10].
#[tokio::test]
async fn a_will_is_published_for_who_says_no_goodbye() {
    let broker = Broker::start().await;
    for version in KEEPING {
        let mut watcher = broker.client(version, "watches").await;
        watcher.subscribe("wills", QoS::AtLeastOnce).await;
        let with_will = |payload: &'static [u8]| {
            let will = will("wills", payload, QoS::AtLeastOnce);
            Connect { will: Some(will), ..connect(version, "dies") }
        };
        broker.client_with(with_will(b"never")).await.disconnect().await;
        let client = broker.client_with(with_will(b"gone")).await;
        drop(client);
        assert_eq!(watcher.message().await.1, "gone");
        // With a protocol error, too.
        let mut client = broker.client_with(with_will(b"wrong")).await;
        client.send_bytes(b"\x10\0").await;
        assert_eq!(watcher.message().await.1, "wrong");
        if version == Version::Mqtt5 {
            let mut client = broker.client_with(with_will(b"with")).await;
            let reason = Reason::DisconnectWithWill;
            let properties = Default::default();
            client.send(Packet::Disconnect(codec_mqtt::Disconnect { reason, properties })).await;
            assert_eq!(watcher.message().await.1, "with");
        }
        watcher.silence().await;
        watcher.disconnect().await;
    }
    broker.stop().await;
}

/// 3.14.2.2.2: DISCONNECT may shorten what CONNECT has asked for.
#[tokio::test]
async fn a_goodbye_may_end_the_session() {
    let broker = Broker::start().await;
    let mut client = broker.client_with(persistent(Version::Mqtt5, "shortens")).await;
    let expiry = properties([Property::SessionExpiryInterval(0)]);
    client.send(Packet::Disconnect(codec_mqtt::Disconnect { reason: Reason::Success, properties: expiry })).await;
    assert_eq!(client.next().await, None);
    let mut client = broker.raw(Version::Mqtt5).await;
    assert!(!client.connect(persistent(Version::Mqtt5, "shortens")).await.session_present);
    broker.stop().await;
}
