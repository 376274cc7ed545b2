//! CONNACK (3.2).

use bytes::{BufMut, BytesMut};

use super::{CONNACK, put_properties, read_properties};
use crate::error::{EncodeError, Error};
use crate::frame::put_packet;
use crate::property::{Place, Properties};
use crate::reader::Reader;
use crate::reason::Reason;
use crate::{Sender, Version};

/// The answer to CONNECT. Before version 5 without its properties, and its reason as a return code
/// ([`Reason::return_code`]).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Connack {
    /// Version 3.1 has no such flag; its clients are told 0.
    pub session_present: bool,
    pub reason: Reason,
    pub properties: Properties,
}

impl Connack {
    pub(super) fn read(reader: &mut Reader, version: Version) -> Result<Connack, Error> {
        let flags = reader.u8()?;
        if flags > 1 && version > Version::Mqtt31 {
            return Err(Error::malformed("MQTT-3.2.2-1", "reserved flags of CONNACK are set"));
        }
        let session_present = flags & 1 != 0 && version > Version::Mqtt31;
        let reason = match version {
            Version::Mqtt5 => Reason::read_in(reader, Place::Connack, Sender::Server)?,
            _ => Reason::of_return_code(reader.u8()?)
                .ok_or(Error::protocol("3.1.1: 3.2.2.3", "an unknown return code"))?,
        };
        if session_present && reason != Reason::Success {
            return Err(Error::protocol("MQTT-3.2.2-6", "a refusal that says that a session is present"));
        }
        let properties = read_properties(reader, version, Place::Connack)?;
        properties.check_authentication()?;
        Ok(Connack { session_present, reason, properties })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        let code = match version {
            Version::Mqtt5 => self.reason as u8,
            _ => self.reason.return_code().ok_or(EncodeError::NotInVersion)?,
        };
        put_packet(out, CONNACK << 4, |out| {
            out.put_u8((self.session_present && version > Version::Mqtt31).into());
            out.put_u8(code);
            put_properties(&self.properties, version, Place::Connack, out)
        })
    }
}
