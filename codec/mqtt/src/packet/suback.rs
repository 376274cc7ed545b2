//! SUBACK and UNSUBACK (3.9, 3.11).

use bytes::{BufMut, BytesMut};

use super::{PacketId, SUBACK, UNSUBACK, put_properties, read_properties};
use crate::error::{EncodeError, Error};
use crate::frame::put_packet;
use crate::list::List;
use crate::property::{Place, Properties};
use crate::reader::Reader;
use crate::reason::Reason;
use crate::{Sender, Version};

/// The answer to SUBSCRIBE. Before version 5 without properties, and every failure as 0x80.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suback {
    pub packet_id: PacketId,
    pub properties: Properties,
    /// One for each filter, in order: the granted QoS or a failure.
    pub reasons: List<Reason>,
}

/// The answer to UNSUBSCRIBE. Before version 5 it is the identifier alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsuback {
    pub packet_id: PacketId,
    pub properties: Properties,
    /// One for each filter, in order. Empty before version 5.
    pub reasons: List<Reason>,
}

fn read_reasons(reader: &mut Reader, place: Place) -> Result<List<Reason>, Error> {
    let reasons = List::read(reader, |reason: &Reason| reason.check(place, Sender::Server))?;
    if reasons.is_empty() {
        return Err(Error::protocol("MQTT-3.8.4-6", "an answer without a reason code"));
    }
    Ok(reasons)
}

impl Suback {
    pub(super) fn read(reader: &mut Reader, version: Version) -> Result<Suback, Error> {
        let packet_id = reader.packet_id()?;
        let properties = read_properties(reader, version, Place::Suback)?;
        let reasons = read_reasons(reader, Place::Suback)?;
        if version < Version::Mqtt5 && reasons.iter().any(|reason| reason as u8 > 0x80) {
            return Err(Error::malformed("3.1.1: MQTT-3.9.3-2", "a return code that SUBACK does not have"));
        }
        Ok(Suback { packet_id, properties, reasons })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        put_packet(out, SUBACK << 4, |out| {
            out.put_u16(self.packet_id.get());
            put_properties(&self.properties, version, Place::Suback, out)?;
            out.extend(self.reasons.iter().map(|reason| reason.granted(version)));
            Ok(())
        })
    }
}

impl Unsuback {
    pub(super) fn read(reader: &mut Reader, version: Version) -> Result<Unsuback, Error> {
        let packet_id = reader.packet_id()?;
        let properties = read_properties(reader, version, Place::Unsuback)?;
        let reasons = match version {
            Version::Mqtt5 => read_reasons(reader, Place::Unsuback)?,
            _ => List::from([]),
        };
        Ok(Unsuback { packet_id, properties, reasons })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        put_packet(out, UNSUBACK << 4, |out| {
            out.put_u16(self.packet_id.get());
            put_properties(&self.properties, version, Place::Unsuback, out)?;
            if version == Version::Mqtt5 {
                out.put_slice(self.reasons.as_bytes());
            }
            Ok(())
        })
    }
}
