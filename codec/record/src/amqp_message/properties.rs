//! A message's properties as they stand in its content header, and what can be read or changed of them in place.
//!
//! ```text
//! u16 flags │ those of the following that the flags say, in this order:
//!   bit 15 content-type      short str     bit 10 correlation-id  short str     bit 5 type         short str
//!       14 content-encoding  short str          9 reply-to        short str         4 user-id      short str
//!       13 headers           table              8 expiration      short str         3 app-id       short str
//!       12 delivery-mode     u8                 7 message-id      short str         2 (cluster-id) short str
//!       11 priority          u8                 6 timestamp       u64               1 and 0: must be 0
//! ```
//!
//! A message that AMQP published is delivered with the very bytes it came with: nothing here is built unless asked for.
//! The short strings are bytes here, not text: some clients put binary identifiers there.

use bytes::{BufMut, Bytes, BytesMut};

use super::table::{Budget, check_table, check_value, read_value, with_length, write_field};
use super::{FieldTable, FieldValue, PropertyList, Reader, SyntaxError};

pub(super) const CONTENT_TYPE: u16 = 1 << 15;
pub(super) const CONTENT_ENCODING: u16 = 1 << 14;
pub(super) const HEADERS: u16 = 1 << 13;
pub(super) const DELIVERY_MODE: u16 = 1 << 12;
pub(super) const PRIORITY: u16 = 1 << 11;
pub(super) const CORRELATION_ID: u16 = 1 << 10;
pub(super) const REPLY_TO: u16 = 1 << 9;
pub(super) const EXPIRATION: u16 = 1 << 8;
pub(super) const MESSAGE_ID: u16 = 1 << 7;
pub(super) const TIMESTAMP: u16 = 1 << 6;
pub(super) const TYPE: u16 = 1 << 5;
pub(super) const USER_ID: u16 = 1 << 4;
pub(super) const APP_ID: u16 = 1 << 3;
pub(super) const CLUSTER_ID: u16 = 1 << 2;
const UNKNOWN: u16 = 0b11;

/// The value of `delivery-mode` of messages that are to survive a restart.
pub const PERSISTENT: u8 = 2;

/// The raw bytes, flags included. Those that [`Properties::parse`] took are well-formed; of others, what cannot be
/// read is as if it was not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties(Bytes);

impl Default for Properties {
    /// None at all.
    fn default() -> Self {
        Properties(Bytes::from_static(&[0, 0]))
    }
}

impl Properties {
    /// Bytes of a peer: all of them are looked at, the headers included, and nothing is built.
    pub fn parse(raw: Bytes) -> Result<Self, SyntaxError> {
        let mut reader = Reader::new(&raw);
        let flags = reader.u16()?;
        if flags & UNKNOWN != 0 {
            return Err(SyntaxError::UnknownProperties);
        }
        for field in present(flags) {
            match field {
                HEADERS => {
                    let fields = reader.long_slice()?;
                    check_table(reader.within(fields), &mut Budget::default())?;
                }
                field => skip(&mut reader, field)?,
            }
        }
        reader.finish()?;
        Ok(Properties(raw))
    }

    /// Bytes that were parsed when they came.
    pub fn from_stored(raw: Bytes) -> Self {
        Properties(raw)
    }

    /// The bytes, flags included.
    pub fn raw(&self) -> &Bytes {
        &self.0
    }

    /// All of them, taken apart.
    pub fn list(&self) -> Result<PropertyList, SyntaxError> {
        PropertyList::read(&self.0)
    }

    pub fn content_type(&self) -> Option<Bytes> {
        self.short(CONTENT_TYPE)
    }

    pub fn content_encoding(&self) -> Option<Bytes> {
        self.short(CONTENT_ENCODING)
    }

    /// 1 transient, 2 persistent; others are possible.
    pub fn delivery_mode(&self) -> Option<u8> {
        self.at(DELIVERY_MODE)?.u8().ok()
    }

    pub fn is_persistent(&self) -> bool {
        self.delivery_mode() == Some(PERSISTENT)
    }

