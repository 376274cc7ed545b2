//! The fixed header, and where a packet ends (2.1).
//!
//! ```text
//! type (4 bits) │ flags (4 bits) │ remaining length, 1 to 4 bytes of 7 bits, least first │ …
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::{EncodeError, Error};
use crate::reason::Reason;

/// The largest packet that a fixed header can announce, with that header.
pub const PACKET_BYTES_MAX: usize = REMAINING_BYTES_MAX + 5;

/// The largest variable byte integer.
pub(crate) const REMAINING_BYTES_MAX: usize = 268_435_455;

/// Memory that is reserved at most at once for a packet that has only begun to arrive: its length is a claim.
const RESERVE_BYTES_MAX: usize = 256 * 1024;

/// One packet, sharing the memory it was received in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Type and flags.
    pub first: u8,
    /// What stands behind the fixed header.
    pub body: Bytes,
}

/// Splits the next packet off `buffer`, without a copy; `None` if it has not arrived whole, and then room for more of it
/// is reserved. `packet_bytes_max` counts the fixed header, as Maximum Packet Size does (3.1.2.11.4); a packet that is
/// larger is told as [`Reason::PacketTooLarge`] as soon as its header is there.
pub fn split(buffer: &mut BytesMut, packet_bytes_max: usize) -> Result<Option<Frame>, Error> {
    let Some(&first) = buffer.first() else { return Ok(None) };
    if first >> 4 == 0 {
        return Err(Error::protocol("2.1.2", "a packet of the forbidden type 0"));
    }
    let Some((remaining_bytes, length_bytes)) = variable_integer(&buffer[1..])? else { return Ok(None) };
    let remaining_bytes = remaining_bytes as usize;
    let packet_bytes = 1 + length_bytes + remaining_bytes;
    if packet_bytes > packet_bytes_max {
        return Err(Error::new(Reason::PacketTooLarge, "MQTT-3.1.2-24", "a packet larger than the maximum"));
    }
    if buffer.len() < packet_bytes {
        buffer.reserve((packet_bytes - buffer.len()).min(RESERVE_BYTES_MAX));
        return Ok(None);
    }
    buffer.advance(1 + length_bytes);
    let body = buffer.split_to(remaining_bytes).freeze();
    Ok(Some(Frame { first, body }))
}

/// The variable byte integer that begins `bytes`, and how many bytes it takes; `None` if there are too few. Four bytes at
/// most, and as few as can hold the value (1.5.5).
pub(crate) fn variable_integer(bytes: &[u8]) -> Result<Option<(u32, usize)>, Error> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                return Err(Error::malformed("MQTT-1.5.5-1", "a variable byte integer longer than its value needs"));
            }
            return Ok(Some((value, index + 1)));
        }
    }
    match bytes.len() {
        0..4 => Ok(None),
        _ => Err(Error::malformed("1.5.5", "a variable byte integer of more than four bytes")),
    }
}

/// How many bytes [`put_variable_integer`] writes.
pub(crate) fn variable_integer_bytes(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

pub(crate) fn put_variable_integer(out: &mut BytesMut, mut value: usize) {
    debug_assert!(value <= REMAINING_BYTES_MAX);
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A whole packet around what `body` writes.
pub(crate) fn put_packet(
    out: &mut BytesMut,
    first: u8,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let at = out.len();
    out.put_slice(&[first, 0]);
    let result = body(out).and_then(|()| close(out, at + 1));
    if result.is_err() {
        out.truncate(at);
    }
    result
}

/// Puts the length of what follows `at` there, where one byte is kept for it.
pub(crate) fn close(out: &mut BytesMut, at: usize) -> Result<(), EncodeError> {
    let content_bytes = out.len() - at - 1;
    if content_bytes > REMAINING_BYTES_MAX {
        return Err(EncodeError::TooLarge);
    }
    let more = variable_integer_bytes(content_bytes) - 1;
    if more > 0 {
        out.put_bytes(0, more);
        out.copy_within(at + 1..at + 1 + content_bytes, at + 1 + more);
    }
    let mut value = content_bytes;
    for index in 0..=more {
        out[at + index] = (value & 0x7f) as u8 | if index < more { 0x80 } else { 0 };
        value >>= 7;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_of(bytes: &[u8], max: usize) -> Result<Option<Frame>, Error> {
        split(&mut BytesMut::from(bytes), max)
    }

    /// Table 2-1 of version 3.1.1 (1.5.5 of version 5): the ends of each range.
    #[test]
    fn lengths_are_as_in_the_table() {
        let table: [(u32, &[u8]); 8] = [
            (0, &[0]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (16_383, &[0xff, 0x7f]),
            (16_384, &[0x80, 0x80, 1]),
            (2_097_151, &[0xff, 0xff, 0x7f]),
            (2_097_152, &[0x80, 0x80, 0x80, 1]),
            (268_435_455, &[0xff, 0xff, 0xff, 0x7f]),
        ];
        for (value, bytes) in table {
            let mut out = BytesMut::new();
            put_variable_integer(&mut out, value as usize);
            assert_eq!(out, bytes);
            assert_eq!(variable_integer(bytes), Ok(Some((value, bytes.len()))));
            assert_eq!(variable_integer(&bytes[..bytes.len() - 1]), Ok(None));
            assert_eq!(variable_integer_bytes(value as usize), bytes.len());
        }
    }

    #[test]
    fn frames_are_split() {
        let mut buffer = BytesMut::from(&[0xc0, 0, 0x30, 3, 1, 2, 3, 0x40][..]);
        assert_eq!(split(&mut buffer, 5), Ok(Some(Frame { first: 0xc0, body: Bytes::new() })));
        assert_eq!(split(&mut buffer, 5), Ok(Some(Frame { first: 0x30, body: Bytes::from_static(&[1, 2, 3]) })));
        assert_eq!(split(&mut buffer, 5), Ok(None));
        assert_eq!(buffer, [0x40][..]);
    }

    #[test]
    fn what_is_no_frame_is_told() {
        let reason = |bytes: &[u8], max| split_of(bytes, max).unwrap_err().reason;
        assert_eq!(reason(&[0x30, 0x80, 0x80, 0x80, 0x80], usize::MAX), Reason::MalformedPacket);
        assert_eq!(reason(&[0x30, 0x80, 0], usize::MAX), Reason::MalformedPacket);
        assert_eq!(reason(&[0x30, 4], 5), Reason::PacketTooLarge);
        assert_eq!(reason(&[0x0f], 5), Reason::ProtocolError);
        assert_eq!(split_of(&[0x30, 3], 5), Ok(None));
        assert_eq!(split_of(&[], 5), Ok(None));
    }

    #[test]
    fn a_claimed_length_reserves_little() {
        let mut buffer = BytesMut::from(&[0x30, 0xff, 0xff, 0xff, 0x7f][..]);
        assert_eq!(split(&mut buffer, PACKET_BYTES_MAX), Ok(None));
        assert!(buffer.capacity() <= 2 * RESERVE_BYTES_MAX);
    }

    #[test]
    fn a_length_is_closed_over_what_was_written() {
        for content_bytes in [0, 1, 127, 128, 16_383, 16_384, 2_097_152] {
            let content: Vec<u8> = (0..content_bytes).map(|index| index as u8).collect();
            let mut out = BytesMut::from(&b"before"[..]);
            put_packet(&mut out, 0x30, |out| {
                out.put_slice(&content);
                Ok(())
            })
            .unwrap();
            let mut packet = out.split_off(6);
            assert_eq!(split(&mut packet, usize::MAX).unwrap().unwrap().body, content);
            assert!(packet.is_empty());
        }
    }
}
