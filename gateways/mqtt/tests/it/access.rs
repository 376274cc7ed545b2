//! Who is let in and what it may do, over whole connections: logins, rules, rewrite, automatic and exclusive subscriptions,
//! `$SYS`, WebSockets.

use std::time::Duration;

use codec_mqtt::{
    Auth, Binary, Connect, Delivery, Packet, Property, Publish, QoS, Reason, Suback, Unsubscribe, Version,
};
use core_rpc::{Core, MetaCondition, MetaPut};
use gateway_runtime::users::{User, Users};
use mqtt_gateway::state::access::AccessConfig;
use mqtt_gateway::{Config, WebSocketListen};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::*;

const QOS1: QoS = QoS::AtLeastOnce;

fn reasons(suback: &Suback) -> Vec<Reason> {
    suback.reasons.iter().collect()
}

fn with_password(client_id: &str, name: &str, password: &str) -> Connect {
    let password = Binary::new(password.as_bytes().to_vec());
    Connect { user_name: Some(text(name)), password, ..connect(Version::Mqtt5, client_id) }
}

/// The reason with which a message of QoS 1 is answered.
async fn published(client: &mut Client, topic: &str) -> Reason {
    let packet_id = client.id();
    client.send(Packet::Publish(message(topic, "x", delivery(QOS1, packet_id)))).await;
    match client.packet().await {
        Packet::Puback(puback) => puback.reason,
        other => panic!("{other:?} instead of PUBACK"),
    }
}

#[tokio::test]
async fn who_logs_in_has_to_know_the_password() {
    let broker = Broker::start().await;
    let users = Users::new(broker.core.clone(), &[]).unwrap();
    let ann = User::of_password("right").unwrap();
    users.change("ann", |user| *user = ann.clone()).await.unwrap();
    for (connect, reason) in [
        (with_password("a", "ann", "right"), Reason::Success),
        (with_password("a", "ann", "wrong"), Reason::BadUserNameOrPassword),
        (connect(Version::Mqtt5, "a"), Reason::Success),
        (Connect { version: Version::Mqtt311, ..with_password("a", "ann", "wrong") }, Reason::BadUserNameOrPassword),
    ] {
        let mut client = broker.raw(connect.version).await;
        assert_eq!(client.connect(connect).await.reason, reason);
    }
    broker.stop().await;

    let access = AccessConfig { allow_anonymous: false, ..AccessConfig::default() };
    let broker = Broker::with(Config { access, ..config() }).await;
    let mut client = broker.raw(Version::Mqtt5).await;
    assert_eq!(client.connect(connect(Version::Mqtt5, "a")).await.reason, Reason::NotAuthorized);
    broker.stop().await;
}

#[tokio::test]
async fn unknown_methods_and_broken_exchanges_are_refused() {
    let broker = Broker::start().await;
    let method = |name: &str| Property::AuthenticationMethod(text(name));
    let with = |properties| Connect { properties, ..connect(Version::Mqtt5, "a") };
    let mut client = broker.raw(Version::Mqtt5).await;
    let connack = client.connect(with(properties([method("GS2-KRB5")]))).await;
    assert_eq!(connack.reason, Reason::BadAuthenticationMethod);

    let mut client = broker.raw(Version::Mqtt5).await;
    let data = Property::AuthenticationData(Binary::new(b"n,,n=nobody,r=abc".to_vec()).unwrap());
    client.send(Packet::Connect(Box::new(with(properties([method("SCRAM-SHA-256"), data]))))).await;
    let Packet::Auth(challenge) = client.packet().await else { panic!("no AUTH") };
    assert_eq!(challenge.reason, Reason::ContinueAuthentication);
    let data = challenge.properties.authentication_data().unwrap();
    let nonce = String::from_utf8(data.to_vec()).unwrap().split(',').next().unwrap().to_owned();
    let last = Binary::new(format!("c=biws,{nonce},p=AAAA").into_bytes()).unwrap();
    let answer = properties([method("SCRAM-SHA-256"), Property::AuthenticationData(last)]);
    client.send(Packet::Auth(Auth { reason: Reason::ContinueAuthentication, properties: answer })).await;
    match client.packet().await {
        Packet::Connack(connack) => assert_eq!(connack.reason, Reason::NotAuthorized),
        other => panic!("{other:?} instead of CONNACK"),
    }
    broker.stop().await;
}

