//! What the records in the gateways' own topic are called.
//!
//! ```text
//! s/<client id>                   a session (record.rs)
//! c/<incarnation>/<client id>     a gateway's claim to a client's session
//! r/<packet id>/<client id>       a message of QoS 2 that was received and is not released
//! p/<incarnation>                 how far a gateway's router is
//! ```
//! An incarnation has 32 hexadecimal digits. Whatever is a client's lies in one partition, so that it has an order.

use codec_mqtt::PacketId;

use crate::state::sessions::record::Incarnation;

/// The longest client identifier that has a record, bytes: a key is a string of MQTT.
pub const CLIENT_ID_BYTES_MAX: usize = 65_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    Session(&'a str),
    Claim(Incarnation, &'a str),
    Received(PacketId, &'a str),
    Positions(Incarnation),
}

impl<'a> Key<'a> {
    /// None: it is no key that is known here.
    pub fn parse(key: &'a [u8]) -> Option<Key<'a>> {
        let (kind, rest) = std::str::from_utf8(key).ok()?.split_once('/')?;
        Some(match kind {
            "s" => Key::Session(rest),
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
            Key::Session(client_id) | Key::Claim(_, client_id) | Key::Received(_, client_id) => (*client_id).to_owned(),
            Key::Positions(_) => self.to_string(),
        }
    }
}

impl std::fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Session(client_id) => write!(f, "s/{client_id}"),
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
    fn keys_are_read_as_they_were_written() {
        let incarnation = Incarnation([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        for client_id in ["", "a", "a/b", "//", "ä"] {
            for key in [
                Key::Session(client_id),
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
