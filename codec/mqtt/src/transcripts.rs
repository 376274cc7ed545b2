//! Bytes as the specification shows or demands them, and what is wrong with others, by statement.

use crate::round_trip::{decode, encode};
use crate::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The packet of these bytes, which encodes to them again.
fn taken(hex: &str, version: Version, sender: Sender) -> Packet {
    let bytes = bytes(hex);
    let packet = decode(&bytes, version, sender).unwrap_or_else(|error| panic!("{hex}: {error}")).unwrap();
    assert_eq!(encode(&packet, version), bytes, "{hex}");
    packet
}

fn refused(hex: &str, version: Version, sender: Sender) -> (u8, &'static str) {
    match decode(&bytes(hex), version, sender) {
        Err(error) => (error.reason as u8, error.statement),
        Ok(packet) => panic!("{hex}: {packet:?}"),
    }
}

fn text(text: &str) -> Text {
    Text::new(text).unwrap()
}

use Sender::{Client, Server};
use Version::{Mqtt5, Mqtt31, Mqtt311};

/// The variable header of 3.1.2.12: user name, password, will of QoS 1, clean start, keep alive 10, session expiry 10.
#[test]
fn connect_as_in_the_example() {
    let hex = "10 2c 0004 4d515454 05 ce 000a 05 11 0000000a 0002 6964 00 0004 77696c6c 0003 627965 0004 75736572 0004 70617373";
    let Packet::Connect(connect) = taken(hex, Mqtt5, Client) else { panic!() };
    assert_eq!((connect.version, connect.clean_start, connect.keep_alive_s), (Mqtt5, true, 10));
    assert_eq!(connect.properties.session_expiry_interval_s(), Some(10));
    let will = connect.will.as_ref().unwrap();
    assert_eq!(
        (will.qos, will.retain, will.topic.as_str(), &will.payload[..]),
        (QoS::AtLeastOnce, false, "will", &b"bye"[..])
    );
    assert_eq!(connect.client_id.as_str(), "id");
    assert_eq!(connect.user_name, Some(text("user")));
    assert_eq!(connect.password.as_deref(), Some(&b"pass"[..]));
}

#[test]
fn connects_of_older_versions() {
    let Packet::Connect(connect) = taken("10 0f 0006 4d5149736470 03 02 003c 0001 70", Mqtt31, Client) else {
        panic!()
    };
    assert_eq!((connect.version, connect.client_id.as_str()), (Mqtt31, "p"));
    // 3.1: the user name's flag, and nothing there.
    let flag = bytes("10 0f 0006 4d5149736470 03 c2 003c 0001 70");
    let Ok(Some(Packet::Connect(connect))) = decode(&flag, Mqtt31, Client) else { panic!() };
    assert_eq!((connect.user_name, connect.password), (None, None));
    // mosquitto's bridge.
    let Packet::Connect(connect) = taken("10 0d 0004 4d515454 84 02 003c 0001 70", Mqtt311, Client) else { panic!() };
    assert!(connect.bridge);
    taken("10 0c 0004 4d515454 04 02 003c 0000", Mqtt311, Client);
}

#[test]
fn connects_are_refused() {
    let connect = |hex: &str| refused(hex, Mqtt311, Client);
    assert_eq!(connect("10 0d 0004 4d515455 04 02 003c 0001 70"), (0x84, "MQTT-3.1.2-1"));
    assert_eq!(connect("10 0d 0004 4d515454 06 02 003c 0001 70"), (0x84, "MQTT-3.1.2-2"));
    assert_eq!(connect("10 0d 0004 4d515454 03 02 003c 0001 70"), (0x84, "MQTT-3.1.2-2"));
    assert_eq!(connect("10 0d 0004 4d515454 04 03 003c 0001 70"), (0x81, "MQTT-3.1.2-3"));
    assert_eq!(connect("10 0d 0004 4d515454 04 0a 003c 0001 70"), (0x81, "MQTT-3.1.2-11"));
    assert_eq!(connect("10 0d 0004 4d515454 04 22 003c 0001 70"), (0x81, "MQTT-3.1.2-13"));
    assert_eq!(connect("10 13 0004 4d515454 04 1e 003c 0001 70 0001 74 0001 6d"), (0x81, "MQTT-3.1.2-12"));
    assert_eq!(connect("10 10 0004 4d515454 04 42 003c 0001 70 0001 70"), (0x81, "3.1.1: MQTT-3.1.2-22"));
    assert_eq!(connect("10 0c 0004 4d515454 04 00 003c 0000"), (0x85, "3.1.1: MQTT-3.1.3-8"));
    assert_eq!(connect("10 0e 0006 4d5149736470 03 02 003c 0000"), (0x85, "3.1: 3.1"));
    assert_eq!(connect("11 0d 0004 4d515454 04 02 003c 0001 70"), (0x81, "MQTT-2.1.3-1"));
    assert_eq!(connect("10 0e 0004 4d515454 04 02 003c 0001 70 00"), (0x81, "4.13.1"));
    // Version 5 lets a password stand alone, and properties must be whole.
    taken("10 11 0004 4d515454 05 42 003c 00 0001 70 0001 70", Mqtt5, Client);
    assert_eq!(connect("10 18 0004 4d515454 05 02 003c 0a 11 00000001 11 00000001 0001 70"), (0x82, "2.2.2.2"));
    assert_eq!(connect("10 12 0004 4d515454 05 02 003c 04 16 0001 61 0001 70"), (0x82, "3.1.2.11.10"));
    assert_eq!(connect("10 12 0004 4d515454 05 02 003c 00 0005 746f700000"), (0x85, "MQTT-3.1.3-4"));
}

