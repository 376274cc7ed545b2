//! CONNECT, CONNACK, and how connections end.

use std::time::Duration;

use codec_mqtt::{Connack, Disconnect, Packet, Property, Reason, Version};
use mqtt_gateway::Config;

use crate::common::{Broker, config, connect, persistent, properties, text};

const ALL: [Version; 3] = [Version::Mqtt31, Version::Mqtt311, Version::Mqtt5];

#[tokio::test]
async fn clients_of_all_versions_are_let_in() {
    let broker = Broker::start().await;
    for version in ALL {
        let mut client = broker.raw(version).await;
        let connack = client.connect(connect(version, "let-in")).await;
        assert_eq!((connack.session_present, connack.reason), (false, Reason::Success));
        client.send(Packet::Pingreq).await;
        assert_eq!(client.packet().await, Packet::Pingresp);
        client.disconnect().await;
    }
    broker.stop().await;
}

/// [MQTT-3.2.2-16], and what else CONNACK tells.
#[tokio::test]
async fn version_5_is_told_its_name_and_the_limits() {
    let broker = Broker::with(Config { keep_alive_max_s: 60, session_expiry_max_s: 100, ..config() }).await;
    let mut client = broker.raw(Version::Mqtt5).await;
    let asked = properties([Property::SessionExpiryInterval(u32::MAX)]);
    let connack = client.connect(codec_mqtt::Connect { properties: asked, ..connect(Version::Mqtt5, "") }).await;
    let told = connack.properties;
    assert!(told.assigned_client_id().is_some_and(|id| id.starts_with("auto-") && id.len() == 37));
    assert_eq!(told.server_keep_alive_s(), Some(60));
    assert_eq!(told.session_expiry_interval_s(), Some(100));
    assert_eq!(told.receive_maximum().map(u16::from), Some(1000));
    assert_eq!(told.topic_alias_maximum(), Some(100));
    assert_eq!(told.maximum_packet_size_bytes().map(u32::from), Some(16 << 20));
    broker.stop().await;
}

/// What may be refused is refused in the version's way.
#[tokio::test]
async fn refusals_are_of_their_version() {
    let broker = Broker::start().await;
    // [3.1.1: MQTT-3.1.2-2]
    let mut client = broker.raw(Version::Mqtt311).await;
    client.send_bytes(b"\x10\x0d\0\x04MQTT\x09\x02\0\0\0\x01a").await;
    let refused = |reason| Packet::Connack(Connack { reason, ..Connack::default() });
    assert_eq!(client.packet().await, refused(Reason::UnsupportedProtocolVersion));
    assert_eq!(client.end().await, None);
    // [3.1.1: MQTT-3.1.3-8]: an empty identifier of a session that is to stay.
    let mut client = broker.raw(Version::Mqtt311).await;
    client.send_bytes(b"\x10\x0c\0\x04MQTT\x04\0\0\0\0\0").await;
    assert_eq!(client.packet().await, refused(Reason::ClientIdNotValid));
    assert_eq!(client.end().await, None);
    // Another protocol, and another packet first [MQTT-3.1.0-1], get nothing.
    for bytes in [&b"\x10\x0d\0\x04HTTP\x04\x02\0\0\0\x01a"[..], b"\xc0\0", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut client = broker.raw(Version::Mqtt311).await;
        client.send_bytes(bytes).await;
        assert_eq!(client.next().await, None);
    }
    let mut client = broker.raw(Version::Mqtt5).await;
    let asked = properties([Property::AuthenticationMethod(text("GS2-KRB5"))]);
    let connack = client.connect(codec_mqtt::Connect { properties: asked, ..connect(Version::Mqtt5, "a") }).await;
    assert_eq!(connack.reason, Reason::BadAuthenticationMethod);
    assert_eq!(client.end().await, None);
    broker.stop().await;
}

/// [MQTT-3.1.0-2], with a reason where the version has one.
#[tokio::test]
async fn a_second_connect_is_the_end() {
    let broker = Broker::start().await;
    for version in ALL {
        let mut client = broker.client(version, "twice").await;
        client.send(Packet::Connect(Box::new(connect(version, "twice")))).await;
        let told = client.end().await.map(|disconnect: Disconnect| disconnect.reason);
        assert_eq!(told, (version == Version::Mqtt5).then_some(Reason::ProtocolError));
    }
    broker.stop().await;
}

/// 3.1.2.11.7: who does not want to know why is not told.
#[tokio::test]
async fn reasons_are_told_to_who_wants_them() {
    let broker = Broker::start().await;
    for wants in [true, false] {
        let asked = properties([Property::RequestProblemInformation(wants)]);
        let asked = codec_mqtt::Connect { properties: asked, ..connect(Version::Mqtt5, "why") };
        let mut client = broker.client_with(asked).await;
        client.send_bytes(b"\x36\x00").await;
        let told = client.end().await.expect("a DISCONNECT");
        assert_eq!(told.reason, Reason::MalformedPacket);
        assert_eq!(told.properties.reason_string().is_some(), wants);
    }
    broker.stop().await;
}

/// [MQTT-3.1.4-3].
#[tokio::test]
async fn the_newer_connection_has_the_identifier() {
    let broker = Broker::start().await;
    for version in ALL {
        let mut older = broker.client_with(persistent(version, "same")).await;
        let mut newer = broker.raw(version).await;
        let connack = newer.connect(persistent(version, "same")).await;
        assert_eq!(connack.reason, Reason::Success);
        let told = older.end().await.map(|disconnect| disconnect.reason);
        assert_eq!(told, (version == Version::Mqtt5).then_some(Reason::SessionTakenOver));
        newer.send(Packet::Pingreq).await;
        assert_eq!(newer.packet().await, Packet::Pingresp);
        newer.disconnect().await;
    }
    broker.stop().await;
}

/// [MQTT-3.1.2-22]: after one and a half keep alives.
#[tokio::test]
async fn who_is_silent_is_let_go() {
    let broker = Broker::start().await;
    let asked = codec_mqtt::Connect { keep_alive_s: 1, ..connect(Version::Mqtt5, "silent") };
    let mut client = broker.client_with(asked).await;
    let begun = tokio::time::Instant::now();
    let told = client.end().await.expect("a DISCONNECT");
    assert_eq!(told.reason, Reason::KeepAliveTimeout);
    assert!(begun.elapsed() >= Duration::from_millis(1400));
    broker.stop().await;
}

#[tokio::test]
async fn a_gateway_that_stops_says_goodbye() {
    let broker = Broker::start().await;
    let mut client = broker.client(Version::Mqtt5, "stops").await;
    let stopping = tokio::spawn(broker.stop());
    assert_eq!(client.end().await.map(|told| told.reason), Some(Reason::ServerShuttingDown));
    drop(client);
    stopping.await.expect("a stop");
}

/// 3.14.2.2.2.
#[tokio::test]
async fn a_session_that_was_to_end_cannot_be_kept_by_a_goodbye() {
    let broker = Broker::start().await;
    let mut client = broker.client(Version::Mqtt5, "keeps").await;
    let expiry = properties([Property::SessionExpiryInterval(10)]);
    client.send(Packet::Disconnect(Disconnect { reason: Reason::Success, properties: expiry })).await;
    assert_eq!(client.end().await.map(|told| told.reason), Some(Reason::ProtocolError));
    broker.stop().await;
}
