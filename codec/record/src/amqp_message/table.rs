//! Field tables: AMQP's typed, nested name-value lists, with the types that RabbitMQ reads and writes.
//!
//! ```text
//! table   u32 bytes that follow │ fields …          field   u8 length │ name │ u8 type │ value
//! array   u32 bytes that follow │ values …          value   u8 type │ value
//!
//! 't' bool    'b' i8   'B' u8    's' i16   'u' u16   'I' i32   'i' u32   'l' or 'L' i64   'f' f32   'd' f64
//! 'T' u64 s since the epoch      'D' u8 scale, u32   'S' u32 length, bytes (text, by custom)     'x' the same (binary)
//! 'F' table   'A' array          'V' nothing
//! ```
//!
//! The specification says otherwise of 's', 'U' and 'L' (a short string, i16, u64), but no broker or client does:
//! <https://www.rabbitmq.com/amqp-0-9-1-errata#section_3>.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Reader, ShortStr, SyntaxError};

/// How deep tables and arrays may be inside each other. Real ones have three or four levels (`x-death`); RabbitMQ has no
/// limit, but here a walk is a recursion.
pub const DEPTH_MAX: u32 = 64;

/// How many values a table may have, those inside others included. A value takes a few bytes on the wire and some 80 in
/// memory; this bounds what a frame can cause to 5 MiB (10, while a list grows).
pub const VALUES_MAX: u32 = 65_536;

/// Names and values in order. A name may occur twice; the first one counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldTable(pub Vec<(ShortStr, FieldValue)>);

/// One value of a table or array.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    Bool(bool),
    I8(i8),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    F32(f32),
    F64(f64),
    /// `value` × 10^−`scale`.
    Decimal {
        scale: u8,
        value: u32,
    },
    /// Text, by custom; nothing says that it is UTF-8.
    LongString(Bytes),
    /// Bytes.
    Binary(Bytes),
    /// Seconds since the Unix epoch.
    Timestamp(u64),
    Array(Vec<FieldValue>),
    Table(FieldTable),
    Void,
}

impl FieldTable {
    /// Reads a table with its length.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, SyntaxError> {
        let fields = reader.long_slice()?;
        read_table(reader.within(fields), &mut Budget::default())
    }

    /// Reads what stands behind a table's length.
    pub fn from_fields(fields: &Bytes) -> Result<Self, SyntaxError> {
        read_table(Reader::new(fields), &mut Budget::default())
    }

    /// Writes the table with its length.
    pub fn write(&self, out: &mut BytesMut) {
        with_length(out, |out| self.0.iter().for_each(|(name, value)| write_field(out, name, value)));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ShortStr, &FieldValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// The value of the first field of that name.
    pub fn get(&self, name: &str) -> Option<&FieldValue> {
        self.0.iter().find(|(known, _)| known.as_str() == name).map(|(_, value)| value)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Replaces all fields of that name, or adds one.
    pub fn set(&mut self, name: ShortStr, value: impl Into<FieldValue>) {
        match self.0.iter().position(|(known, _)| *known == name) {
            None => self.0.push((name, value.into())),
            Some(first) => {
                self.0[first].1 = value.into();
                let mut index = 0;
                self.0.retain(|(known, _)| {
                    index += 1;
                    index - 1 <= first || *known != name
                });
            }
        }
    }

    /// Removes all fields of that name; the first one's value.
    pub fn remove(&mut self, name: &str) -> Option<FieldValue> {
        let first = self.0.iter().position(|(known, _)| known.as_str() == name)?;
        let (_, value) = self.0.remove(first);
        self.0.retain(|(known, _)| known.as_str() != name);
        Some(value)
    }

    /// The integer of that name, of whatever width.
    pub fn get_integer(&self, name: &str) -> Option<i64> {
        self.get(name)?.as_integer()
    }

    /// The text of that name, if it is UTF-8.
    pub fn get_text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_text()
    }

    pub fn get_bool(&self, name: &str) -> Option<bool> {
        self.get(name)?.as_bool()
    }

    pub fn get_table(&self, name: &str) -> Option<&FieldTable> {
        match self.get(name)? {
            FieldValue::Table(table) => Some(table),
            _ => None,
        }
    }

    pub fn get_array(&self, name: &str) -> Option<&[FieldValue]> {
        match self.get(name)? {
            FieldValue::Array(array) => Some(array),
            _ => None,
        }
    }
}

