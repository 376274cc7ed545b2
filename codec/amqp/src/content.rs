//! What carries a message behind its method: one header frame, then as many body frames as the body needs.
//!
//! ```text
//! payload of a header frame   u16 class │ u16 weight, 0 │ u64 body size │ u16 property flags │ properties
//! payload of a body frame     a piece of the body
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use codec_record::amqp_message::{Properties, Reader, SyntaxError};

use crate::frame::{FrameKind, put_frame};

/// The only class whose methods have contents.
pub const CLASS_BASIC: u16 = 60;

/// What a header frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentHeader {
    pub class_id: u16,
    /// Of the whole body; 0: no body frame follows.
    pub body_bytes: u64,
    /// Well-formed.
    pub properties: Properties,
}

/// A header frame's payload that cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// A weight that is not 0; to RabbitMQ that is an unexpected frame (505).
    #[error("a content header of weight {0}")]
    Weight(u16),
    /// (502)
    #[error("content header: {0}")]
    Syntax(#[from] SyntaxError),
}

impl ContentHeader {
    /// Reads a header frame's payload. The properties are looked at as a whole, and share its memory.
    pub fn decode(payload: &Bytes) -> Result<Self, ContentError> {
        let mut reader = Reader::new(payload);
        let class_id = reader.u16()?;
        let weight = reader.u16()?;
        let body_bytes = reader.u64()?;
        if weight != 0 {
            return Err(ContentError::Weight(weight));
        }
        let properties = Properties::parse(payload.slice_ref(reader.rest()))?;
        Ok(ContentHeader { class_id, body_bytes, properties })
    }

    /// Writes the whole frame.
    pub fn encode(&self, channel: u16, out: &mut BytesMut) {
        put_header(out, channel, self.class_id, self.body_bytes, self.properties.raw());
    }
}

pub(crate) fn put_header(out: &mut BytesMut, channel: u16, class_id: u16, body_bytes: u64, properties: &[u8]) {
    put_frame(out, FrameKind::Header, channel, |out| {
        out.put_u16(class_id);
        out.put_u16(0);
        out.put_u64(body_bytes);
        out.put_slice(properties);
    });
}

/// Puts a body together from its pieces. A body of one piece is that piece; others are copied into one buffer, which
/// grows as they come, whatever was announced.
#[derive(Debug)]
pub struct BodyPieces {
    missing_bytes: u64,
    first: Bytes,
    joined: BytesMut,
}

/// More than the header announced; to RabbitMQ a frame error (501).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more of a body than its header announced")]
pub struct BodyTooLong;

impl BodyPieces {
    /// For a body of this size.
    pub fn new(body_bytes: u64) -> Self {
        BodyPieces { missing_bytes: body_bytes, first: Bytes::new(), joined: BytesMut::new() }
    }

    /// How much is still to come. A body of no bytes is whole before any piece.
    pub fn missing_bytes(&self) -> u64 {
        self.missing_bytes
    }

    /// Adds a piece.
    pub fn push(&mut self, piece: Bytes) -> Result<(), BodyTooLong> {
        self.missing_bytes = self.missing_bytes.checked_sub(piece.len() as u64).ok_or(BodyTooLong)?;
        if self.joined.is_empty() && self.first.is_empty() {
            self.first = piece;
            return Ok(());
        }
        if self.joined.is_empty() {
            self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.joined.extend_from_slice(&piece);
        Ok(())
    }

    /// The body, once nothing is missing.
    pub fn finish(self) -> Bytes {
        if self.joined.is_empty() { self.first } else { self.joined.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;

    #[test]
    fn a_header_goes_there_and_back() {
        let properties = Properties::default().with_headers(&[("a", 1.into())]).unwrap();
        let header = ContentHeader { class_id: CLASS_BASIC, body_bytes: 1 << 40, properties };
        let mut out = BytesMut::new();
        header.encode(3, &mut out);
        let frame = frame::split(&mut out, 0).unwrap().unwrap();
        assert_eq!((frame.kind, frame.channel), (FrameKind::Header, 3));
        assert_eq!(ContentHeader::decode(&frame.payload), Ok(header));
        let heavy = Bytes::from_static(&[0, 60, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ContentHeader::decode(&heavy), Err(ContentError::Weight(1)));
    }

    #[test]
    fn pieces_make_a_body() {
        let mut one = BodyPieces::new(3);
        let piece = Bytes::from_static(b"abc");
        one.push(piece.clone()).unwrap();
        assert_eq!(one.missing_bytes(), 0);
        assert_eq!(one.finish().as_ptr(), piece.as_ptr());
        let mut many = BodyPieces::new(9);
        for _ in 0..3 {
            many.push(piece.clone()).unwrap();
            many.push(Bytes::new()).unwrap();
        }
        assert_eq!(many.push(piece), Err(BodyTooLong));
        assert_eq!(many.finish(), "abcabcabc");
    }
}
