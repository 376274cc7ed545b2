//! Frames, and the protocol header before the first of them.
//!
//! ```text
//! protocol header  "AMQP" │ 0 │ 0 │ 9 │ 1
//! frame            u8 kind │ u16 channel │ u32 length │ payload │ 0xce
//! ```
//!
//! The agreed frame_max counts all of a frame, the 8 bytes around the payload included.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What stands around a payload, bytes.
pub const FRAME_OVERHEAD_BYTES: usize = 8;

/// What a connection begins with, in both directions.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// What every frame ends with.
pub const FRAME_END: u8 = 0xce;

pub(crate) const HEAD_BYTES: usize = 7;

/// Memory that is reserved at most at once for a frame that has only begun to arrive: its length is a claim.
const RESERVE_BYTES_MAX: usize = 256 * 1024;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    Method = 1,
    Header = 2,
    Body = 3,
    Heartbeat = 8,
}

/// One frame, sharing the memory it was received in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: FrameKind,
    pub channel: u16,
    pub payload: Bytes,
}

/// Bytes that are no frame. All of them are AMQP's frame error (501), after which the connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {frame_bytes} bytes, where at most {frame_bytes_max} are agreed")]
    TooLarge {
        /// With the bytes around the payload.
        frame_bytes: u64,
        frame_bytes_max: usize,
    },
    #[error("a frame of type {kind} ends with {end:#04x}")]
    BadEnd { kind: u8, channel: u16, end: u8 },
    #[error("a frame of the unknown type {kind}")]
    UnknownKind { kind: u8, channel: u16 },
}

/// What stands before a payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub kind: FrameKind,
    pub channel: u16,
    pub payload_bytes: usize,
}

impl Head {
    /// The head of the first frame of `bytes`; `None` if it has not arrived whole.
    #[inline]
    pub fn read(bytes: &[u8], frame_bytes_max: usize) -> Result<Option<Head>, FrameError> {
        let Some(&[kind, c1, c0, l3, l2, l1, l0]) = bytes.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let channel = u16::from_be_bytes([c1, c0]);
        let payload_bytes = u32::from_be_bytes([l3, l2, l1, l0]) as usize;
        let kind = match kind {
            1 => FrameKind::Method,
            2 => FrameKind::Header,
            3 => FrameKind::Body,
            8 => FrameKind::Heartbeat,
            kind => return Err(FrameError::UnknownKind { kind, channel }),
        };
        let frame_bytes = payload_bytes as u64 + FRAME_OVERHEAD_BYTES as u64;
        if frame_bytes_max > 0 && frame_bytes > frame_bytes_max as u64 {
            return Err(FrameError::TooLarge { frame_bytes, frame_bytes_max });
        }
        Ok(Some(Head { kind, channel, payload_bytes }))
    }

    /// Whether the frame that begins `bytes` has arrived whole, in which case it ends as it must.
    #[inline]
    pub fn is_whole(&self, bytes: &[u8]) -> Result<bool, FrameError> {
        match bytes.get(HEAD_BYTES + self.payload_bytes) {
            Some(&FRAME_END) => Ok(true),
            Some(&end) => Err(FrameError::BadEnd { kind: self.kind as u8, channel: self.channel, end }),
            None => Ok(false),
        }
    }
}

/// Splits the next frame off `buffer`, without a copy; `None` if it has not arrived whole, and then room for more of it
/// is reserved. `frame_bytes_max` is what was agreed; 0 is no limit, as in the agreement.
pub fn split(buffer: &mut BytesMut, frame_bytes_max: usize) -> Result<Option<Frame>, FrameError> {
    let Some(head) = Head::read(buffer, frame_bytes_max)? else { return Ok(None) };
    if !head.is_whole(buffer)? {
        buffer.reserve((HEAD_BYTES + head.payload_bytes + 1 - buffer.len()).min(RESERVE_BYTES_MAX));
        return Ok(None);
    }
    buffer.advance(HEAD_BYTES);
    let payload = buffer.split_to(head.payload_bytes).freeze();
    buffer.advance(1);
    Ok(Some(Frame { kind: head.kind, channel: head.channel, payload }))
}

