//! DISCONNECT (3.14).

use bytes::BytesMut;

use super::DISCONNECT;
use super::acknowledgement::put_reason;
use crate::error::{EncodeError, Error};
use crate::frame::put_packet;
use crate::property::{Place, Properties};
use crate::reader::Reader;
use crate::reason::Reason;
use crate::{Sender, Version};

/// The end of a connection. Before version 5 only a client sends it, and there is nothing in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disconnect {
    pub reason: Reason,
    pub properties: Properties,
}

impl Disconnect {
    pub(super) fn read(reader: &mut Reader, version: Version, sender: Sender) -> Result<Disconnect, Error> {
        let mut packet = Disconnect::default();
        if version < Version::Mqtt5 || reader.is_empty() {
            return Ok(packet);
        }
        packet.reason = Reason::read_in(reader, Place::Disconnect, sender)?;
        // 3.14.2.2.1: a remaining length of less than 2 says that there are no properties.
        if !reader.is_empty() {
            packet.properties = Properties::read(reader, Place::Disconnect)?;
        }
        if sender == Sender::Server && packet.properties.session_expiry_interval_s().is_some() {
            return Err(Error::protocol("MQTT-3.14.2-2", "a session expiry interval in a server's DISCONNECT"));
        }
        Ok(packet)
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        put_packet(out, DISCONNECT << 4, |out| match version {
            Version::Mqtt5 => put_reason(self.reason, &self.properties, Place::Disconnect, out),
            _ => Ok(()),
        })
    }
}