/// The variable header of 3.3.2's example (topic a/b, identifier 10, no properties), and more.
#[test]
fn publish_as_in_the_example() {
    let Packet::Publish(publish) = taken("32 0a 0003 612f62 000a 00 6869", Mqtt5, Client) else { panic!() };
    assert_eq!(publish.topic.as_str(), "a/b");
    assert_eq!(publish.delivery, Delivery::AtLeastOnce(PacketId::new(10).unwrap()));
    assert_eq!(&publish.payload[..], b"hi");
    taken("30 07 0003 612f62 6869", Mqtt311, Client);
    taken("3d 07 0003 612f62 000a", Mqtt311, Client);
    taken("30 06 0000 03 23 0001", Mqtt5, Client);
    taken("30 0b 0003 612f62 05 0b 01 0b 8001", Mqtt5, Server);
}

#[test]
fn publishes_are_refused() {
    let publish = |hex: &str| refused(hex, Mqtt5, Client);
    assert_eq!(publish("36 08 0003 612f62 000a 00"), (0x81, "MQTT-3.3.1-4"));
    assert_eq!(publish("38 06 0003 612f62 00"), (0x81, "MQTT-3.3.1-2"));
    assert_eq!(publish("32 08 0003 612f62 0000 00"), (0x82, "MQTT-2.2.1-3"));
    assert_eq!(publish("30 06 0003 612f23 00"), (0x81, "MQTT-3.3.2-2"));
    assert_eq!(publish("30 06 0003 612f2b 00"), (0x81, "MQTT-3.3.2-2"));
    assert_eq!(publish("30 03 0000 00"), (0x82, "3.3.2.1"));
    assert_eq!(publish("30 09 0003 612f62 03 23 0000"), (0x94, "MQTT-3.3.2-8"));
    assert_eq!(publish("30 08 0003 612f62 02 0b 01"), (0x82, "MQTT-3.3.4-6"));
    assert_eq!(publish("30 06 0003 61ff62 00"), (0x81, "MQTT-1.5.4-1"));
    assert_eq!(publish("30 06 0003 610062 00"), (0x81, "MQTT-1.5.4-2"));
    assert_eq!(publish("30 06 0003 610162 00"), (0x81, "1.5.4"));
    assert_eq!(refused("30 02 0000", Mqtt311, Client), (0x81, "MQTT-4.7.3-1"));
}

#[test]
fn acknowledgements() {
    for first in ["40", "50", "62", "70"] {
        taken(&format!("{first} 02 1234"), Mqtt5, Client);
        taken(&format!("{first} 02 1234"), Mqtt311, Server);
        taken(&format!("{first} 0a 1234 00 06 1f 0003 627965"), Mqtt5, Server);
        assert_eq!(refused(&format!("{first} 03 1234 00"), Mqtt311, Server), (0x81, "4.13.1"));
        assert_eq!(refused(&format!("{first} 02 0000"), Mqtt311, Server), (0x82, "MQTT-2.2.1-3"));
    }
    taken("40 03 1234 10", Mqtt5, Server);
    taken("62 03 1234 92", Mqtt5, Client);
    // Longer than need be, and right.
    assert!(decode(&bytes("40 04 1234 00 00"), Mqtt5, Client).is_ok());
    assert_eq!(refused("40 03 1234 92", Mqtt5, Client), (0x82, "MQTT-3.4.2-1"));
    assert_eq!(refused("62 03 1234 10", Mqtt5, Client), (0x82, "MQTT-3.6.2-1"));
    assert_eq!(refused("40 03 1234 05", Mqtt5, Client), (0x82, "2.4"));
    assert_eq!(refused("60 02 1234", Mqtt5, Client), (0x81, "MQTT-3.6.1-1"));
    assert_eq!(refused("60 02 1234", Mqtt311, Client), (0x81, "MQTT-3.6.1-1"));
    // 3.1 repeats a PUBREL with DUP.
    assert!(decode(&bytes("6a 02 1234"), Mqtt31, Client).is_ok());
}

