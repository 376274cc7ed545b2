//! The table of packets: which handler has which.
//!
//! A handler does what can be done at once: it adds to the round that is gathered, or begins a step where something must be
//! waited for. What it returns as an error ends the connection.

pub(crate) mod admission;
pub(crate) mod auth;
pub(crate) mod connect;
pub(crate) mod disconnect;
pub(crate) mod pingreq;
pub(crate) mod puback;
pub(crate) mod pubcomp;
pub(crate) mod publish;
pub(crate) mod pubrec;
pub(crate) mod pubrel;
pub(crate) mod subscribe;
pub(crate) mod unsubscribe;

use codec_mqtt::Packet;

use crate::errors::Refusal;
use crate::session::{Connection, End};

pub(crate) fn handle(connection: &mut Connection, packet: Packet) -> Result<(), End> {
    match packet {
        Packet::Publish(packet) => publish::handle(connection, packet),
        Packet::Puback(packet) => puback::handle(connection, &packet),
        Packet::Pubrec(packet) => pubrec::handle(connection, &packet),
        Packet::Pubrel(packet) => pubrel::handle(connection, &packet),
        Packet::Pubcomp(packet) => pubcomp::handle(connection, &packet),
        Packet::Subscribe(packet) => subscribe::handle(connection, packet),
        Packet::Unsubscribe(packet) => unsubscribe::handle(connection, packet),
        Packet::Pingreq => pingreq::handle(connection),
        Packet::Disconnect(packet) => disconnect::handle(connection, &packet),
        Packet::Auth(packet) => auth::handle(connection, &packet),
        Packet::Connect(_) => connect::handle(),
        // The codec has refused them before.
        Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
            Err(Refusal::protocol("a packet that only the server sends").into())
        }
    }
}
