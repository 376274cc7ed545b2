//! AUTH (3.15), which only version 5 has.

use bytes::BytesMut;

use super::AUTH;
use super::acknowledgement::put_reason;
use crate::error::{EncodeError, Error};
use crate::frame::put_packet;
use crate::property::{Place, Properties};
use crate::reader::Reader;
use crate::reason::Reason;
use crate::{Sender, Version};

/// A step of an authentication exchange.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth {
    pub reason: Reason,
    /// With an authentication method. 3.15.2.1 lets a packet of success have none, and so nothing at all.
    pub properties: Properties,
}

impl Auth {
    pub(super) fn read(reader: &mut Reader, sender: Sender) -> Result<Auth, Error> {
        if reader.is_empty() {
            Reason::Success.check(Place::Auth, sender)?;
            return Ok(Auth::default());
        }
        let reason = Reason::read_in(reader, Place::Auth, sender)?;
        let properties = Properties::read(reader, Place::Auth)?;
        if properties.authentication_method().is_none() {
            return Err(Error::protocol("3.15.2.2.2", "an AUTH without an authentication method"));
        }
        Ok(Auth { reason, properties })
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
        if version < Version::Mqtt5 {
            return Err(EncodeError::NotInVersion);
        }
        put_packet(out, AUTH << 4, |out| {
            // What has a reason has a property length, too.
            match self.properties.is_empty() && self.reason != Reason::Success {
                true => Err(EncodeError::Property),
                false => put_reason(self.reason, &self.properties, Place::Auth, out),
            }
        })
    }
}
