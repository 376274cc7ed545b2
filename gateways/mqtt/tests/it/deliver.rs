//! What clients are sent: windows, expiry, properties, and those who do not read.

use std::time::Duration;

use codec_mqtt::{Acknowledgement, Connect, Delivery, Packet, Property, Publish, QoS, Reason, Version};

use crate::common::{Broker, connect, id, message, properties, text, will, within};

/// [MQTT-3.3.4-7]: no more than the client's receive maximum is in flight; QoS 0 does not count.
#[tokio::test]
async fn a_window_is_kept() {
    let broker = Broker::start().await;
    let asked = properties([Property::ReceiveMaximum(2.try_into().unwrap())]);
    let mut subscriber = broker.client_with(Connect { properties: asked, ..connect(Version::Mqtt5, "to") }).await;
    subscriber.subscribe("window", QoS::AtLeastOnce).await;
    let mut publisher = broker.client(Version::Mqtt5, "from").await;
    for index in 0..5 {
        publisher.publish_to("window", index.to_string(), QoS::AtLeastOnce).await;
    }
    let first = subscriber.publish().await;
    let second = subscriber.publish().await;
    assert_eq!((&*first.payload, &*second.payload), (&b"0"[..], &b"1"[..]));
    subscriber.silence().await;
    for publish in [first, second] {
        let acknowledgement = Acknowledgement::success(publish.delivery.packet_id().unwrap());
        subscriber.send(Packet::Puback(acknowledgement)).await;
    }
    for index in 2..5 {
        assert_eq!(subscriber.message().await.1, index.to_string());
    }
    broker.stop().await;
}

/// A PUBREC with a failure ends a message (4.3.3); one for nothing is told so.
#[tokio::test]
async fn a_message_may_be_refused() {
    let broker = Broker::start().await;
    let asked = properties([Property::ReceiveMaximum(1.try_into().unwrap())]);
    let mut client = broker.client_with(Connect { properties: asked, ..connect(Version::Mqtt5, "to") }).await;
    client.subscribe("refused", QoS::ExactlyOnce).await;
    let mut publisher = broker.client(Version::Mqtt5, "from").await;
    publisher.publish_to("refused", "1", QoS::ExactlyOnce).await;
    publisher.publish_to("refused", "2", QoS::ExactlyOnce).await;
    let first = client.publish().await;
    let packet_id = first.delivery.packet_id().unwrap();
    client.send(Packet::Pubrec(Acknowledgement::of(packet_id, Reason::QuotaExceeded))).await;
    assert_eq!(client.message().await.1, "2");
    client.silence().await;
    client.send(Packet::Pubrec(Acknowledgement::success(id(999)))).await;
    let unknown = Acknowledgement::of(id(999), Reason::PacketIdNotFound);
    assert_eq!(client.packet().await, Packet::Pubrel(unknown));
    // What is acknowledged twice, or never was sent, changes nothing.
    client.send(Packet::Puback(Acknowledgement::success(id(998)))).await;
    client.send(Packet::Pubcomp(Acknowledgement::success(id(997)))).await;
    client.silence().await;
    broker.stop().await;
}

/// 4.3: an acknowledgement of another QoS than its message's.
#[tokio::test]
async fn another_acknowledgement_than_awaited_is_the_end() {
    let broker = Broker::start().await;
    let mut publisher = broker.client(Version::Mqtt5, "from").await;
    for (qos, answer) in [
        (QoS::AtLeastOnce, Packet::Pubrec as fn(Acknowledgement) -> Packet),
        (QoS::AtLeastOnce, Packet::Pubcomp),
        (QoS::ExactlyOnce, Packet::Puback),
        (QoS::ExactlyOnce, Packet::Pubcomp),
    ] {
        let mut client = broker.client(Version::Mqtt5, "to").await;
        client.subscribe("awaited", qos).await;
        publisher.publish_to("awaited", "x", qos).await;
        let packet_id = client.publish().await.delivery.packet_id().unwrap();
        client.send(answer(Acknowledgement::success(packet_id))).await;
        assert_eq!(client.end().await.map(|told| told.reason), Some(Reason::ProtocolError));
    }
    broker.stop().await;
}