/// The payload of 3.8.3's example: a/b at QoS 1, c/d at QoS 2.
#[test]
fn subscribe_as_in_the_example() {
    let Packet::Subscribe(subscribe) = taken("82 0f 000a 00 0003 612f62 01 0003 632f64 02", Mqtt5, Client) else {
        panic!()
    };
    let all: Vec<_> = subscribe.subscriptions.iter().collect();
    assert_eq!(
        all,
        [Subscription::new(text("a/b"), QoS::AtLeastOnce), Subscription::new(text("c/d"), QoS::ExactlyOnce)]
    );
    taken("82 0e 000a 0003 612f62 01 0003 632f64 02", Mqtt311, Client);
    let Packet::Subscribe(subscribe) = taken("82 07 000a 00 0001 61 2d", Mqtt5, Client) else { panic!() };
    let one = subscribe.subscriptions.iter().next().unwrap();
    assert_eq!((one.no_local, one.retain_as_published, one.retain_handling), (true, true, RetainHandling::Never));
}

#[test]
fn subscribes_are_refused() {
    let subscribe = |hex: &str| refused(hex, Mqtt5, Client);
    assert_eq!(subscribe("80 07 000a 00 0001 61 00"), (0x81, "MQTT-3.8.1-1"));
    assert_eq!(subscribe("82 07 0000 00 0001 61 00"), (0x82, "MQTT-2.2.1-3"));
    assert_eq!(subscribe("82 03 000a 00"), (0x82, "MQTT-3.8.3-2"));
    assert_eq!(subscribe("82 07 000a 00 0001 61 03"), (0x82, "3.8.3.1"));
    assert_eq!(subscribe("82 07 000a 00 0001 61 30"), (0x82, "3.8.3.1"));
    assert_eq!(subscribe("82 07 000a 00 0001 61 40"), (0x81, "MQTT-3.8.3-5"));
    assert_eq!(subscribe("82 10 000a 00 000a 2473686172652f612f62 04"), (0x82, "MQTT-3.8.3-4"));
    assert_eq!(subscribe("82 0e 000a 00 0008 2473686172652f61 00"), (0x81, "MQTT-4.8.2-2"));
    assert_eq!(subscribe("82 08 000a 00 0002 6123 00"), (0x81, "MQTT-4.7.1-1"));
    assert_eq!(subscribe("82 06 000a 00 0000 00"), (0x81, "MQTT-4.7.3-1"));
    assert_eq!(refused("82 06 000a 0001 61 04", Mqtt311, Client), (0x81, "3.1.1: MQTT-3.8.3-4"));
    assert_eq!(refused("82 06 000a 0001 61 00", Mqtt311, Server), (0x82, "2.1.2"));
}

#[test]
fn the_rest() {
    // The example of 3.10.3: a/b and c/d.
    let Packet::Unsubscribe(packet) = taken("a2 0d 000a 00 0003 612f62 0003 632f64", Mqtt5, Client) else { panic!() };
    assert_eq!(packet.filters.iter().collect::<Vec<_>>(), [text("a/b"), text("c/d")]);
    assert_eq!(refused("a2 03 000a 00", Mqtt5, Client), (0x82, "MQTT-3.10.3-2"));
    taken("20 02 0100", Mqtt311, Server);
    taken("20 02 0005", Mqtt311, Server);
    taken("20 03 0000 00", Mqtt5, Server);
    assert_eq!(refused("20 03 0200 00", Mqtt5, Server), (0x81, "MQTT-3.2.2-1"));
    assert_eq!(refused("20 03 0187 00", Mqtt5, Server), (0x82, "MQTT-3.2.2-6"));
    taken("90 05 000a 00 01 87", Mqtt5, Server);
    taken("90 05 000a 00 02 80", Mqtt311, Server);
    assert_eq!(refused("90 03 000a 87", Mqtt311, Server), (0x81, "3.1.1: MQTT-3.9.3-2"));
    taken("b0 05 000a 00 00 11", Mqtt5, Server);
    taken("b0 02 000a", Mqtt311, Server);
    for version in [Mqtt31, Mqtt311, Mqtt5] {
        taken("c0 00", version, Client);
        taken("d0 00", version, Server);
        taken("e0 00", version, Client);
        assert_eq!(refused("c0 01 00", version, Client), (0x81, "4.13.1"));
    }
    taken("e0 01 04", Mqtt5, Client);
    taken("e0 01 8b", Mqtt5, Server);
    assert_eq!(refused("e0 01 8b", Mqtt5, Client), (0x82, "MQTT-3.14.2-1"));
    assert_eq!(refused("e0 00", Mqtt311, Server), (0x82, "2.1.2"));
    assert_eq!(refused("e1 00", Mqtt5, Client), (0x81, "MQTT-3.14.1-1"));
    assert_eq!(refused("e0 07 00 05 11 00000001", Mqtt5, Server), (0x82, "MQTT-3.14.2-2"));
    taken("f0 08 18 06 15 0003 616263", Mqtt5, Server);
    taken("f0 00", Mqtt5, Server);
    assert_eq!(refused("f0 00", Mqtt5, Client), (0x82, "MQTT-3.15.2-1"));
    assert_eq!(refused("f0 02 18 00", Mqtt5, Client), (0x82, "3.15.2.2.2"));
    assert_eq!(refused("f0 00", Mqtt311, Client), (0x82, "2.1.2"));
}
