//! How each type of a field is read and written.

use bytes::Bytes;

use super::{DecodeError, Reader, RecordChunks, Uuid, Writer};

/// How a value is encoded where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// The version of the message.
    pub version: i16,
    /// Whether that version uses the flexible encoding.
    pub flexible: bool,
    /// Whether the field may be null in that version.
    pub nullable: bool,
}

/// A type that a field can have.
pub trait Field: Sized {
    /// Reads one value.
    fn read(reader: &mut Reader, format: Format) -> Result<Self, DecodeError>;

    /// Writes one value.
    fn write(&self, writer: &mut Writer, format: Format);

    /// How many error codes are in it that are none of success: fields named `error_code`.
    fn errors(&self) -> usize {
        0
    }

    /// In a response that says for how long the client is not listened to (`throttle_time_ms`), makes it at least this.
    fn raise_throttle_time_ms(&mut self, _time_ms: i32) {}
}

/// A type that can be null on the wire.
pub trait Nullable: Field + Default {
    /// Reads one value or null.
    fn read_nullable(reader: &mut Reader, format: Format) -> Result<Option<Self>, DecodeError>;

    /// Writes one value or null.
    fn write_nullable(value: Option<&Self>, writer: &mut Writer, format: Format);
}

/// Null is an error on reading in versions that do not allow it; on writing it becomes the empty value there, so that a
/// handler need not know which version made a field nullable.
impl<T: Nullable> Field for Option<T> {
    fn read(reader: &mut Reader, format: Format) -> Result<Self, DecodeError> {
        match format.nullable {
            true => T::read_nullable(reader, format),
            false => T::read(reader, format).map(Some),
        }
    }

    fn errors(&self) -> usize {
        self.as_ref().map_or(0, Field::errors)
    }

    fn write(&self, writer: &mut Writer, format: Format) {
        match (self, format.nullable) {
            (value, true) => T::write_nullable(value.as_ref(), writer, format),
            (Some(value), false) => value.write(writer, format),
            (None, false) => T::default().write(writer, format),
        }
    }
}

macro_rules! number_fields {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn read(reader: &mut Reader, _: Format) -> Result<Self, DecodeError> {
                Ok(<$type>::from_be_bytes(reader.fixed()?))
            }

            fn write(&self, writer: &mut Writer, _: Format) {
                writer.put_slice(&self.to_be_bytes());
            }
        }
    )*};
}

number_fields!(i8, i16, i32, i64, u16, u32, f64);

impl Field for bool {
    /// Any byte but 0 is true.
    fn read(reader: &mut Reader, _: Format) -> Result<Self, DecodeError> {
        Ok(reader.i8()? != 0)
    }

    fn write(&self, writer: &mut Writer, _: Format) {
        writer.put_slice(&[u8::from(*self)]);
    }
}

impl Field for Uuid {
    fn read(reader: &mut Reader, _: Format) -> Result<Self, DecodeError> {
        Ok(Uuid(reader.fixed()?))
    }

    fn write(&self, writer: &mut Writer, _: Format) {
        writer.put_slice(&self.0);
    }
}

/// The non-null form of a type whose null is part of its length.
macro_rules! length_prefixed_fields {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn read(reader: &mut Reader, format: Format) -> Result<Self, DecodeError> {
                Self::read_nullable(reader, format)?.ok_or(DecodeError::UnexpectedNull)
            }

            fn write(&self, writer: &mut Writer, format: Format) {
                Self::write_nullable(Some(self), writer, format);
            }
        }
    )*};
}

length_prefixed_fields!(String, Bytes, RecordChunks);

impl<T: Field> Field for Vec<T> {
    fn read(reader: &mut Reader, format: Format) -> Result<Self, DecodeError> {
        Self::read_nullable(reader, format)?.ok_or(DecodeError::UnexpectedNull)
    }

    fn write(&self, writer: &mut Writer, format: Format) {
        Self::write_nullable(Some(self), writer, format);
    }

    fn errors(&self) -> usize {
        self.iter().map(Field::errors).sum()
    }
}

impl Nullable for String {
    fn read_nullable(reader: &mut Reader, format: Format) -> Result<Option<Self>, DecodeError> {
        reader.string(format.flexible)
    }

    fn write_nullable(value: Option<&Self>, writer: &mut Writer, format: Format) {
        writer.put_string_length(value.map(String::len), format.flexible);
        writer.put_slice(value.map_or(&[], |value| value.as_bytes()));
    }
}

impl Nullable for Bytes {
    fn read_nullable(reader: &mut Reader, format: Format) -> Result<Option<Self>, DecodeError> {
        reader.bytes(format.flexible)
    }

    fn write_nullable(value: Option<&Self>, writer: &mut Writer, format: Format) {
        writer.put_length(value.map(Bytes::len), format.flexible);
        if let Some(value) = value {
            writer.put_chunk(value);
        }
    }
}

impl Nullable for RecordChunks {
    fn read_nullable(reader: &mut Reader, format: Format) -> Result<Option<Self>, DecodeError> {
        // The list itself: one element.
        reader.charge(size_of::<Bytes>())?;
        Ok(reader.bytes(format.flexible)?.map(RecordChunks::from))
    }

    fn write_nullable(value: Option<&Self>, writer: &mut Writer, format: Format) {
        writer.put_length(value.map(RecordChunks::len), format.flexible);
        for chunk in value.into_iter().flat_map(|value| &value.0) {
            writer.put_chunk(chunk);
        }
    }
}

impl<T: Field> Nullable for Vec<T> {
    fn read_nullable(reader: &mut Reader, format: Format) -> Result<Option<Self>, DecodeError> {
        let Some(count) = reader.array_count(size_of::<T>(), format.flexible)? else { return Ok(None) };
        // Elements are never null.
        let format = Format { nullable: false, ..format };
        // The count was checked against the frame and charged; the memory is ours to take.
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::read(reader, format)?);
        }
        Ok(Some(elements))
    }

    fn write_nullable(value: Option<&Self>, writer: &mut Writer, format: Format) {
        writer.put_length(value.map(Vec::len), format.flexible);
        let format = Format { nullable: false, ..format };
        for element in value.into_iter().flatten() {
            element.write(writer, format);
        }
    }
}
