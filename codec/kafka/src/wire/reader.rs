//! Reads primitive values out of one frame.
//!
//! # Memory
//! A length on the wire is a claim. No memory is taken for it before it was checked against the bytes that are left,
//! and everything a decode allocates (array elements by their size in memory, strings by their length) is charged
//! against a budget that follows from the length of the frame. `bytes` and `records` cost nothing: they are slices of
//! the frame. So a peer can cause at most [`MEMORY_FACTOR`] times what it sent, and never more than the frame limit.

use std::str::Utf8Chunk;

use bytes::Bytes;

use super::DecodeError;
use crate::frame::DEFAULT_FRAME_BYTES_MAX;

/// Memory that a decode may take per byte of the frame. The worst honest message is an array of structures whose
/// strings and arrays are all empty: a topic of 3 or 4 bytes on the wire takes 64 to 96 in memory.
pub const MEMORY_FACTOR: usize = 32;

/// Frames below this size get the budget of one of this size, so that no small message can fail for its shape.
const BUDGET_FRAME_BYTES_MIN: usize = 4 * 1024;

/// A position in one frame, and what is left of its memory budget.
#[derive(Debug, Clone)]
pub struct Reader {
    frame: Bytes,
    position: usize,
    budget_bytes: usize,
}

impl Reader {
    /// Reads `frame` (without its length prefix) with the budget of [`DEFAULT_FRAME_BYTES_MAX`].
    pub fn new(frame: Bytes) -> Self {
        Self::with_limit(frame, DEFAULT_FRAME_BYTES_MAX)
    }

    /// Reads `frame` with a memory budget of at most `memory_bytes_max`, which is the listener's frame limit.
    pub fn with_limit(frame: Bytes, memory_bytes_max: usize) -> Self {
        let budget_bytes = frame.len().max(BUDGET_FRAME_BYTES_MIN).saturating_mul(MEMORY_FACTOR);
        Reader { frame, position: 0, budget_bytes: budget_bytes.min(memory_bytes_max) }
    }

    /// Bytes not yet read. Bytes left behind a request's body are ignored, as Kafka's broker ignores them.
    pub fn remaining(&self) -> usize {
        self.frame.len() - self.position
    }

    /// Bytes already read.
    pub fn position(&self) -> usize {
        self.position
    }

    /// What was not read, without a copy.
    pub fn rest(&self) -> Bytes {
        self.frame.slice(self.position..)
    }

    fn advance(&mut self, length: usize) -> Result<usize, DecodeError> {
        let remaining = self.remaining();
        if length > remaining {
            return Err(DecodeError::Truncated { missing: length - remaining });
        }
        let start = self.position;
        self.position += length;
        Ok(start)
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let start = self.advance(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.frame[start..start + N]);
        Ok(array)
    }

    /// Takes `bytes` from the memory budget.
    pub(crate) fn charge(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.budget_bytes = self.budget_bytes.checked_sub(bytes).ok_or(DecodeError::OverBudget)?;
        Ok(())
    }

