//! UNSUBSCRIBE (3.10).

use bytes::{BufMut, BytesMut};

use super::{PacketId, UNSUBSCRIBE, put_properties, read_properties};
use crate::error::{EncodeError, Error};
use crate::frame::put_packet;
use crate::list::{Entry, List};
use crate::property::{Place, Properties};
use crate::reader::Reader;
use crate::text::Text;
use crate::{Version, topic};

/// Before version 5 without properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    pub packet_id: PacketId,
    pub properties: Properties,
    /// At least one; valid topic filters.
    pub filters: List<Text>,
}

impl Entry for Text {
    fn read(reader: &mut Reader) -> Result<Text, Error> {
        reader.text()
    }

    fn put(&self, out: &mut BytesMut) {
        Text::put(self, out);
    }
}

impl Unsubscribe {
    pub(super) fn read(reader: &mut Reader, version: Version) -> Result<Unsubscribe, Error> {
        let packet_id = reader.packet_id()?;
        let properties = read_properties(reader, version, Place::Unsubscribe)?;
        let filters = List::read(reader, |filter: &Text| {
            let filter = topic::filter(filter.clone())?;
            if version == Version::Mqtt5 { topic::shared(&filter).map(|_| ()) } else { Ok(()) }
        })?;
        if filters.is_empty() {
            return Err(Error::protocol("MQTT-3.10.3-2", "an UNSUBSCRIBE without a topic filter"));
        }
        Ok(Unsubscribe { packet_id, properties, filters })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        put_packet(out, UNSUBSCRIBE << 4 | 2, |out| {
            out.put_u16(self.packet_id.get());
            put_properties(&self.properties, version, Place::Unsubscribe, out)?;
            out.put_slice(self.filters.as_bytes());
            Ok(())
        })
    }
}
