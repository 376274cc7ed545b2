//! PUBLISH (3.3).

use bytes::{BufMut, Bytes, BytesMut};

use super::{PUBLISH, PacketId, put_properties, read_properties};
use crate::error::{EncodeError, Error};
use crate::frame::{REMAINING_BYTES_MAX, put_variable_integer, variable_integer_bytes};
use crate::property::{Place, Properties};
use crate::reader::Reader;
use crate::text::Text;
use crate::{QoS, Sender, Version, topic};

/// How surely a publish is delivered, and by which identifier it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    AtMostOnce,
    AtLeastOnce(PacketId),
    ExactlyOnce(PacketId),
}

/// A message. Properties are left out before version 5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// That it may have been sent before.
    pub duplicate: bool,
    pub delivery: Delivery,
    pub retain: bool,
    /// Empty where the properties have a topic alias that stands for it.
    pub topic: Text,
    pub properties: Properties,
    pub payload: Bytes,
}

const DUPLICATE: u8 = 1 << 3;
const RETAIN: u8 = 1;

impl Delivery {
    pub fn qos(self) -> QoS {
        match self {
            Delivery::AtMostOnce => QoS::AtMostOnce,
            Delivery::AtLeastOnce(_) => QoS::AtLeastOnce,
            Delivery::ExactlyOnce(_) => QoS::ExactlyOnce,
        }
    }

    pub fn packet_id(self) -> Option<PacketId> {
        match self {
            Delivery::AtMostOnce => None,
            Delivery::AtLeastOnce(id) | Delivery::ExactlyOnce(id) => Some(id),
        }
    }
}

/// The first byte of a PUBLISH. Where nothing is acknowledged nothing is repeated [MQTT-3.3.1-2].
pub(super) fn first(duplicate: bool, delivery: Delivery, retain: bool) -> u8 {
    let duplicate = if duplicate && delivery != Delivery::AtMostOnce { DUPLICATE } else { 0 };
    PUBLISH << 4 | duplicate | (delivery.qos() as u8) << 1 | if retain { RETAIN } else { 0 }
}

impl Publish {
    pub(super) fn read(first: u8, reader: &mut Reader, version: Version, sender: Sender) -> Result<Publish, Error> {
        let qos = QoS::of(first >> 1 & 3).ok_or(Error::malformed("MQTT-3.3.1-4", "a publish of QoS 3"))?;
        let duplicate = first & DUPLICATE != 0;
        if duplicate && qos == QoS::AtMostOnce && version > Version::Mqtt31 {
            return Err(Error::malformed("MQTT-3.3.1-2", "a duplicate of QoS 0"));
        }
        let topic = reader.text()?;
        let delivery = match qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce(reader.packet_id()?),
            QoS::ExactlyOnce => Delivery::ExactlyOnce(reader.packet_id()?),
        };
        let properties = read_properties(reader, version, Place::Publish)?;
        if sender == Sender::Client && properties.subscription_id().is_some() {
            return Err(Error::protocol("MQTT-3.3.4-6", "a subscription identifier in a publish of a client"));
        }
        let topic = match topic.is_empty() && version == Version::Mqtt5 {
            true if properties.topic_alias().is_some() => topic,
            true => return Err(Error::protocol("3.3.2.1", "a publish with neither a topic nor an alias")),
            false => topic::name(topic)?,
        };
        Ok(Publish {
            duplicate: duplicate && qos != QoS::AtMostOnce,
            delivery,
            retain: first & RETAIN != 0,
            topic,
            properties,
            payload: reader.rest(),
        })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        let properties_bytes = self.properties.as_bytes().len();
        let properties_bytes = match version {
            Version::Mqtt5 => variable_integer_bytes(properties_bytes) + properties_bytes,
            _ => 0,
        };
        let id_bytes = self.delivery.packet_id().map_or(0, |_| 2);
        let remaining_bytes = 2 + self.topic.len() + id_bytes + properties_bytes + self.payload.len();
        if remaining_bytes > REMAINING_BYTES_MAX {
            return Err(EncodeError::TooLarge);
        }
        let at = out.len();
        out.reserve(5 + remaining_bytes);
        out.put_u8(first(self.duplicate, self.delivery, self.retain));
        put_variable_integer(out, remaining_bytes);
        self.topic.put(out);
        if let Some(id) = self.delivery.packet_id() {
            out.put_u16(id.get());
        }
        put_properties(&self.properties, version, Place::Publish, out).inspect_err(|_| out.truncate(at))?;
        out.put_slice(&self.payload);
        Ok(())
    }
}