/// Takes the protocol header off `buffer`: the four bytes behind `AMQP`, which are `[0, 0, 9, 1]` where the client wants
/// this version; `None` if it has not arrived whole, an error as soon as it cannot be one. RabbitMQ answers either
/// with [`PROTOCOL_HEADER`] and closes.
pub fn protocol_header(buffer: &mut BytesMut) -> Result<Option<[u8; 4]>, NotAmqp> {
    let name = &PROTOCOL_HEADER[..4];
    let arrived = buffer.len().min(name.len());
    if buffer[..arrived] != name[..arrived] {
        return Err(NotAmqp);
    }
    let Some(&[_, _, _, _, a, b, c, d]) = buffer.first_chunk::<8>() else { return Ok(None) };
    buffer.advance(8);
    Ok(Some([a, b, c, d]))
}

/// A connection that does not begin with a protocol header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection does not begin with a protocol header")]
pub struct NotAmqp;

/// Writes a heartbeat.
pub fn put_heartbeat(out: &mut BytesMut) {
    put_head(out, FrameKind::Heartbeat, 0, 0);
    out.put_u8(FRAME_END);
}

pub(crate) fn put_head(out: &mut BytesMut, kind: FrameKind, channel: u16, payload_bytes: usize) {
    let [c1, c0] = channel.to_be_bytes();
    let [l3, l2, l1, l0] = (payload_bytes as u32).to_be_bytes();
    out.put_slice(&[kind as u8, c1, c0, l3, l2, l1, l0]);
}

/// A whole frame around what `payload` writes.
pub(crate) fn put_frame(out: &mut BytesMut, kind: FrameKind, channel: u16, payload: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    put_head(out, kind, channel, 0);
    payload(out);
    let payload_bytes = (out.len() - at - HEAD_BYTES) as u32;
    out[at + 3..at + HEAD_BYTES].copy_from_slice(&payload_bytes.to_be_bytes());
    out.put_u8(FRAME_END);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_split() {
        let mut buffer = BytesMut::new();
        put_frame(&mut buffer, FrameKind::Body, 0x0102, |out| out.put_slice(b"abc"));
        put_heartbeat(&mut buffer);
        buffer.put_slice(&[1, 0, 0, 0, 0, 0, 1, 9]);
        let body = Frame { kind: FrameKind::Body, channel: 0x0102, payload: Bytes::from_static(b"abc") };
        assert_eq!(split(&mut buffer, 11), Ok(Some(body)));
        let heartbeat = Frame { kind: FrameKind::Heartbeat, channel: 0, payload: Bytes::new() };
        assert_eq!(split(&mut buffer, 11), Ok(Some(heartbeat)));
        assert_eq!(split(&mut buffer, 11), Ok(None));
        buffer.put_u8(FRAME_END);
        assert_eq!(split(&mut buffer, 0).unwrap().unwrap().payload, [9][..]);
        assert_eq!(split(&mut buffer, 0), Ok(None));
    }

    #[test]
    fn what_is_no_frame_is_told() {
        let split = |bytes: &[u8], max| super::split(&mut BytesMut::from(bytes), max);
        let large = FrameError::TooLarge { frame_bytes: 12, frame_bytes_max: 11 };
        assert_eq!(split(&[3, 0, 1, 0, 0, 0, 4], 11), Err(large));
        assert_eq!(split(&[4, 0, 1, 0, 0, 0, 0], 11), Err(FrameError::UnknownKind { kind: 4, channel: 1 }));
        assert_eq!(split(&[8, 0, 1, 0, 0, 0, 0, 0], 11), Err(FrameError::BadEnd { kind: 8, channel: 1, end: 0 }));
        assert_eq!(split(b"AMQP\0\0\x09\x01", 11), Err(FrameError::UnknownKind { kind: b'A', channel: 0x4d51 }));
    }

    #[test]
    fn a_claimed_length_reserves_little() {
        let mut buffer = BytesMut::from(&[3, 0, 1, 0xff, 0xff, 0xff, 0xff][..]);
        assert_eq!(split(&mut buffer, 0), Ok(None));
        assert!(buffer.capacity() <= 2 * RESERVE_BYTES_MAX);
    }

    #[test]
    fn a_protocol_header_is_seen_early() {
        let header = |bytes: &[u8]| protocol_header(&mut BytesMut::from(bytes));
        assert_eq!(header(b"AM"), Ok(None));
        assert_eq!(header(b"AMQP\0\0\x09"), Ok(None));
        assert_eq!(header(&PROTOCOL_HEADER), Ok(Some([0, 0, 9, 1])));
        assert_eq!(header(b"AMQP\x01\x01\0\x0a"), Ok(Some([1, 1, 0, 10])));
        assert_eq!(header(b"G"), Err(NotAmqp));
    }
}
