//! Frames and the two payloads of a publish read where they lie: for the one path where every nanosecond is paid for each
//! message. All else goes by [`crate::frame::split`] and [`crate::Method::decode`].

use codec_record::amqp_message::SyntaxError;

use crate::content::{CLASS_BASIC, ContentError};
use crate::frame::{FRAME_OVERHEAD_BYTES, FrameError, FrameKind, HEAD_BYTES, Head};

/// One frame, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameView<'a> {
    pub kind: FrameKind,
    pub channel: u16,
    pub payload: &'a [u8],
}

impl FrameView<'_> {
    /// How many bytes the frame takes, those around the payload included.
    pub fn frame_bytes(&self) -> usize {
        self.payload.len() + FRAME_OVERHEAD_BYTES
    }
}

/// The first frame of `bytes`; `None` if it has not arrived whole. `frame_bytes_max` as in [`crate::frame::split`].
pub fn peek(bytes: &[u8], frame_bytes_max: usize) -> Result<Option<FrameView<'_>>, FrameError> {
    let Some(head) = Head::read(bytes, frame_bytes_max)? else { return Ok(None) };
    let view = |payload| FrameView { kind: head.kind, channel: head.channel, payload };
    Ok(head.is_whole(bytes)?.then(|| view(&bytes[HEAD_BYTES..HEAD_BYTES + head.payload_bytes])))
}

/// `basic.publish`, borrowed. Names are bytes here: whoever meets one for the first time looks whether it is UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishView<'a> {
    pub exchange: &'a [u8],
    pub routing_key: &'a [u8],
    pub mandatory: bool,
    pub immediate: bool,
}

const PUBLISH: [u8; 4] = [0, CLASS_BASIC as u8, 0, 40];

impl<'a> PublishView<'a> {
    /// Whether a method frame's payload is a publish.
    pub fn is_one(payload: &[u8]) -> bool {
        payload.starts_with(&PUBLISH)
    }

    /// Reads the payload of a method frame that is a publish.
    pub fn read(payload: &'a [u8]) -> Result<Self, SyntaxError> {
        // The method's numbers, and two bytes that nobody uses.
        let rest = payload.get(6..).ok_or(SyntaxError::Truncated)?;
        let (exchange, rest) = short(rest)?;
        let (routing_key, rest) = short(rest)?;
        match rest {
            &[bits] => Ok(PublishView { exchange, routing_key, mandatory: bits & 1 != 0, immediate: bits & 2 != 0 }),
            [] => Err(SyntaxError::Truncated),
            _ => Err(SyntaxError::Trailing),
        }
    }
}

fn short(bytes: &[u8]) -> Result<(&[u8], &[u8]), SyntaxError> {
    let (&length, rest) = bytes.split_first().ok_or(SyntaxError::Truncated)?;
    rest.split_at_checked(usize::from(length)).ok_or(SyntaxError::Truncated)
}

/// A content header, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderView<'a> {
    pub class_id: u16,
    pub body_bytes: u64,
    /// As they came, flags first: not looked at.
    pub properties: &'a [u8],
}

impl<'a> HeaderView<'a> {
    /// Reads the payload of a header frame.
    pub fn read(payload: &'a [u8]) -> Result<Self, ContentError> {
        let Some((&[c1, c0, w1, w0, b7, b6, b5, b4, b3, b2, b1, b0], properties)) = payload.split_first_chunk::<12>()
        else {
            return Err(SyntaxError::Truncated.into());
        };
        match u16::from_be_bytes([w1, w0]) {
            0 => Ok(HeaderView {
                class_id: u16::from_be_bytes([c1, c0]),
                body_bytes: u64::from_be_bytes([b7, b6, b5, b4, b3, b2, b1, b0]),
                properties,
            }),
            weight => Err(ContentError::Weight(weight)),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use codec_record::amqp_message::{Properties, ShortStr};

    use super::*;
    use crate::{ContentHeader, Method, basic, frame};

    #[test]
    fn a_frame_is_the_same_as_when_it_is_split_off() {
        let publish = basic::Publish {
            exchange: ShortStr::from_static("x"),
            routing_key: ShortStr::from_static("key"),
            mandatory: true,
            immediate: false,
        };
        let mut out = BytesMut::new();
        Method::from(publish).encode(7, &mut out);
        for length in 0..out.len() {
            assert_eq!(peek(&out[..length], 0), Ok(None));
        }
        let view = peek(&out, 0).unwrap().unwrap();
        assert_eq!((view.kind, view.channel, view.frame_bytes()), (FrameKind::Method, 7, out.len()));
        assert!(PublishView::is_one(view.payload));
        assert_eq!(
            PublishView::read(view.payload),
            Ok(PublishView { exchange: b"x", routing_key: b"key", mandatory: true, immediate: false })
        );
        for length in 4..view.payload.len() {
            assert_eq!(PublishView::read(&view.payload[..length]), Err(SyntaxError::Truncated));
        }
        let payload = view.payload.to_vec();
        assert_eq!(frame::split(&mut out, 0).unwrap().unwrap().payload, payload);
        assert!(peek(&[3, 0, 1, 0, 0, 0, 4], 11).is_err());
        assert!(peek(&[8, 0, 1, 0, 0, 0, 0, 0], 0).is_err());
        assert!(peek(&[4, 0, 1, 0, 0, 0, 0], 0).is_err());
    }

    #[test]
    fn a_header_is_the_same_as_when_it_is_decoded() {
        let properties = Properties::default().with_headers(&[("a", 1.into())]).unwrap();
        let header = ContentHeader { class_id: 60, body_bytes: 1 << 40, properties: properties.clone() };
        let mut out = BytesMut::new();
        header.encode(3, &mut out);
        let view = peek(&out, 0).unwrap().unwrap();
        let read = HeaderView::read(view.payload).unwrap();
        assert_eq!((read.class_id, read.body_bytes, read.properties), (60, 1 << 40, &properties.raw()[..]));
        assert_eq!(ContentHeader::decode(&Bytes::copy_from_slice(view.payload)), Ok(header));
        assert_eq!(HeaderView::read(&[0, 60, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(ContentError::Weight(1)));
        assert_eq!(HeaderView::read(&[0, 60]), Err(SyntaxError::Truncated.into()));
    }
}