impl FromIterator<(ShortStr, FieldValue)> for FieldTable {
    fn from_iter<I: IntoIterator<Item = (ShortStr, FieldValue)>>(fields: I) -> Self {
        FieldTable(fields.into_iter().collect())
    }
}

impl<const N: usize> From<[(&'static str, FieldValue); N]> for FieldTable {
    /// For tables of our own; a name must not be longer than 255 bytes.
    fn from(fields: [(&'static str, FieldValue); N]) -> Self {
        fields.into_iter().map(|(name, value)| (ShortStr::from_static(name), value)).collect()
    }
}

impl FieldValue {
    /// Text, by custom.
    pub fn text(text: impl Into<String>) -> Self {
        FieldValue::LongString(Bytes::from(text.into()))
    }

    /// An integer of whatever width.
    pub fn as_integer(&self) -> Option<i64> {
        Some(match *self {
            FieldValue::I8(value) => value.into(),
            FieldValue::U8(value) => value.into(),
            FieldValue::I16(value) => value.into(),
            FieldValue::U16(value) => value.into(),
            FieldValue::I32(value) => value.into(),
            FieldValue::U32(value) => value.into(),
            FieldValue::I64(value) => value,
            _ => return None,
        })
    }

    /// A long string that is UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            FieldValue::LongString(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            FieldValue::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// RabbitMQ's word for the type, as its error texts have it.
    pub fn type_name(&self) -> &'static str {
        match self {
            FieldValue::Bool(_) => "bool",
            FieldValue::I8(_) => "byte",
            FieldValue::U8(_) => "unsignedbyte",
            FieldValue::I16(_) => "short",
            FieldValue::U16(_) => "unsignedshort",
            FieldValue::I32(_) => "signedint",
            FieldValue::U32(_) => "unsignedint",
            FieldValue::I64(_) => "long",
            FieldValue::F32(_) => "float",
            FieldValue::F64(_) => "double",
            FieldValue::Decimal { .. } => "decimal",
            FieldValue::LongString(_) => "longstr",
            FieldValue::Binary(_) => "binary",
            FieldValue::Timestamp(_) => "timestamp",
            FieldValue::Array(_) => "array",
            FieldValue::Table(_) => "table",
            FieldValue::Void => "void",
        }
    }
}

macro_rules! values_from {
    ($($from:ty => $variant:ident),* $(,)?) => {$(
        impl From<$from> for FieldValue {
            fn from(value: $from) -> Self {
                FieldValue::$variant(value)
            }
        }
    )*};
}

values_from! {
    bool => Bool, i32 => I32, i64 => I64, f64 => F64, Vec<FieldValue> => Array, FieldTable => Table,
}

impl From<&str> for FieldValue {
    fn from(text: &str) -> Self {
        FieldValue::text(text)
    }
}

impl From<String> for FieldValue {
    fn from(text: String) -> Self {
        FieldValue::text(text)
    }
}

/// What one table may still take.
pub(super) struct Budget {
    depth: u32,
    values: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { depth: DEPTH_MAX, values: VALUES_MAX }
    }
}

impl Budget {
    fn value(&mut self) -> Result<(), SyntaxError> {
        self.values = self.values.checked_sub(1).ok_or(SyntaxError::TooManyValues)?;
        Ok(())
    }

    fn deeper<T>(&mut self, walk: impl FnOnce(&mut Self) -> Result<T, SyntaxError>) -> Result<T, SyntaxError> {
        self.depth = self.depth.checked_sub(1).ok_or(SyntaxError::TooDeep)?;
        let found = walk(self);
        self.depth += 1;
        found
    }
}

fn read_table(mut reader: Reader<'_>, budget: &mut Budget) -> Result<FieldTable, SyntaxError> {
    budget.deeper(|budget| {
        let mut fields = Vec::new();
        while !reader.rest().is_empty() {
            budget.value()?;
            let name = reader.short_str()?;
            fields.push((name, read_value(&mut reader, budget)?));
        }
        Ok(FieldTable(fields))
    })
}

fn read_array(mut reader: Reader<'_>, budget: &mut Budget) -> Result<FieldValue, SyntaxError> {
    budget.deeper(|budget| {
        let mut values = Vec::new();
        while !reader.rest().is_empty() {
            budget.value()?;
            values.push(read_value(&mut reader, budget)?);
        }
        Ok(FieldValue::Array(values))
    })
}

/// A value with its type before it.
pub(super) fn read_value(reader: &mut Reader<'_>, budget: &mut Budget) -> Result<FieldValue, SyntaxError> {
    Ok(match reader.u8()? {
        b't' => FieldValue::Bool(reader.u8()? != 0),
        b'b' => FieldValue::I8(reader.u8()? as i8),
        b'B' => FieldValue::U8(reader.u8()?),
        b's' => FieldValue::I16(reader.u16()? as i16),
        b'u' => FieldValue::U16(reader.u16()?),
        b'I' => FieldValue::I32(reader.u32()? as i32),
        b'i' => FieldValue::U32(reader.u32()?),
        b'l' | b'L' => FieldValue::I64(reader.u64()? as i64),
        b'f' => FieldValue::F32(f32::from_bits(reader.u32()?)),
        b'd' => FieldValue::F64(f64::from_bits(reader.u64()?)),
        b'D' => FieldValue::Decimal { scale: reader.u8()?, value: reader.u32()? },
        b'S' => FieldValue::LongString(reader.long_bytes()?),
        b'x' => FieldValue::Binary(reader.long_bytes()?),
        b'T' => FieldValue::Timestamp(reader.u64()?),
        b'A' => {
            let values = reader.long_slice()?;
            read_array(reader.within(values), budget)?
        }
        b'F' => {
            let fields = reader.long_slice()?;
            FieldValue::Table(read_table(reader.within(fields), budget)?)
        }
        b'V' => FieldValue::Void,
        unknown => return Err(SyntaxError::UnknownFieldType(unknown)),
    })
}

/// Walks over a table's fields without making anything of them: whether [`FieldTable::read`] would take them.
pub(super) fn check_table(mut reader: Reader<'_>, budget: &mut Budget) -> Result<(), SyntaxError> {
    budget.deeper(|budget| {
        while !reader.rest().is_empty() {
            budget.value()?;
            let name = reader.short_slice()?;
            std::str::from_utf8(name).map_err(|_| SyntaxError::MalformedUtf8)?;
            check_value(&mut reader, budget)?;
        }
        Ok(())
    })
}

/// The same for a value with its type before it.
pub(super) fn check_value(reader: &mut Reader<'_>, budget: &mut Budget) -> Result<(), SyntaxError> {
    let bytes = match reader.u8()? {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'L' | b'd' | b'T' => 8,
        b'S' | b'x' => reader.u32()? as usize,
        b'A' => {
            let values = reader.long_slice()?;
            let mut values = reader.within(values);
            return budget.deeper(|budget| {
                while !values.rest().is_empty() {
                    budget.value()?;
                    check_value(&mut values, budget)?;
                }
                Ok(())
            });
        }
        b'F' => {
            let fields = reader.long_slice()?;
            return check_table(reader.within(fields), budget);
        }
        unknown => return Err(SyntaxError::UnknownFieldType(unknown)),
    };
    reader.take(bytes).map(|_| ())
}

pub(super) fn write_field(out: &mut BytesMut, name: &str, value: &FieldValue) {
    put_short(out, name.as_bytes());
    write_value(out, value);
}

fn write_value(out: &mut BytesMut, value: &FieldValue) {
    match value {
        FieldValue::Bool(value) => out.put_slice(&[b't', u8::from(*value)]),
        FieldValue::I8(value) => out.put_slice(&[b'b', *value as u8]),
        FieldValue::U8(value) => out.put_slice(&[b'B', *value]),
        FieldValue::I16(value) => put(out, b's', &value.to_be_bytes()),
        FieldValue::U16(value) => put(out, b'u', &value.to_be_bytes()),
        FieldValue::I32(value) => put(out, b'I', &value.to_be_bytes()),
        FieldValue::U32(value) => put(out, b'i', &value.to_be_bytes()),
        FieldValue::I64(value) => put(out, b'l', &value.to_be_bytes()),
        FieldValue::F32(value) => put(out, b'f', &value.to_be_bytes()),
        FieldValue::F64(value) => put(out, b'd', &value.to_be_bytes()),
        FieldValue::Decimal { scale, value } => {
            put(out, b'D', &[*scale]);
            out.put_u32(*value);
        }
        FieldValue::LongString(bytes) => put_long(out, b'S', bytes),
        FieldValue::Binary(bytes) => put_long(out, b'x', bytes),
        FieldValue::Timestamp(seconds) => put(out, b'T', &seconds.to_be_bytes()),
        FieldValue::Array(values) => {
            out.put_u8(b'A');
            with_length(out, |out| values.iter().for_each(|value| write_value(out, value)));
        }
        FieldValue::Table(table) => {
            out.put_u8(b'F');
            table.write(out);
        }
        FieldValue::Void => out.put_u8(b'V'),
    }
}

fn put(out: &mut BytesMut, kind: u8, value: &[u8]) {
    out.put_u8(kind);
    out.put_slice(value);
}

fn put_long(out: &mut BytesMut, kind: u8, bytes: &[u8]) {
    out.put_u8(kind);
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

/// A short string; its length was seen to by who made it.
pub(super) fn put_short(out: &mut BytesMut, bytes: &[u8]) {
    debug_assert!(bytes.len() <= ShortStr::BYTES_MAX);
    out.put_u8(bytes.len() as u8);
    out.put_slice(bytes);
}

/// What `content` writes, with its length before it.
pub(super) fn with_length(out: &mut BytesMut, content: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_u32(0);
    content(out);
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: u32, kind: u8) -> Bytes {
        let mut inner = BytesMut::new();
        for _ in 0..levels {
            let mut outer = BytesMut::new();
            if kind == b'F' {
                put_short(&mut outer, b"n");
            }
            put_long(&mut outer, kind, &inner);
            inner = outer;
        }
        if kind == b'A' {
            let mut table = BytesMut::new();
            put_short(&mut table, b"n");
            table.put_slice(&inner);
            inner = table;
        }
        inner.freeze()
    }

    #[test]
    fn nesting_has_an_end() {
        for kind in [b'F', b'A'] {
            let fits = nested(DEPTH_MAX - 1, kind);
            assert!(FieldTable::from_fields(&fits).is_ok());
            assert_eq!(check_table(Reader::new(&fits), &mut Budget::default()), Ok(()));
            for levels in [DEPTH_MAX, 3_000] {
                let deep = nested(levels, kind);
                assert_eq!(FieldTable::from_fields(&deep), Err(SyntaxError::TooDeep));
                assert_eq!(check_table(Reader::new(&deep), &mut Budget::default()), Err(SyntaxError::TooDeep));
            }
        }
    }

    #[test]
    fn a_table_has_not_any_number_of_values() {
        let mut fields = BytesMut::new();
        put_short(&mut fields, b"n");
        put_long(&mut fields, b'A', &vec![b'V'; VALUES_MAX as usize]);
        let fields = fields.freeze();
        assert_eq!(FieldTable::from_fields(&fields), Err(SyntaxError::TooManyValues));
    }

    #[test]
    fn the_first_of_two_counts_and_setting_leaves_one() {
        let name = ShortStr::from_static;
        let mut table = FieldTable(vec![
            (name("a"), 1.into()),
            (name("b"), "two".into()),
            (name("a"), 3.into()),
            (name("a"), 4.into()),
        ]);
        assert_eq!(table.get_integer("a"), Some(1));
        let mut other = table.clone();
        other.set(name("a"), true);
        assert_eq!(other, FieldTable::from([("a", true.into()), ("b", "two".into())]));
        assert_eq!(table.remove("a"), Some(FieldValue::I32(1)));
        assert_eq!(table, FieldTable::from([("b", "two".into())]));
        table.set(name("c"), 5i64);
        assert_eq!((table.get_text("b"), table.get_integer("c"), table.len()), (Some("two"), Some(5), 2));
    }
}
