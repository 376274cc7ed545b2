//! The properties of a PUBLISH that outlive their packet, in version 5's wire form (2.2.2.2): enough of it to show them to other
//! protocols, and to write what those have. Whether a client's are well-formed, `codec-mqtt` has seen to.

use bytes::{BufMut, BytesMut};

const PAYLOAD_FORMAT: u8 = 0x01;
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION_DATA: u8 = 0x09;
const USER_PROPERTY: u8 = 0x26;

/// The greatest length of a string or of binary data on the wire, bytes (1.5.4, 1.5.6).
pub const FIELD_BYTES_MAX: usize = u16::MAX as usize;

/// A property, where it lies. Strings are UTF-8 as far as their writer has seen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property<'a> {
    /// 1: the payload is UTF-8.
    PayloadFormat(u8),
    ContentType(&'a [u8]),
    ResponseTopic(&'a [u8]),
    CorrelationData(&'a [u8]),
    /// Name and value; may stand any number of times.
    User(&'a [u8], &'a [u8]),
}

/// The properties in order. Those that are not among [`Property`] are skipped; behind what nobody knows there is nothing more.
pub fn properties(wire: &[u8]) -> Properties<'_> {
    Properties { rest: wire }
}

/// See [`properties`].
#[derive(Debug, Clone)]
pub struct Properties<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Properties<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        loop {
            let (id, rest) = self.rest.split_first()?;
            // What cannot be read ends it.
            self.rest = &[];
            let mut fields = Fields { rest };
            let found = match *id {
                PAYLOAD_FORMAT => Some(Property::PayloadFormat(fields.take(1)?[0])),
                CONTENT_TYPE => Some(Property::ContentType(fields.field()?)),
                RESPONSE_TOPIC => Some(Property::ResponseTopic(fields.field()?)),
                CORRELATION_DATA => Some(Property::CorrelationData(fields.field()?)),
                USER_PROPERTY => Some(Property::User(fields.field()?, fields.field()?)),
                id => {
                    fields.skip(id)?;
                    None
                }
            };
            self.rest = fields.rest;
            if found.is_some() {
                return found;
            }
        }
    }
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    /// Two bytes of length, and as many bytes.
    fn field(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        self.take(u16::from_be_bytes(*length).into())
    }

    /// Table 2-4. None: nobody knows how long it is.
    fn skip(&mut self, id: u8) -> Option<()> {
        match id {
            0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => self.take(1).map(drop),
            0x13 | 0x21 | 0x22 | 0x23 => self.take(2).map(drop),
            0x02 | 0x11 | 0x18 | 0x27 => self.take(4).map(drop),
            0x0b => loop {
                if self.take(1)?[0] & 0x80 == 0 {
                    return Some(());
                }
            },
            0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => self.field().map(drop),
            _ => None,
        }
    }
}

/// Adds a property. Text and bytes have at most [`FIELD_BYTES_MAX`] bytes; what is longer is cut there.
pub fn put(out: &mut BytesMut, property: &Property<'_>) {
    match *property {
        Property::PayloadFormat(format) => out.put_slice(&[PAYLOAD_FORMAT, format]),
        Property::ContentType(text) => put_field(out, CONTENT_TYPE, text),
        Property::ResponseTopic(text) => put_field(out, RESPONSE_TOPIC, text),
        Property::CorrelationData(bytes) => put_field(out, CORRELATION_DATA, bytes),
        Property::User(name, value) => {
            put_field(out, USER_PROPERTY, name);
            put_bytes(out, value);
        }
    }
}

fn put_field(out: &mut BytesMut, id: u8, bytes: &[u8]) {
    out.put_u8(id);
    put_bytes(out, bytes);
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(FIELD_BYTES_MAX)];
    out.put_u16(bytes.len() as u16);
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_of_one_packet_is_skipped() {
        let mut wire = BytesMut::new();
        wire.put_slice(&[0x23, 0, 9, 0x02, 0, 0, 0, 1, 0x0b, 0x80, 0x01]);
        let known = [
            Property::PayloadFormat(1),
            Property::ContentType(b"text/plain"),
            Property::ResponseTopic(b"a/b"),
            Property::CorrelationData(&[0, 255]),
            Property::User(b"name", b"value"),
            Property::User(b"name", b""),
        ];
        known.iter().for_each(|property| put(&mut wire, property));
        assert_eq!(properties(&wire).collect::<Vec<_>>(), known);
        wire.put_slice(&[0x7f, 1, 1]);
        assert_eq!(properties(&wire).count(), known.len());
    }

    proptest! {
        #[test]
        fn no_bytes_are_overrun(wire: Vec<u8>) {
            prop_assert!(properties(&wire).count() <= wire.len());
        }
    }
}
