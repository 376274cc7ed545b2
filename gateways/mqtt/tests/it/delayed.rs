//! `$delayed/SECONDS/NAME`: messages that are published later, and names that say nothing that can be done.

use std::time::{Duration, Instant};

use codec_mqtt::{Acknowledgement, Packet, Property, Publish, QoS, Reason, Version, Will};

use crate::common::{Broker, connect, delivery, id, message, properties, text, will};

const ALL: [Version; 3] = [Version::Mqtt31, Version::Mqtt311, Version::Mqtt5];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

#[tokio::test]
async fn messages_come_later_as_they_were_published() {
    let broker = Broker::start().await;
    let mut subscriber = broker.client(Version::Mqtt5, "to").await;
    subscriber.subscribe("later/#", QoS::ExactlyOnce).await;
    for version in ALL {
        let mut publisher = broker.client(version, "from").await;
        for qos in QOS {
            let begun = Instant::now();
            publisher.publish_to("$delayed/1/later/a", "delayed", qos).await;
            publisher.publish_to("later/a", "at once", QoS::AtLeastOnce).await;
            assert_eq!(subscriber.message().await.1, "at once");
            let got = subscriber.publish().await;
            assert!(begun.elapsed() >= Duration::from_secs(1), "after {:?}", begun.elapsed());
            assert_eq!((&*got.topic, &*got.payload, got.delivery.qos()), ("later/a", &b"delayed"[..], qos));
        }
        publisher.disconnect().await;
    }
    broker.stop().await;
}

#[tokio::test]
async fn properties_and_the_retain_flag_wait_with_it() {
    let broker = Broker::start().await;
    let mut publisher = broker.client(Version::Mqtt5, "from").await;
    let delayed = |name: &str, payload: &str, packet_id, property: Property| Publish {
        retain: true,
        properties: properties([property]),
        ..message(name, payload, delivery(QoS::AtLeastOnce, packet_id))
    };
    let named = || Property::UserProperty(text("a"), text("b"));
    publisher.publish_all(delayed("$delayed/1/later/kept", "kept", 1, named())).await;
    // When it is due, its time is over; what was published behind it comes.
    publisher.publish_all(delayed("$delayed/2/later/kept", "expired", 2, Property::MessageExpiryInterval(1))).await;
    publisher.publish_all(delayed("$delayed/2/later/last", "last", 3, named())).await;
    let mut subscriber = broker.client(Version::Mqtt5, "to").await;
    subscriber.subscribe("later/#", QoS::AtLeastOnce).await;
    let got = subscriber.publish().await;
    assert_eq!((&*got.topic, &*got.payload), ("later/kept", &b"kept"[..]));
    assert_eq!(got.properties.iter().collect::<Vec<_>>(), [Property::UserProperty(text("a"), text("b"))]);
    subscriber.send(Packet::Puback(Acknowledgement::success(id(1)))).await;
    let got = subscriber.publish().await;
    assert_eq!((&*got.topic, &*got.payload), ("later/last", &b"last"[..]));
    broker.stop().await;
}

#[tokio::test]
async fn a_will_may_be_delayed() {
    let broker = Broker::start().await;
    let mut subscriber = broker.client(Version::Mqtt5, "to").await;
    subscriber.subscribe("later/#", QoS::AtLeastOnce).await;
    let last: Will = will("$delayed/1/later/will", b"gone", QoS::AtLeastOnce);
    let mut client =
        broker.client_with(codec_mqtt::Connect { will: Some(last), ..connect(Version::Mqtt5, "from") }).await;
    let begun = Instant::now();
    client.send_bytes(b"\xff\xff\xff\xff\xff\xff").await;
    client.end().await;
    assert_eq!(subscriber.message().await, ("later/will".into(), "gone".into()));
    assert!(begun.elapsed() >= Duration::from_secs(1));
    broker.stop().await;
}

#[tokio::test]
async fn names_that_say_nothing_are_refused() {
    let broker = Broker::start().await;
    let mut publisher = broker.client(Version::Mqtt5, "from").await;
    let far = format!("$delayed/{}/a", u64::MAX);
    for name in ["$delayed/a", "$delayed/x/a", "$delayed/1/", "$delayed/1/$SYS/a", &far] {
        let packet_id = id(publisher.id());
        publisher.send(Packet::Publish(message(name, "x", delivery(QoS::AtLeastOnce, packet_id.get())))).await;
        let refused = Acknowledgement::of(packet_id, Reason::TopicNameInvalid);
        assert_eq!(publisher.packet().await, Packet::Puback(refused), "{name}");
    }
    broker.stop().await;
}