#[tokio::test]
async fn an_acl_file_says_who_publishes_and_who_reads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("acl");
    std::fs::write(&path, "topic readwrite open/#\ntopic deny open/secret\npattern write own/%c/#\n").unwrap();
    let access = AccessConfig { acl_file: Some(path), ..AccessConfig::default() };
    let broker = Broker::with(Config { access, ..config() }).await;
    let mut reader = broker.client(Version::Mqtt5, "reader").await;
    // Any filter may be subscribed to; what may not be read is left out.
    assert_eq!(reasons(&reader.subscribe("#", QOS1).await), [Reason::GrantedQoS1]);
    let mut writer = broker.client(Version::Mqtt5, "writer").await;
    assert_eq!(published(&mut writer, "closed").await, Reason::NotAuthorized);
    assert_eq!(published(&mut writer, "open/secret").await, Reason::NotAuthorized);
    assert_eq!(published(&mut writer, "own/reader/a").await, Reason::NotAuthorized);
    assert_eq!(published(&mut writer, "own/writer/a").await, Reason::Success);
    assert_eq!(published(&mut writer, "open/a").await, Reason::Success);
    assert_eq!(reader.message().await.0, "open/a");
    reader.silence().await;

    let will = Some(will("closed", b"x", QOS1));
    let mut client = broker.raw(Version::Mqtt5).await;
    let connack = client.connect(Connect { will, ..connect(Version::Mqtt5, "c") }).await;
    assert_eq!(connack.reason, Reason::NotAuthorized);
    broker.stop().await;
}

/// As mosquitto, which asks when the will is published; CONNECT asks, too.
#[tokio::test]
async fn a_will_goes_only_where_its_client_may_publish_when_it_is_published() {
    let broker = Broker::start().await;
    let users = Users::new(broker.core.clone(), &[]).unwrap();
    let ann = User::of_password("right").unwrap();
    users.change("ann", |user| *user = ann.clone()).await.unwrap();
    let mut watcher = broker.client(Version::Mqtt5, "watcher").await;
    watcher.subscribe("wills/#", QOS1).await;
    let mut clients = Vec::new();
    for (client_id, topic) in [("one", "wills/ann"), ("two", "wills/nobody")] {
        let will = Some(will(topic, client_id.as_bytes(), QOS1));
        let mut client = broker.raw(Version::Mqtt5).await;
        assert_eq!(
            client.connect(Connect { will, ..with_password(client_id, "ann", "right") }).await.reason,
            Reason::Success
        );
        clients.push(client);
    }
    let rules = r##"{"rules": [{"action": "subscribe", "permission": "allow", "topic": "#"},
        {"user": "ann", "action": "publish", "permission": "allow", "topic": "wills/ann"}], "no_match": "deny"}"##;
    let condition = MetaCondition::Always;
    let put = MetaPut { key: "mqtt/acl".into(), value: rules.into(), condition, session: None };
    broker.core.meta_put(put).await.expect("rules");
    let mut prober = broker.client(Version::Mqtt5, "prober").await;
    while published(&mut prober, "wills/x").await != Reason::NotAuthorized {}
    clients.reverse();
    drop(clients);
    loop {
        let (topic, payload) = watcher.message().await;
        // What was let through before the rules were known.
        if topic != "wills/x" {
            assert_eq!((&*topic, &*payload), ("wills/ann", "one"));
            break;
        }
    }
    watcher.silence().await;
    broker.stop().await;
}

#[tokio::test]
async fn names_are_rewritten_both_ways() {
    let rule = r#"{"source_topic":"old/#","re":"^old/(.+)$","dest_topic":"new/${clientid}/$1"}"#;
    let broker = Broker::with(Config { rewrite: vec![rule.parse().unwrap()], ..config() }).await;
    let mut watcher = broker.client(Version::Mqtt5, "watcher").await;
    watcher.subscribe("new/#", QOS1).await;
    let mut client = broker.client(Version::Mqtt5, "c").await;
    client.subscribe("old/a", QOS1).await;
    let mut publisher = broker.client(Version::Mqtt5, "p").await;
    assert_eq!(published(&mut publisher, "new/c/a").await, Reason::Success);
    assert_eq!(client.message().await.0, "new/c/a");
    assert_eq!(watcher.message().await.0, "new/c/a");
    // What was subscribed to by the old name is unsubscribed from by it.
    let packet_id = id(client.id());
    let filters = [text("old/a")].into();
    client.send(Packet::Unsubscribe(Unsubscribe { packet_id, properties: Default::default(), filters })).await;
    match client.packet().await {
        Packet::Unsuback(unsuback) => assert_eq!(unsuback.reasons.iter().collect::<Vec<_>>(), [Reason::Success]),
        other => panic!("{other:?} instead of UNSUBACK"),
    }
    assert_eq!(published(&mut client, "old/b").await, Reason::Success);
    assert_eq!(watcher.message().await.0, "new/c/b");
    broker.stop().await;
}

#[tokio::test]
async fn every_client_gets_the_subscriptions_that_all_get() {
    let all = r#"{"topic":"devices/%c/commands","qos":1}"#;
    let broker = Broker::with(Config { auto_subscribe: vec![all.parse().unwrap()], ..config() }).await;
    let mut device = broker.client(Version::Mqtt311, "d1").await;
    // Its first packet is looked at when it is subscribed.
    device.send(Packet::Pingreq).await;
    assert_eq!(device.packet().await, Packet::Pingresp);
    let mut other = broker.client(Version::Mqtt5, "d2").await;
    other.publish_to("devices/d1/commands", "on", QOS1).await;
    assert_eq!(device.message().await, ("devices/d1/commands".into(), "on".into()));
    broker.stop().await;
}

