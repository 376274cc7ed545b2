//! What the records in the gateways' own topic are called.
//!
//! ```text
//! s/<client id>                   a session ([`Record`](crate::state::sessions::record::Record))
//! d/<client id>                   what has changed of it since ([`Delta`](crate::state::sessions::record::Delta))
//! c/<incarnation>/<client id>     a gateway's claim to a client's session
//! r/<packet id>/<client id>       a message of QoS 2 that was received and is not released, or may have been ([`Received`])
//! p/<incarnation>                 how far a gateway's router is
//! ```
//! An incarnation has 32 hexadecimal digits. Whatever is a client's lies in one partition, so that it has an order.

use bytes::{Buf, Bytes};
use codec_mqtt::PacketId;
use codec_record::Producer;
use core_rpc::{PartitionId, TopicId};

use crate::state::sessions::attempts::Attempt;
use crate::state::sessions::record::Incarnation;

/// The longest client identifier that has a record, bytes: a key is a string of MQTT.
pub const CLIENT_ID_BYTES_MAX: usize = 65_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    Session(&'a str),
    Delta(&'a str),
    Claim(Incarnation, &'a str),
    Received(PacketId, &'a str),
    Positions(Incarnation),
}

/// The payload of `r/…`, little-endian: the life of the session that it belongs to (8), and where the message is kept apart from it,
/// topic (16), partition (4), producer (8) and sequence (4) of the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    pub life: u64,
    /// None: the message was kept.
    pub attempt: Option<Attempt>,
}

impl Received {
    pub fn encode(self) -> Bytes {
        let mut bytes = self.life.to_le_bytes().to_vec();
        if let Some(Attempt { partition, producer }) = self.attempt {
            bytes.extend(partition.topic.0.to_le_bytes());
            bytes.extend(partition.index.to_le_bytes());
            bytes.extend(producer.id.to_le_bytes());
            bytes.extend(producer.sequence.to_le_bytes());
        }
        bytes.into()
    }

    /// None: there is none, or none any more.
    pub fn decode(mut payload: &[u8]) -> Option<Received> {
        let life = payload.try_get_u64_le().ok()?;
        let attempt = match payload.len() {
            0 => None,
            32 => Some(Attempt {
                partition: PartitionId { topic: TopicId(payload.get_u128_le()), index: payload.get_u32_le() },
                producer: Producer { id: payload.get_i64_le(), epoch: 0, sequence: payload.get_i32_le() },
            }),
            _ => return None,
        };
        Some(Received { life, attempt })
    }
}

impl<'a> Key<'a> {
    /// None: it is no key that is known here.
    pub fn parse(key: &'a [u8]) -> Option<Key<'a>> {
        let (kind, rest) = std::str::from_utf8(key).ok()?.split_once('/')?;
        Some(match kind {
            "s" => Key::Session(rest),
            "d" => Key::Delta(rest),
            "c" => {
                let (incarnation, client_id) = rest.split_once('/')?;
                Key::Claim(parse_incarnation(incarnation)?, client_id)
            }
            "r" => {
                let (packet_id, client_id) = rest.split_once('/')?;
                Key::Received(packet_id.parse().ok()?, client_id)
            }
            "p" => Key::Positions(parse_incarnation(rest)?),
            _ => return None,
        })
    }

    /// What says the partition.
    pub fn hashed(&self) -> String {
        match self {
            Key::Session(client_id)
            | Key::Delta(client_id)
            | Key::Claim(_, client_id)
            | Key::Received(_, client_id) => (*client_id).to_owned(),
            Key::Positions(_) => self.to_string(),
        }
    }
}

impl std::fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Session(client_id) => write!(f, "s/{client_id}"),
            Key::Delta(client_id) => write!(f, "d/{client_id}"),
            Key::Claim(incarnation, client_id) => write!(f, "c/{:032x}/{client_id}", number(*incarnation)),
            Key::Received(packet_id, client_id) => write!(f, "r/{packet_id}/{client_id}"),
            Key::Positions(incarnation) => write!(f, "p/{:032x}", number(*incarnation)),
        }
    }
}

fn number(incarnation: Incarnation) -> u128 {
    u128::from_be_bytes(incarnation.0)
}

fn parse_incarnation(text: &str) -> Option<Incarnation> {
    u128::from_str_radix(text, 16).ok().map(|number| Incarnation(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_received_is_read_as_it_was_written() {
        let partition = PartitionId { topic: TopicId(u128::MAX - 7), index: 3 };
        let attempt = Attempt { partition, producer: Producer { id: -99, epoch: 0, sequence: 12 } };
        for attempt in [None, Some(attempt)] {
            let received = Received { life: 0x0123_4567_89ab_cdef, attempt };
            let bytes = received.encode();
            assert_eq!(Received::decode(&bytes), Some(received));
            assert_eq!(Received::decode(&bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(Received::decode(b""), None);
    }

    #[test]
    fn keys_are_read_as_they_were_written() {
        let incarnation = Incarnation([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        for client_id in ["", "a", "a/b", "//", "ä"] {
            for key in [
                Key::Session(client_id),
                Key::Delta(client_id),
                Key::Claim(incarnation, client_id),
                Key::Received(PacketId::MAX, client_id),
                Key::Positions(incarnation),
            ] {
                assert_eq!(Key::parse(key.to_string().as_bytes()), Some(key));
            }
        }
        for odd in [&b"x/a"[..], b"s", b"c/1", b"r/0/a", b"r/x/a", b"p/xyz", b"\xff/"] {
            assert_eq!(Key::parse(odd), None);
        }
    }
}
