//! The 15 packets (3), one file each.

mod acknowledgement;
mod auth;
mod connack;
pub mod connect;
mod disconnect;
mod publish;
mod shared_publish;
mod suback;
mod subscribe;
mod unsubscribe;

use std::num::NonZeroU16;

use bytes::BytesMut;

pub use acknowledgement::Acknowledgement;
pub use auth::Auth;
pub use connack::Connack;
pub use connect::{Connect, Will};
pub use disconnect::Disconnect;
pub use publish::{Delivery, Publish};
pub use shared_publish::{Head, SharedPublish, TopicAliasUse};
pub use suback::{Suback, Unsuback};
pub use subscribe::{RetainHandling, Subscribe, Subscription};
pub use unsubscribe::Unsubscribe;

use crate::error::{EncodeError, Error};
use crate::frame::{Frame, put_packet};
use crate::property::{Place, Properties};
use crate::reader::Reader;
use crate::{Sender, Version};

/// A packet identifier, which is never 0 [MQTT-2.2.1-3].
pub type PacketId = NonZeroU16;

/// Any packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    Connect(Box<Connect>),
    Connack(Connack),
    Publish(Publish),
    Puback(Acknowledgement),
    Pubrec(Acknowledgement),
    Pubrel(Acknowledgement),
    Pubcomp(Acknowledgement),
    Subscribe(Subscribe),
    Suback(Suback),
    Unsubscribe(Unsubscribe),
    Unsuback(Unsuback),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect),
    /// Only in version 5.
    Auth(Auth),
}

const CONNECT: u8 = 1;
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBREL: u8 = 6;
const PUBCOMP: u8 = 7;
const SUBSCRIBE: u8 = 8;
const SUBACK: u8 = 9;
const UNSUBSCRIBE: u8 = 10;
const UNSUBACK: u8 = 11;
const PINGREQ: u8 = 12;
const PINGRESP: u8 = 13;
const DISCONNECT: u8 = 14;
const AUTH: u8 = 15;

impl Packet {
    /// What `frame` is, on a connection of this version, where `sender` sent it. A CONNECT says its version itself.
    pub fn decode(frame: Frame, version: Version, sender: Sender) -> Result<Packet, Error> {
        let kind = frame.first >> 4;
        let one_sided = match kind {
            CONNECT | SUBSCRIBE | UNSUBSCRIBE | PINGREQ => Some(Sender::Client),
            CONNACK | SUBACK | UNSUBACK | PINGRESP => Some(Sender::Server),
            DISCONNECT if version < Version::Mqtt5 => Some(Sender::Client),
            _ => None,
        };
        if one_sided.is_some_and(|only| only != sender) {
            return Err(Error::protocol("2.1.2", "a packet that only the other side sends"));
        }
        if kind == CONNECT {
            return Connect::decode(frame).map(|connect| Packet::Connect(Box::new(connect)));
        }
        check_flags(frame.first, version)?;
        let mut reader = Reader::new(frame.body);
        let reader = &mut reader;
        let acknowledgement = |reader: &mut Reader, place| Acknowledgement::read(reader, version, place, sender);
        let packet = match kind {
            CONNACK => Packet::Connack(Connack::read(reader, version)?),
            PUBLISH => Packet::Publish(Publish::read(frame.first, reader, version, sender)?),
            PUBACK => Packet::Puback(acknowledgement(reader, Place::Puback)?),
            PUBREC => Packet::Pubrec(acknowledgement(reader, Place::Pubrec)?),
            PUBREL => Packet::Pubrel(acknowledgement(reader, Place::Pubrel)?),
            PUBCOMP => Packet::Pubcomp(acknowledgement(reader, Place::Pubcomp)?),
            SUBSCRIBE => Packet::Subscribe(Subscribe::read(reader, version)?),
            SUBACK => Packet::Suback(Suback::read(reader, version)?),
            UNSUBSCRIBE => Packet::Unsubscribe(Unsubscribe::read(reader, version)?),
            UNSUBACK => Packet::Unsuback(Unsuback::read(reader, version)?),
            PINGREQ => Packet::Pingreq,
            PINGRESP => Packet::Pingresp,
            DISCONNECT => Packet::Disconnect(Disconnect::read(reader, version, sender)?),
            AUTH if version == Version::Mqtt5 => Packet::Auth(Auth::read(reader, sender)?),
            _ => return Err(Error::protocol("2.1.2", "a packet of a type that this version forbids")),
        };
        reader.end()?;
        Ok(packet)
    }

    /// Writes it for a connection of this version (a CONNECT for its own). What an older version has no place for, each
    /// packet says itself. On an error nothing is written.
    pub fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Packet::Connect(connect) => connect.encode(out),
            Packet::Connack(connack) => connack.encode(version, out),
            Packet::Publish(publish) => publish.encode(version, out),
            Packet::Puback(packet) => packet.encode(PUBACK << 4, version, Place::Puback, out),
            Packet::Pubrec(packet) => packet.encode(PUBREC << 4, version, Place::Pubrec, out),
            Packet::Pubrel(packet) => packet.encode(PUBREL << 4 | 2, version, Place::Pubrel, out),
            Packet::Pubcomp(packet) => packet.encode(PUBCOMP << 4, version, Place::Pubcomp, out),
            Packet::Subscribe(subscribe) => subscribe.encode(version, out),
            Packet::Suback(suback) => suback.encode(version, out),
            Packet::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
            Packet::Unsuback(unsuback) => unsuback.encode(version, out),
            Packet::Pingreq => put_packet(out, PINGREQ << 4, |_| Ok(())),
            Packet::Pingresp => put_packet(out, PINGRESP << 4, |_| Ok(())),
            Packet::Disconnect(disconnect) => disconnect.encode(version, out),
            Packet::Auth(auth) => auth.encode(version, out),
        }
    }
}

/// The flags of every packet but PUBLISH are fixed [MQTT-2.1.3-1]. Version 3.1 has in their places a DUP flag, which
/// clients of it set when they repeat a SUBSCRIBE or PUBREL, and flags that are "not used"; it says nothing of checks.
fn check_flags(first: u8, version: Version) -> Result<(), Error> {
    let (expected, statement) = match first >> 4 {
        PUBLISH => return Ok(()),
        PUBREL => (2, "MQTT-3.6.1-1"),
        SUBSCRIBE => (2, "MQTT-3.8.1-1"),
        UNSUBSCRIBE => (2, "MQTT-3.10.1-1"),
        DISCONNECT => (0, "MQTT-3.14.1-1"),
        AUTH => (0, "MQTT-3.15.1-1"),
        _ => (0, "MQTT-2.1.3-1"),
    };
    if version == Version::Mqtt31 || first & 0x0f == expected {
        return Ok(());
    }
    Err(Error::malformed(statement, "flags of a fixed header that are not as they must be"))
}

/// The properties, where this version has them.
fn read_properties(reader: &mut Reader, version: Version, place: Place) -> Result<Properties, Error> {
    if version == Version::Mqtt5 { Properties::read(reader, place) } else { Ok(Properties::default()) }
}

fn put_properties(
    properties: &Properties,
    version: Version,
    place: Place,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    if version == Version::Mqtt5 { properties.put(place, out) } else { Ok(()) }
}