#[tokio::test]
async fn an_exclusive_filter_has_one_subscriber() {
    let broker = Broker::start().await;
    let mut one = broker.client(Version::Mqtt5, "one").await;
    let mut two = broker.client(Version::Mqtt5, "two").await;
    assert_eq!(reasons(&one.subscribe("$exclusive/a/+", QOS1).await), [Reason::GrantedQoS1]);
    assert_eq!(reasons(&two.subscribe("$exclusive/a/+", QOS1).await), [Reason::QuotaExceeded]);
    two.publish_to("a/b", "x", QOS1).await;
    assert_eq!(one.message().await.0, "a/b");
    two.silence().await;
    // The end of the session frees it.
    one.disconnect().await;
    let taking = async {
        while reasons(&two.subscribe("$exclusive/a/+", QOS1).await) != [Reason::GrantedQoS1] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(taking).await;
    two.publish_to("a/c", "y", QoS::AtMostOnce).await;
    assert_eq!(two.message().await.0, "a/c");
    broker.stop().await;
}

#[tokio::test]
async fn the_gateway_tells_of_itself_and_bridges_of_themselves() {
    let broker = Broker::with(Config { sys_interval: Some(Duration::from_millis(200)), ..config() }).await;
    let mut client = broker.client(Version::Mqtt5, "c").await;
    client.subscribe("$SYS/broker/version", QOS1).await;
    // Made already, or in a moment.
    let version = client.publish().await;
    assert!(version.payload.starts_with(b"PolyMQ version "), "{version:?}");
    let mut counting = broker.client(Version::Mqtt5, "counting").await;
    counting.subscribe("$SYS/broker/subscriptions/count", QOS1).await;
    while counting.message().await.1 != "2" {}

    let mut bridge = broker.client(Version::Mqtt311, "bridge").await;
    let name = "$SYS/broker/connection/there/state";
    let state = Publish { retain: true, ..message(name, "1", Delivery::AtLeastOnce(id(9))) };
    bridge.publish_all(state).await;
    let mut later = broker.client(Version::Mqtt5, "later").await;
    later.subscribe("$SYS/broker/connection/#", QOS1).await;
    let kept = later.publish().await;
    assert_eq!((kept.topic.as_str(), &kept.payload[..], kept.retain), (name, &b"1"[..], true));
    assert_eq!(published(&mut later, "$SYS/broker/uptime").await, Reason::NotAuthorized);
    // No wildcard at the first level finds any of it.
    let mut all = broker.client(Version::Mqtt5, "all").await;
    all.subscribe("#", QOS1).await;
    all.subscribe("+/broker/#", QOS1).await;
    all.silence().await;
    broker.stop().await;
}

/// A binary frame of a client's, masked with zeros.
fn frame(payload: &[u8]) -> Vec<u8> {
    [&[0x82, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

#[tokio::test]
async fn mqtt_is_spoken_over_websockets() {
    let listen = "127.0.0.1:0".parse().unwrap();
    let broker = Broker::with(Config { websocket_listen: WebSocketListen::At(listen), ..config() }).await;
    let mut plain = broker.client(Version::Mqtt311, "plain").await;
    let address = broker.gateway.addresses()["mqtt-ws"].clone();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = "GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(within(socket.read_u8()).await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));

    // CONNECT in two frames, the second with SUBSCRIBE behind it.
    let connect = b"\x10\x0e\0\x04MQTT\x04\x02\0\0\0\x02ws";
    let subscribe = b"\x82\x08\0\x01\0\x03a/b\0";
    socket.write_all(&frame(&connect[..5])).await.unwrap();
    socket.write_all(&frame(&[&connect[5..], &subscribe[..]].concat())).await.unwrap();
    let mut bytes = Vec::new();
    let expected = [&b"\x20\x02\0\0"[..], b"\x90\x03\0\x01\0"].concat();
    while bytes.len() < expected.len() {
        bytes.extend(payload(&mut socket).await);
    }
    assert_eq!(bytes, expected);
    plain.publish_to("a/b", "hello", QOS1).await;
    assert_eq!(payload(&mut socket).await, b"\x30\x0a\0\x03a/bhello");
    // A text frame is the end [MQTT-6.0.0-1].
    socket.write_all(&[0x81, 0x80, 0, 0, 0, 0]).await.unwrap();
    let mut rest = Vec::new();
    within(socket.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, [0x88, 2, 0x03, 0xeb]);
    broker.stop().await;
}

/// Of a short frame of the server's.
async fn payload(socket: &mut TcpStream) -> Vec<u8> {
    assert_eq!(within(socket.read_u8()).await.unwrap(), 0x82);
    let length = within(socket.read_u8()).await.unwrap();
    let mut payload = vec![0; length.into()];
    within(socket.read_exact(&mut payload)).await.unwrap();
    payload
}
