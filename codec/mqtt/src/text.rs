//! UTF-8 strings and binary data, each at most 65,535 bytes (1.5.4, 1.5.6).

use std::fmt;
use std::ops::Deref;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::Error;

/// A string: well-formed UTF-8 (so without surrogates), without U+0000, at most 65,535 bytes.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(Bytes);

/// Binary data of at most 65,535 bytes.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Binary(Bytes);

impl Text {
    /// `None` if the string is too long or has a U+0000.
    pub fn new(text: impl Into<String>) -> Option<Text> {
        let text = text.into();
        (text.len() <= u16::MAX.into() && !text.contains('\0')).then(|| Text(text.into()))
    }

    /// Sharing the memory; `None` as in [`Text::new`], or if it is not UTF-8.
    pub fn from_bytes(bytes: Bytes) -> Option<Text> {
        (bytes.len() <= u16::MAX.into()).then(|| Text::of_the_wire(bytes).ok())?
    }

    pub(crate) fn of_the_wire(bytes: Bytes) -> Result<Text, Error> {
        if std::str::from_utf8(&bytes).is_err() {
            return Err(Error::malformed("MQTT-1.5.4-1", "a string that is not well-formed UTF-8"));
        }
        if bytes.contains(&0) {
            return Err(Error::malformed("MQTT-1.5.4-2", "a string with U+0000"));
        }
        Ok(Text(bytes))
    }

    pub fn as_str(&self) -> &str {
        // SAFETY: both constructors take only well-formed UTF-8, and `Bytes` does not change.
        unsafe { std::str::from_utf8_unchecked(&self.0) }
    }

    /// The same memory, as bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Refuses control characters and non-characters. A receiver may treat them as malformed (1.5.4); this crate does in
    /// names (topics, filters, client identifiers, user names), which end up in logs, paths and rules, and lets other
    /// strings have them: a user property may well have lines.
    pub(crate) fn plain(self) -> Result<Text, Error> {
        let odd = |c: char| c.is_control() || matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe;
        if self.contains(odd) {
            return Err(Error::malformed("1.5.4", "a name with control characters or non-characters"));
        }
        Ok(self)
    }

    pub(crate) fn put(&self, out: &mut BytesMut) {
        put(&self.0, out);
    }
}

impl Binary {
    /// `None` if there are too many bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Option<Binary> {
        let bytes = bytes.into();
        (bytes.len() <= u16::MAX.into()).then_some(Binary(bytes))
    }

    pub(crate) fn of_the_wire(bytes: Bytes) -> Binary {
        Binary(bytes)
    }

    /// The same memory.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    pub(crate) fn put(&self, out: &mut BytesMut) {
        put(&self.0, out);
    }
}

fn put(bytes: &[u8], out: &mut BytesMut) {
    out.put_u16(bytes.len() as u16);
    out.put_slice(bytes);
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Deref for Binary {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), formatter)
    }
}

/// Says only how much it is: passwords are binary data.
impl fmt::Debug for Binary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(bytes: &'static [u8]) -> &'static str {
        Text::of_the_wire(Bytes::from_static(bytes)).unwrap_err().statement
    }

    #[test]
    fn strings_are_checked() {
        assert_eq!(statement(b"a\xed\xa0\x80"), "MQTT-1.5.4-1", "a surrogate");
        assert_eq!(statement(b"a\xc0\x80"), "MQTT-1.5.4-1", "overlong");
        assert_eq!(statement(b"\xf4\x90\x80\x80"), "MQTT-1.5.4-1", "beyond U+10FFFF");
        assert_eq!(statement(b"a\0"), "MQTT-1.5.4-2");
        // 1.5.4's example: A and U+2A6D4, and [MQTT-1.5.4-3]: a byte order mark is a character like others.
        assert_eq!(Text::of_the_wire(Bytes::from_static(b"\x41\xf0\xaa\x9b\x94")).unwrap().as_str(), "A\u{2a6d4}");
        assert_eq!(Text::of_the_wire(Bytes::from_static(b"\xef\xbb\xbf")).unwrap().as_str(), "\u{feff}");
        assert_eq!(Text::new("a\0"), None);
        assert!(Text::new("a".repeat(65_535)).is_some());
        assert_eq!(Text::new("a".repeat(65_536)), None);
        assert_eq!(Binary::new(vec![0; 65_536]), None);
    }

    #[test]
    fn names_are_plain() {
        for odd in ["\u{1}", "\u{1f}", "\u{7f}", "\u{9f}", "\u{ffff}", "\u{1fffe}", "\u{fdd0}"] {
            assert!(Text::new(odd).unwrap().plain().is_err(), "{odd:?}");
        }
        for plain in ["", "a/b c", "\u{a0}", "\u{feff}", "\u{2a6d4}"] {
            assert!(Text::new(plain).unwrap().plain().is_ok(), "{plain:?}");
        }
    }
}