    pub(crate) fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    /// A base-128 varint, lowest group first, of at most five bytes.
    pub(crate) fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::InvalidLength)
    }

    /// A length or count: `None` is null.
    fn length(&mut self, classic: ClassicLength, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            return Ok(self.unsigned_varint()?.checked_sub(1).map(|length| length as usize));
        }
        let length = match classic {
            ClassicLength::I16 => i32::from(self.i16()?),
            ClassicLength::I32 => self.i32()?,
        };
        match length {
            -1 => Ok(None),
            _ => usize::try_from(length).map(Some).map_err(|_| DecodeError::InvalidLength),
        }
    }

    /// A string. What is no UTF-8 is replaced by U+FFFD, as Kafka's broker (a Java string) replaces it.
    pub(crate) fn string(&mut self, flexible: bool) -> Result<Option<String>, DecodeError> {
        let Some(length) = self.length(ClassicLength::I16, flexible)? else { return Ok(None) };
        let start = self.advance(length)?;
        self.charge(length)?;
        if let Ok(text) = std::str::from_utf8(&self.frame[start..start + length]) {
            return Ok(Some(text.to_owned()));
        }
        let bytes = self.frame.slice(start..start + length);
        // Its length first, so that what is allocated can be charged; at most three bytes for each bad one.
        let length = bytes.utf8_chunks().map(|chunk| chunk.valid().len() + replacement(&chunk).len()).sum();
        self.charge(length)?;
        let mut text = String::with_capacity(length);
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            text.push_str(replacement(&chunk));
        }
        Ok(Some(text))
    }

    /// Bytes or records: a slice of the frame.
    pub(crate) fn bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        let Some(length) = self.length(ClassicLength::I32, flexible)? else { return Ok(None) };
        let start = self.advance(length)?;
        Ok(Some(self.frame.slice(start..start + length)))
    }

    /// The count of an array whose elements take `element_bytes` in memory each. The memory for them is charged.
    pub(crate) fn array_count(&mut self, element_bytes: usize, flexible: bool) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.length(ClassicLength::I32, flexible)? else { return Ok(None) };
        // No element takes less than a byte on the wire.
        let remaining = self.remaining();
        if count > remaining {
            return Err(DecodeError::ArrayTooLong { count, remaining });
        }
        self.charge(count.saturating_mul(element_bytes))?;
        Ok(Some(count))
    }

    /// The tagged fields that end a flexible structure. `field` reads the content of a tag it knows and returns true;
    /// others are skipped.
    ///
    /// ```text
    /// uvarint count │ count × ( uvarint tag │ uvarint size │ size bytes )
    /// ```
    pub(crate) fn tagged_fields(
        &mut self,
        mut field: impl FnMut(&mut Reader, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.unsigned_varint()?;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            let start = self.position;
            self.advance(size)?;
            let end = self.position;
            self.position = start;
            if !field(self, tag)? {
                self.position = end;
            }
            if self.position != end {
                return Err(DecodeError::InvalidTaggedField { tag });
            }
        }
        Ok(())
    }
}

/// What stands for the invalid bytes at the end of a chunk.
fn replacement(chunk: &Utf8Chunk) -> &'static str {
    if chunk.invalid().is_empty() { "" } else { "\u{fffd}" }
}

#[derive(Clone, Copy)]
enum ClassicLength {
    I16,
    I32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &'static [u8]) -> Reader {
        Reader::new(Bytes::from_static(bytes))
    }

    #[test]
    fn varints() {
        assert_eq!(reader(&[0]).unsigned_varint(), Ok(0));
        assert_eq!(reader(&[0xac, 0x02]).unsigned_varint(), Ok(300));
        assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff, 0x0f]).unsigned_varint(), Ok(u32::MAX));
        assert_eq!(reader(&[0x80; 6]).unsigned_varint(), Err(DecodeError::InvalidLength));
        assert_eq!(reader(&[0x80]).unsigned_varint(), Err(DecodeError::Truncated { missing: 1 }));
    }

    #[test]
    fn a_huge_count_takes_no_memory() {
        let error = DecodeError::ArrayTooLong { count: 0x7fff_ffff, remaining: 0 };
        assert_eq!(reader(&[0x7f, 0xff, 0xff, 0xff]).array_count(72, false), Err(error));
        assert_eq!(reader(&[0xff, 0xff, 0xff, 0xfe]).array_count(72, false), Err(DecodeError::InvalidLength));
        let frame = Bytes::from([&[0, 0, 0x10, 0][..], &[0; 4096]].concat());
        assert_eq!(Reader::new(frame.clone()).array_count(24, false), Ok(Some(4096)));
        assert_eq!(Reader::new(frame).array_count(1024, false), Err(DecodeError::OverBudget));
    }

    #[test]
    fn strings_that_are_no_utf8_are_replaced() {
        assert_eq!(reader(&[0, 2, b'a', 0xff]).string(false), Ok(Some("a\u{fffd}".to_string())));
    }

    #[test]
    fn unknown_tags_are_skipped() {
        let mut bytes = reader(&[2, 0, 1, 9, 7, 0, 42]);
        let mut seen = Vec::new();
        let result = bytes.tagged_fields(|reader, tag| {
            seen.push(tag);
            Ok(tag == 0 && reader.i8()? == 9)
        });
        assert_eq!((result, seen, bytes.remaining()), (Ok(()), vec![0, 7], 1));
    }
}
