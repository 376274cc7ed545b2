//! Reads the elementary types off a packet, as slices of it (1.5).

use bytes::{Buf, Bytes};

use crate::error::Error;
use crate::frame::variable_integer;
use crate::packet::PacketId;
use crate::text::{Binary, Text};

/// What is left of a packet's body.
#[derive(Debug, Clone)]
pub struct Reader {
    bytes: Bytes,
}

const ENDS: Error = Error::malformed("4.13.1", "a packet ends before its last field");

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Reader {
        Reader { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.bytes.try_get_u8().map_err(|_| ENDS)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.bytes.try_get_u16().map_err(|_| ENDS)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.bytes.try_get_u32().map_err(|_| ENDS)
    }

    pub(crate) fn packet_id(&mut self) -> Result<PacketId, Error> {
        PacketId::new(self.u16()?).ok_or(Error::protocol("MQTT-2.2.1-3", "packet identifier 0"))
    }

    pub(crate) fn variable_integer(&mut self) -> Result<u32, Error> {
        let (value, bytes) = variable_integer(&self.bytes)?.ok_or(ENDS)?;
        self.bytes.advance(bytes);
        Ok(value)
    }

    pub(crate) fn take(&mut self, bytes: usize) -> Result<Bytes, Error> {
        if bytes > self.bytes.len() {
            return Err(ENDS);
        }
        Ok(self.bytes.split_to(bytes))
    }

    pub(crate) fn binary(&mut self) -> Result<Binary, Error> {
        let bytes = self.u16()?;
        self.take(bytes.into()).map(Binary::of_the_wire)
    }

    pub(crate) fn text(&mut self) -> Result<Text, Error> {
        let bytes = self.u16()?;
        Text::of_the_wire(self.take(bytes.into())?)
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes)
    }

    /// Nothing may follow.
    pub(crate) fn end(&self) -> Result<(), Error> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        Err(Error::malformed("4.13.1", "a packet goes on behind its last field"))
    }
}
