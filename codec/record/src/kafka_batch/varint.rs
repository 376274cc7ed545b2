//! Zigzag varints: groups of seven bits, lowest first; signs folded so that small negatives are short.

use bytes::{BufMut, BytesMut};

/// A position in bytes. Every read is `None` if the bytes end before the value, or the value is malformed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    pub rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    pub fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    pub fn varint(&mut self) -> Option<i32> {
        let mut folded = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            folded |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((folded >> 1) as i32 ^ -((folded & 1) as i32));
            }
        }
        None
    }

    pub fn varlong(&mut self) -> Option<i64> {
        let mut folded = 0u64;
        for group in 0..10 {
            let byte = self.byte()?;
            folded |= u64::from(byte & 0x7f) << (7 * group);
            if byte & 0x80 == 0 {
                return Some((folded >> 1) as i64 ^ -((folded & 1) as i64));
            }
        }
        None
    }

    /// Bytes behind their length. Any negative length is null, as Kafka reads it.
    pub fn nullable_bytes(&mut self) -> Option<Option<&'a [u8]>> {
        match usize::try_from(self.varint()?) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Some(None),
        }
    }
}

pub(super) fn put_varint(buffer: &mut BytesMut, value: i32) {
    put_varlong(buffer, i64::from(value));
}

pub(super) fn put_varlong(buffer: &mut BytesMut, value: i64) {
    let mut folded = ((value << 1) ^ (value >> 63)) as u64;
    while folded >= 0x80 {
        buffer.put_u8(folded as u8 | 0x80);
        folded >>= 7;
    }
    buffer.put_u8(folded as u8);
}

pub(super) fn put_nullable_bytes(buffer: &mut BytesMut, bytes: Option<&[u8]>) {
    put_varlong(buffer, bytes.map_or(-1, |bytes| bytes.len() as i64));
    buffer.put_slice(bytes.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zigzag_both_ways() {
        for value in [0, -1, 1, 63, -64, 64, 300, i64::from(i32::MAX), i64::from(i32::MIN), i64::MAX, i64::MIN] {
            let mut buffer = BytesMut::new();
            put_varlong(&mut buffer, value);
            assert_eq!(Cursor { rest: &buffer }.varlong(), Some(value));
            if let Ok(short) = i32::try_from(value) {
                assert_eq!(Cursor { rest: &buffer }.varint(), Some(short));
            }
        }
        let mut buffer = BytesMut::new();
        put_varint(&mut buffer, 150);
        assert_eq!(&buffer[..], [0xac, 0x02]);
    }

    #[test]
    fn endless_varints_are_refused() {
        assert_eq!(Cursor { rest: &[0xff; 20] }.varint(), None);
        assert_eq!(Cursor { rest: &[0xff; 20] }.varlong(), None);
        assert_eq!(Cursor { rest: &[0xff; 3] }.varlong(), None);
    }
}