    pub fn priority(&self) -> Option<u8> {
        self.at(PRIORITY)?.u8().ok()
    }

    pub fn correlation_id(&self) -> Option<Bytes> {
        self.short(CORRELATION_ID)
    }

    pub fn reply_to(&self) -> Option<Bytes> {
        self.short(REPLY_TO)
    }

    /// The text as it came; [`Properties::expiration_ms`] reads it.
    pub fn expiration(&self) -> Option<Bytes> {
        self.short(EXPIRATION)
    }

    /// The expiration in milliseconds: None if there is none, an error if it is not a decimal number.
    pub fn expiration_ms(&self) -> Option<Result<u64, InvalidExpiration>> {
        let text = self.expiration()?;
        let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(&text).ok().filter(|_| digits).and_then(|text| text.parse().ok());
        Some(number.ok_or(InvalidExpiration))
    }

    pub fn message_id(&self) -> Option<Bytes> {
        self.short(MESSAGE_ID)
    }

    /// Seconds since the Unix epoch, by custom.
    pub fn timestamp(&self) -> Option<u64> {
        self.at(TIMESTAMP)?.u64().ok()
    }

    pub fn kind(&self) -> Option<Bytes> {
        self.short(TYPE)
    }

    pub fn user_id(&self) -> Option<Bytes> {
        self.short(USER_ID)
    }

    pub fn app_id(&self) -> Option<Bytes> {
        self.short(APP_ID)
    }

    /// Whether there is a headers table, though it be empty.
    pub fn has_headers(&self) -> bool {
        self.flags() & HEADERS != 0
    }

    /// The whole headers table; an empty one if there is none.
    pub fn headers(&self) -> FieldTable {
        self.header_fields().and_then(|fields| FieldTable::from_fields(&fields).ok()).unwrap_or_default()
    }

    /// One header: the others are walked over, not built.
    pub fn header(&self, name: &str) -> Option<FieldValue> {
        let fields = self.header_fields()?;
        let mut reader = Reader::new(&fields);
        let mut budget = Budget::default();
        while !reader.rest().is_empty() {
            if reader.short_slice().ok()? == name.as_bytes() {
                return read_value(&mut reader, &mut budget).ok();
            }
            check_value(&mut reader, &mut budget).ok()?;
        }
        None
    }

    /// The same with these headers set, each instead of those of its name; all else stays byte for byte. None if the
    /// bytes are no properties.
    pub fn with_headers(&self, set: &[(&str, FieldValue)]) -> Option<Properties> {
        self.with_changed_headers(|name| set.iter().any(|(known, _)| known.as_bytes() == name), set)
    }

    /// The same without the headers of these names. None if the bytes are no properties.
    pub fn without_headers(&self, names: &[&str]) -> Option<Properties> {
        self.with_changed_headers(|name| names.iter().any(|known| known.as_bytes() == name), &[])
    }

    /// The same with this table of headers. None if the bytes are no properties.
    pub fn with_header_table(&self, headers: &FieldTable) -> Option<Properties> {
        let (before, after) = self.around_headers()?;
        let mut out = BytesMut::with_capacity(self.0.len() + 256);
        out.put_u16(self.flags() | HEADERS);
        out.put_slice(before);
        headers.write(&mut out);
        out.put_slice(after);
        Some(Properties(out.freeze()))
    }

    /// The same without an expiration: what was dead-lettered does not expire again. None if the bytes are no
    /// properties.
    pub fn without_expiration(&self) -> Option<Properties> {
        let reader = match self.at(EXPIRATION) {
            Some(reader) => reader,
            None if self.0.len() >= 2 => return Some(self.clone()),
            None => return None,
        };
        let from = self.0.len() - reader.rest().len();
        let mut after = reader;
        skip(&mut after, EXPIRATION).ok()?;
        let mut out = BytesMut::with_capacity(self.0.len());
        out.put_u16(self.flags() & !EXPIRATION);
        out.put_slice(&self.0[2..from]);
        out.put_slice(after.rest());
        Some(Properties(out.freeze()))
    }