/// [MQTT-3.3.2-6] and the properties that a receiver gets as they were [MQTT-3.3.2-17], [MQTT-3.3.2-20].
#[tokio::test]
async fn properties_come_as_they_were() {
    let broker = Broker::start().await;
    let mut subscriber = broker.client(Version::Mqtt5, "to").await;
    subscriber.subscribe("with/properties", QoS::AtLeastOnce).await;
    let mut older = broker.client(Version::Mqtt311, "older").await;
    older.subscribe("with/properties", QoS::AtLeastOnce).await;
    let mut publisher = broker.client(Version::Mqtt5, "from").await;
    let sent = [
        Property::UserProperty(text("b"), text("1")),
        Property::MessageExpiryInterval(100),
        Property::PayloadFormatIndicator(true),
        Property::UserProperty(text("a"), text("2")),
        Property::ResponseTopic(text("answers")),
        Property::ContentType(text("text/plain")),
    ];
    let publish = message("with/properties", "x", Delivery::AtLeastOnce(id(1)));
    publisher.publish_all(Publish { properties: properties(sent.clone()), ..publish }).await;
    let got = subscriber.publish().await.properties;
    assert!(got.message_expiry_interval_s().is_some_and(|left| (90..=100).contains(&left)));
    let but_expiry = |property: &Property| !matches!(property, Property::MessageExpiryInterval(_));
    let got: Vec<Property> = got.iter().filter(but_expiry).collect();
    let sent: Vec<Property> = sent.into_iter().filter(but_expiry).collect();
    assert_eq!(got, sent);
    assert_eq!(older.message().await.1, "x");
    broker.stop().await;
}

/// A client that does not read delays nobody else, and gets what it was promised when it reads again.
#[tokio::test]
async fn who_does_not_read_delays_nobody() {
    let broker = Broker::start().await;
    let mut slow = broker.client(Version::Mqtt311, "slow").await;
    slow.subscribe("flood", QoS::AtLeastOnce).await;
    let mut quick = broker.client(Version::Mqtt311, "quick").await;
    quick.subscribe("flood", QoS::AtLeastOnce).await;
    let mut publisher = broker.client(Version::Mqtt311, "from").await;
    let payload = "x".repeat(64 << 10);
    let publishing = tokio::spawn(async move {
        for index in 0..300 {
            publisher.publish_to("flood", format!("{index} {payload}"), QoS::AtLeastOnce).await;
        }
    });
    for index in 0..300 {
        assert!(quick.message().await.1.starts_with(&format!("{index} ")));
    }
    publishing.await.expect("all published");
    for index in 0..300 {
        assert!(slow.message().await.1.starts_with(&format!("{index} ")));
    }
    broker.stop().await;
}

/// What is published while a client writes and never reads bounds what is kept for it: it is left waiting.
#[tokio::test]
async fn who_only_writes_is_left_waiting() {
    let broker = Broker::start().await;
    let mut client = broker.client(Version::Mqtt311, "writes").await;
    let pings = [0xc0, 0].repeat(64 << 10);
    let writing = async {
        for _ in 0..1000 {
            client.send_bytes(&pings).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(2), writing).await.is_err(), "nobody takes 64 MiB of pings");
    let mut other = broker.client(Version::Mqtt311, "other").await;
    within(other.silence()).await;
    other.publish_to("any", "x", QoS::AtLeastOnce).await;
    drop(client);
    broker.stop().await;
}

/// [MQTT-3.1.2-22]: also a client that does not read, so that nothing is read of it either, has to say something.
#[tokio::test]
async fn who_is_silent_and_does_not_read_is_gone() {
    let broker = Broker::start().await;
    let mut watcher = broker.client(Version::Mqtt5, "watches").await;
    watcher.subscribe("wills", QoS::AtLeastOnce).await;
    let with_will = |client_id: &str| Connect {
        keep_alive_s: 1,
        will: Some(will("wills", client_id.as_bytes(), QoS::AtLeastOnce)),
        ..connect(Version::Mqtt5, client_id)
    };
    let mut silent = broker.client_with(with_will("silent")).await;
    silent.subscribe("flood", QoS::AtMostOnce).await;
    let mut pinging = broker.client_with(with_will("pinging")).await;
    pinging.subscribe("flood", QoS::AtMostOnce).await;
    let mut publisher = broker.client(Version::Mqtt5, "from").await;
    // More than sockets and we take for a client.
    for _ in 0..30 {
        publisher.publish_to("flood", vec![b'x'; 1 << 20], QoS::AtLeastOnce).await;
        pinging.send(Packet::Pingreq).await;
    }
    let told = async {
        loop {
            pinging.send(Packet::Pingreq).await;
            if let Ok(told) = tokio::time::timeout(Duration::from_millis(300), watcher.message()).await {
                break told.1;
            }
        }
    };
    assert_eq!(within(told).await, "silent");
    for _ in 0..10 {
        pinging.send(Packet::Pingreq).await;
        watcher.silence().await;
    }
    broker.stop().await;
}
