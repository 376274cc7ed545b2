//! AMQP's short string: at most 255 bytes of UTF-8, shared with the frame it came in.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

use super::SyntaxError;

/// At most 255 bytes of UTF-8. Cloning shares the bytes; who keeps one for long should keep a [`ShortStr::detached`] one,
/// for a slice holds the whole buffer of which it is a part.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShortStr(Bytes);

/// A string that is longer than 255 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a short string of {0} bytes, where at most 255 are possible")]
pub struct TooLong(pub usize);

impl ShortStr {
    /// The most bytes that one has.
    pub const BYTES_MAX: usize = 255;

    /// Of a literal, which must not be longer than 255 bytes.
    pub const fn from_static(text: &'static str) -> Self {
        assert!(text.len() <= Self::BYTES_MAX);
        ShortStr(Bytes::from_static(text.as_bytes()))
    }

    /// As much of `text` as fits, cut between characters: for texts that only people read.
    pub fn truncated(text: &str) -> Self {
        let end = (0..=text.len().min(Self::BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end));
        ShortStr(Bytes::copy_from_slice(&text.as_bytes()[..end.unwrap_or(0)]))
    }

    /// Bytes of a peer, not longer than 255.
    pub(super) fn from_wire(bytes: Bytes) -> Result<Self, SyntaxError> {
        debug_assert!(bytes.len() <= Self::BYTES_MAX);
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(ShortStr(bytes)),
            Err(_) => Err(SyntaxError::MalformedUtf8),
        }
    }

    pub fn as_str(&self) -> &str {
        // SAFETY: every way to make one takes a `str` or checks the bytes, and none changes them later.
        unsafe { std::str::from_utf8_unchecked(&self.0) }
    }

    /// The bytes, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The same text in memory of its own.
    pub fn detached(&self) -> Self {
        ShortStr(Bytes::copy_from_slice(&self.0))
    }
}

impl Deref for ShortStr {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for ShortStr {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for ShortStr {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

/// As `str` has it, which `Borrow` asks for.
impl Hash for ShortStr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl TryFrom<String> for ShortStr {
    type Error = TooLong;

    fn try_from(text: String) -> Result<Self, TooLong> {
        match text.len() {
            0..=Self::BYTES_MAX => Ok(ShortStr(Bytes::from(text))),
            bytes => Err(TooLong(bytes)),
        }
    }
}

impl TryFrom<&str> for ShortStr {
    type Error = TooLong;

    fn try_from(text: &str) -> Result<Self, TooLong> {
        match text.len() {
            0..=Self::BYTES_MAX => Ok(ShortStr(Bytes::copy_from_slice(text.as_bytes()))),
            bytes => Err(TooLong(bytes)),
        }
    }
}

impl PartialEq<str> for ShortStr {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for ShortStr {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for ShortStr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl fmt::Display for ShortStr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_is_cut_between_characters() {
        let long = format!("{}ä", "x".repeat(254));
        assert_eq!(ShortStr::truncated(&long).as_str(), "x".repeat(254));
        assert_eq!(ShortStr::truncated("ä"), "ä");
        assert_eq!(ShortStr::try_from(long), Err(TooLong(256)));
    }
}