    fn with_changed_headers(&self, goes: impl Fn(&[u8]) -> bool, set: &[(&str, FieldValue)]) -> Option<Properties> {
        let (before, after) = self.around_headers()?;
        let fields = self.header_fields().unwrap_or_default();
        let mut out = BytesMut::with_capacity(self.0.len() + 32 + 48 * set.len());
        out.put_u16(self.flags() | HEADERS);
        out.put_slice(before);
        let mut broken = false;
        with_length(&mut out, |out| {
            broken = copy_fields(&fields, goes, out).is_err();
            set.iter().for_each(|(name, value)| write_field(out, name, value));
        });
        out.put_slice(after);
        (!broken).then(|| Properties(out.freeze()))
    }

    /// What stands between the flags and the headers, and what behind the headers.
    fn around_headers(&self) -> Option<(&[u8], &[u8])> {
        let mut reader = Reader::new(&self.0);
        let flags = reader.u16().ok()?;
        for field in present(flags & (CONTENT_TYPE | CONTENT_ENCODING)) {
            skip(&mut reader, field).ok()?;
        }
        let before = &self.0[2..self.0.len() - reader.rest().len()];
        if flags & HEADERS != 0 {
            reader.long_slice().ok()?;
        }
        Some((before, reader.rest()))
    }

    /// The headers, without the table's length.
    fn header_fields(&self) -> Option<Bytes> {
        self.at(HEADERS)?.long_bytes().ok()
    }

    fn short(&self, wanted: u16) -> Option<Bytes> {
        self.at(wanted)?.short_bytes().ok()
    }

    fn flags(&self) -> u16 {
        self.0.first_chunk().map_or(0, |flags| u16::from_be_bytes(*flags))
    }

    /// A reader at a property, if it is there.
    fn at(&self, wanted: u16) -> Option<Reader<'_>> {
        let flags = self.flags();
        if flags & wanted == 0 {
            return None;
        }
        let mut reader = Reader::new(&self.0);
        reader.u16().ok()?;
        // Those before it have the higher bits.
        for field in present(flags & !(wanted | (wanted - 1))) {
            skip(&mut reader, field).ok()?;
        }
        Some(reader)
    }
}

/// An `expiration` that is no decimal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the expiration is not a number")]
pub struct InvalidExpiration;

/// The bits that are set, in the order in which their properties stand.
pub(super) fn present(mut flags: u16) -> impl Iterator<Item = u16> {
    std::iter::from_fn(move || {
        let field = (1u16 << 15).checked_shr(flags.leading_zeros())?;
        flags &= !field;
        Some(field)
    })
}

fn skip(reader: &mut Reader<'_>, field: u16) -> Result<(), SyntaxError> {
    match field {
        HEADERS => reader.long_slice().map(|_| ()),
        DELIVERY_MODE | PRIORITY => reader.u8().map(|_| ()),
        TIMESTAMP => reader.u64().map(|_| ()),
        _ => reader.short_slice().map(|_| ()),
    }
}

