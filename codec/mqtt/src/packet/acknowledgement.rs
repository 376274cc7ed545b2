//! PUBACK, PUBREC, PUBREL and PUBCOMP (3.4 to 3.7), which differ in their first byte and their reason codes.

use bytes::{BufMut, BytesMut};

use super::PacketId;
use crate::error::{EncodeError, Error};
use crate::frame::put_packet;
use crate::property::{Place, Properties};
use crate::reader::Reader;
use crate::reason::Reason;
use crate::{Sender, Version};

/// One of the four. Before version 5 there is the identifier alone: reason and properties are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    pub packet_id: PacketId,
    pub reason: Reason,
    pub properties: Properties,
}

impl Acknowledgement {
    /// That all is well.
    pub fn success(packet_id: PacketId) -> Acknowledgement {
        Acknowledgement::of(packet_id, Reason::Success)
    }

    pub fn of(packet_id: PacketId, reason: Reason) -> Acknowledgement {
        Acknowledgement { packet_id, reason, properties: Properties::default() }
    }

    pub(super) fn read(
        reader: &mut Reader,
        version: Version,
        place: Place,
        sender: Sender,
    ) -> Result<Acknowledgement, Error> {
        let mut packet = Acknowledgement::success(reader.packet_id()?);
        if version < Version::Mqtt5 || reader.is_empty() {
            return Ok(packet);
        }
        packet.reason = Reason::read_in(reader, place, sender)?;
        // 3.4.2.2.1: a remaining length of 3 says that there are no properties.
        if !reader.is_empty() {
            packet.properties = Properties::read(reader, place)?;
        }
        Ok(packet)
    }

    pub(super) fn encode(
        &self,
        first: u8,
        version: Version,
        place: Place,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        put_packet(out, first, |out| {
            out.put_u16(self.packet_id.get());
            if version == Version::Mqtt5 { put_reason(self.reason, &self.properties, place, out) } else { Ok(()) }
        })
    }
}

/// A reason and properties at a packet's end, which are left out where they say nothing.
pub(super) fn put_reason(
    reason: Reason,
    properties: &Properties,
    place: Place,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    if reason != Reason::Success || !properties.is_empty() {
        out.put_u8(reason as u8);
    }
    if properties.is_empty() { Ok(()) } else { properties.put(place, out) }
}
