//! Reading AMQP's elementary types: integers, bits, short and long strings. All integers are big-endian.

use bytes::Bytes;

use super::ShortStr;

/// Bytes that are not what AMQP's grammar wants. RabbitMQ calls this a syntax error (502).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// The bytes end inside a value.
    #[error("the bytes end inside a value")]
    Truncated,
    /// Bytes are left over behind the last value.
    #[error("bytes are left over behind the last value")]
    Trailing,
    /// A short string that is no UTF-8.
    #[error("malformed UTF-8 in a short string")]
    MalformedUtf8,
    /// A field of a type that nobody knows.
    #[error("a field of the unknown type {0:#04x}")]
    UnknownFieldType(u8),
    /// Tables and arrays inside each other beyond [`DEPTH_MAX`](super::DEPTH_MAX).
    #[error("tables or arrays are nested too deeply")]
    TooDeep,
    /// A table of more than [`VALUES_MAX`](super::VALUES_MAX) values, those inside others included.
    #[error("a table of too many values")]
    TooManyValues,
    /// Property flags that say that there are properties which AMQP does not have.
    #[error("unknown property flags")]
    UnknownProperties,
}

/// Walks over bytes that a peer or the disk controls. What it hands out shares their memory.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    source: &'a Bytes,
    rest: &'a [u8],
    /// The octet that bits are taken from, and how many of it were.
    bits: u8,
    bits_taken: u8,
}

impl<'a> Reader<'a> {
    /// At the start of `source`.
    pub fn new(source: &'a Bytes) -> Self {
        Reader { source, rest: source, bits: 0, bits_taken: 8 }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// An error if something is left.
    pub fn finish(&self) -> Result<(), SyntaxError> {
        if self.rest.is_empty() { Ok(()) } else { Err(SyntaxError::Trailing) }
    }

    pub fn u8(&mut self) -> Result<u8, SyntaxError> {
        self.array().map(u8::from_be_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, SyntaxError> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, SyntaxError> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, SyntaxError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A bit: those that follow each other share octets, lowest bit first.
    pub fn bit(&mut self) -> Result<bool, SyntaxError> {
        if self.bits_taken == 8 {
            self.bits = self.u8()?;
            self.bits_taken = 0;
        }
        let bit = self.bits >> self.bits_taken & 1 == 1;
        self.bits_taken += 1;
        Ok(bit)
    }

    /// One octet of length, and as many bytes of UTF-8.
    pub fn short_str(&mut self) -> Result<ShortStr, SyntaxError> {
        ShortStr::from_wire(self.short_bytes()?)
    }

    /// One octet of length, and as many bytes.
    pub fn short_bytes(&mut self) -> Result<Bytes, SyntaxError> {
        let slice = self.short_slice()?;
        Ok(self.share(slice))
    }

    /// Four octets of length, and as many bytes.
    pub fn long_bytes(&mut self) -> Result<Bytes, SyntaxError> {
        let slice = self.long_slice()?;
        Ok(self.share(slice))
    }

    pub(super) fn short_slice(&mut self) -> Result<&'a [u8], SyntaxError> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    pub(super) fn long_slice(&mut self) -> Result<&'a [u8], SyntaxError> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    pub(super) fn share(&self, slice: &[u8]) -> Bytes {
        self.source.slice_ref(slice)
    }

    /// A reader of a part that this one handed out.
    pub(super) fn within(&self, part: &'a [u8]) -> Self {
        Reader { source: self.source, rest: part, bits: 0, bits_taken: 8 }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], SyntaxError> {
        let (first, rest) = self.rest.split_first_chunk().ok_or(SyntaxError::Truncated)?;
        self.rest = rest;
        self.bits_taken = 8;
        Ok(*first)
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], SyntaxError> {
        let (first, rest) = self.rest.split_at_checked(bytes).ok_or(SyntaxError::Truncated)?;
        self.rest = rest;
        self.bits_taken = 8;
        Ok(first)
    }
}
