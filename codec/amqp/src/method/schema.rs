//! How a method is declared: its numbers, its arguments in the order in which they stand on the wire, and what is
//! reserved before and behind them. Both directions are made from that.

use bytes::{BufMut, Bytes, BytesMut};
use codec_record::amqp_message::{FieldTable, Reader, ShortStr, SyntaxError};

#[cfg(test)]
use crate::sample::Random;

/// A method's numbers and the coding of its arguments.
pub trait Arguments: Sized {
    const CLASS: u16;
    const METHOD: u16;
    /// As people know it: `queue.declare`.
    const NAME: &'static str;

    fn read(reader: &mut Reader<'_>) -> Result<Self, SyntaxError>;

    /// Writes class, method and arguments.
    fn write(&self, writer: &mut Writer<'_>);

    #[cfg(test)]
    fn sample(random: &mut Random) -> Self;
}

/// One argument.
pub trait Argument: Sized + Default {
    fn read(reader: &mut Reader<'_>) -> Result<Self, SyntaxError>;
    fn write(&self, writer: &mut Writer<'_>);

    #[cfg(test)]
    fn sample(random: &mut Random) -> Self;
}

/// Writes arguments; bits that follow each other are put into octets together.
pub struct Writer<'a> {
    out: &'a mut BytesMut,
    /// How many bits the last octet has; 8: it has no room, or is not one of bits.
    bits: u8,
}

impl<'a> Writer<'a> {
    /// Behind what `out` has.
    pub fn new(out: &'a mut BytesMut) -> Self {
        Writer { out, bits: 8 }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.bits = 8;
        self.out.put_slice(bytes);
    }

    pub(crate) fn bit(&mut self, bit: bool) {
        if self.bits == 8 {
            self.out.put_u8(0);
            self.bits = 0;
        }
        if let Some(octet) = self.out.last_mut() {
            *octet |= u8::from(bit) << self.bits;
        }
        self.bits += 1;
    }

    /// What is longer than 255 bytes is cut, so that it does not take the frame apart; nobody should let it come here.
    pub(crate) fn short(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= ShortStr::BYTES_MAX);
        let bytes = &bytes[..bytes.len().min(ShortStr::BYTES_MAX)];
        self.bytes(&[bytes.len() as u8]);
        self.out.put_slice(bytes);
    }
}

macro_rules! integers {
    ($($type:ident),*) => {$(
        impl Argument for $type {
            fn read(reader: &mut Reader<'_>) -> Result<Self, SyntaxError> {
                reader.$type()
            }

            fn write(&self, writer: &mut Writer<'_>) {
                writer.bytes(&self.to_be_bytes());
            }

            #[cfg(test)]
            fn sample(random: &mut Random) -> Self {
                random.next() as $type
            }
        }
    )*};
}

integers!(u8, u16, u32, u64);

impl Argument for bool {
    fn read(reader: &mut Reader<'_>) -> Result<Self, SyntaxError> {
        reader.bit()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.bit(*self);
    }

    #[cfg(test)]
    fn sample(random: &mut Random) -> Self {
        random.next() & 1 == 1
    }
}

impl Argument for ShortStr {
    fn read(reader: &mut Reader<'_>) -> Result<Self, SyntaxError> {
        reader.short_str()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.short(self.as_bytes());
    }

    #[cfg(test)]
    fn sample(random: &mut Random) -> Self {
        random.short_str()
    }
}

/// A long string.
impl Argument for Bytes {
    fn read(reader: &mut Reader<'_>) -> Result<Self, SyntaxError> {
        reader.long_bytes()
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.bytes(&(self.len() as u32).to_be_bytes());
        writer.out.put_slice(self);
    }

    #[cfg(test)]
    fn sample(random: &mut Random) -> Self {
        random.bytes()
    }
}

impl Argument for FieldTable {
    fn read(reader: &mut Reader<'_>) -> Result<Self, SyntaxError> {
        FieldTable::read(reader)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.bits = 8;
        FieldTable::write(self, writer.out);
    }

    #[cfg(test)]
    fn sample(random: &mut Random) -> Self {
        random.table(3)
    }
}

/// ```text
/// /// What it is.
/// Name = class, number, "class.name", before(reserved types) { argument: type, … } behind(reserved types)
/// ```
macro_rules! method {
    (
        $(#[$doc:meta])*
        $name:ident = $class:literal, $method:literal, $text:literal
        $(, before($($before:ty),*))?
        { $($(#[$argument_doc:meta])* $argument:ident: $type:ty),* $(,)? }
        $(behind($($behind:ty),*))?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name {
            $($(#[$argument_doc])* pub $argument: $type,)*
        }

        impl $crate::method::Arguments for $name {
            const CLASS: u16 = $class;
            const METHOD: u16 = $method;
            const NAME: &'static str = $text;

            fn read(
                reader: &mut codec_record::amqp_message::Reader<'_>,
            ) -> Result<Self, codec_record::amqp_message::SyntaxError> {
                $($(<$before as $crate::method::Argument>::read(reader)?;)*)?
                $(let $argument = <$type as $crate::method::Argument>::read(reader)?;)*
                $($(<$behind as $crate::method::Argument>::read(reader)?;)*)?
                let _ = reader;
                Ok($name { $($argument),* })
            }

            fn write(&self, writer: &mut $crate::method::Writer<'_>) {
                writer.bytes(&[0, $class, 0, $method]);
                $($($crate::method::Argument::write(&<$before>::default(), writer);)*)?
                $($crate::method::Argument::write(&self.$argument, writer);)*
                $($($crate::method::Argument::write(&<$behind>::default(), writer);)*)?
            }

            #[cfg(test)]
            fn sample(random: &mut $crate::sample::Random) -> Self {
                let _ = &random;
                $name { $($argument: $crate::method::Argument::sample(random)),* }
            }
        }
    };
}

pub(super) use method;