/// Copies a table's fields, but for those whose name `goes`.
fn copy_fields(fields: &Bytes, goes: impl Fn(&[u8]) -> bool, out: &mut BytesMut) -> Result<(), SyntaxError> {
    let mut reader = Reader::new(fields);
    let mut budget = Budget::default();
    while !reader.rest().is_empty() {
        let from = reader.rest();
        let name = reader.short_slice()?;
        check_value(&mut reader, &mut budget)?;
        if !goes(name) {
            out.put_slice(&from[..from.len() - reader.rest().len()]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp_message::ShortStr;

    fn full() -> PropertyList {
        PropertyList {
            content_type: Some(Bytes::from_static(b"text/plain")),
            content_encoding: Some(Bytes::from_static(b"gzip")),
            headers: Some(FieldTable::from([("a", 1.into()), ("b", "two".into()), ("c", FieldValue::Void)])),
            delivery_mode: Some(2),
            priority: Some(7),
            correlation_id: Some(Bytes::from_static(&[0xff, 0])),
            reply_to: Some(Bytes::from_static(b"there")),
            expiration: Some(Bytes::from_static(b"60000")),
            message_id: Some(Bytes::from_static(b"m")),
            timestamp: Some(1_700_000_000),
            kind: Some(Bytes::from_static(b"event")),
            user_id: Some(Bytes::from_static(b"guest")),
            app_id: Some(Bytes::from_static(b"app")),
            cluster_id: Some(Bytes::from_static(b"old")),
        }
    }

    #[test]
    fn each_is_read_alone() {
        let list = full();
        let properties = Properties::parse(list.encode().raw().clone()).unwrap();
        assert_eq!(properties.list().as_ref(), Ok(&list));
        assert_eq!(properties.content_type(), list.content_type);
        assert_eq!(properties.content_encoding(), list.content_encoding);
        assert_eq!(Some(properties.headers()), list.headers);
        assert_eq!((properties.delivery_mode(), properties.priority()), (Some(2), Some(7)));
        assert_eq!(properties.correlation_id(), list.correlation_id);
        assert_eq!(properties.reply_to(), list.reply_to);
        assert_eq!((properties.expiration(), properties.expiration_ms()), (list.expiration, Some(Ok(60_000))));
        assert_eq!((properties.message_id(), properties.timestamp()), (list.message_id, list.timestamp));
        assert_eq!(
            (properties.kind(), properties.user_id(), properties.app_id()),
            (list.kind, list.user_id, list.app_id)
        );
        assert_eq!(properties.header("b"), Some("two".into()));
        assert_eq!(properties.header("d"), None);
        let none = Properties::parse(Bytes::from_static(&[0, 0])).unwrap();
        assert_eq!(none, Properties::default());
        assert_eq!((none.priority(), none.has_headers(), none.header("a")), (None, false, None));
    }

    #[test]
    fn a_change_leaves_the_rest() {
        let mut list = full();
        let properties = list.encode();
        let changed = properties.with_headers(&[("b", 5.into()), ("new", true.into())]).unwrap();
        list.headers =
            Some(FieldTable::from([("a", 1.into()), ("c", FieldValue::Void), ("b", 5.into()), ("new", true.into())]));
        assert_eq!(changed, list.encode());
        list.headers.as_mut().unwrap().remove("a");
        assert_eq!(changed.without_headers(&["a", "x"]), Some(list.encode()));
        list.expiration = None;
        let changed = changed.without_headers(&["a"]).unwrap().without_expiration().unwrap();
        assert_eq!(changed, list.encode());
        assert_eq!(changed.without_expiration(), Some(changed.clone()));
        let table = FieldTable(vec![(ShortStr::from_static("only"), FieldValue::Void)]);
        list.headers = Some(table.clone());
        assert_eq!(changed.with_header_table(&table), Some(list.encode()));
        let from_nothing = Properties::default().with_headers(&[("only", FieldValue::Void)]).unwrap();
        assert_eq!(from_nothing.headers(), table);
    }

    #[test]
    fn what_is_no_number_does_not_expire_silently() {
        for text in ["", "-1", "1.5", "x", "18446744073709551616", "+1"] {
            let list = PropertyList { expiration: Some(Bytes::from_static(text.as_bytes())), ..Default::default() };
            assert_eq!(list.encode().expiration_ms(), Some(Err(InvalidExpiration)), "{text:?}");
        }
    }

    #[test]
    fn malformed_ones_are_refused() {
        let parse = |bytes: &'static [u8]| Properties::parse(Bytes::from_static(bytes));
        assert_eq!(parse(&[0]), Err(SyntaxError::Truncated));
        assert_eq!(parse(&[0, 1]), Err(SyntaxError::UnknownProperties));
        assert_eq!(parse(&[0, 0, 0]), Err(SyntaxError::Trailing));
        assert_eq!(parse(&[0x80, 0, 5, b'a']), Err(SyntaxError::Truncated));
        assert_eq!(parse(&[0x20, 0, 0, 0, 0, 3, 1, b'a', b'?']), Err(SyntaxError::UnknownFieldType(b'?')));
    }
}
