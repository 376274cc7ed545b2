//! Field tables of the wire ↔ arguments that are kept.

use bytes::Bytes;
use codec_amqp::{FieldTable, FieldValue, Properties, ShortStr};

use super::arguments::{Argument, Arguments};
use super::routing::Message;

impl From<&FieldTable> for Arguments {
    /// Of names that come twice the first counts.
    fn from(table: &FieldTable) -> Arguments {
        let mut arguments = Arguments::default();
        for (name, value) in table.iter() {
            arguments.0.entry(name.as_str().to_owned()).or_insert_with(|| value.into());
        }
        arguments
    }
}

impl From<&FieldValue> for Argument {
    fn from(value: &FieldValue) -> Argument {
        match value {
            FieldValue::Bool(value) => Argument::Bool(*value),
            FieldValue::I8(value) => Argument::Byte(*value),
            FieldValue::U8(value) => Argument::UnsignedByte(*value),
            FieldValue::I16(value) => Argument::Short(*value),
            FieldValue::U16(value) => Argument::UnsignedShort(*value),
            FieldValue::I32(value) => Argument::SignedInt(*value),
            FieldValue::U32(value) => Argument::UnsignedInt(*value),
            FieldValue::I64(value) => Argument::Long(*value),
            FieldValue::F32(value) => Argument::Float(*value),
            FieldValue::F64(value) => Argument::Double(*value),
            FieldValue::Decimal { scale, value } => Argument::Decimal(*scale, *value),
            FieldValue::LongString(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Argument::Text(text.to_owned()),
                Err(_) => Argument::Binary(bytes.to_vec()),
            },
            FieldValue::Binary(bytes) => Argument::Binary(bytes.to_vec()),
            FieldValue::Timestamp(seconds) => Argument::Timestamp(*seconds),
            FieldValue::Array(values) => Argument::Array(values.iter().map(Argument::from).collect()),
            FieldValue::Table(table) => Argument::Table(table.into()),
            FieldValue::Void => Argument::Void,
        }
    }
}

impl From<&Arguments> for FieldTable {
    /// Names longer than a short string are cut.
    fn from(arguments: &Arguments) -> FieldTable {
        FieldTable(arguments.0.iter().map(|(name, value)| (ShortStr::truncated(name), value.into())).collect())
    }
}

impl From<&Argument> for FieldValue {
    fn from(argument: &Argument) -> FieldValue {
        match argument {
            Argument::Bool(value) => FieldValue::Bool(*value),
            Argument::Byte(value) => FieldValue::I8(*value),
            Argument::UnsignedByte(value) => FieldValue::U8(*value),
            Argument::Short(value) => FieldValue::I16(*value),
            Argument::UnsignedShort(value) => FieldValue::U16(*value),
            Argument::SignedInt(value) => FieldValue::I32(*value),
            Argument::UnsignedInt(value) => FieldValue::U32(*value),
            Argument::Long(value) => FieldValue::I64(*value),
            Argument::Float(value) => FieldValue::F32(*value),
            Argument::Double(value) => FieldValue::F64(*value),
            Argument::Decimal(scale, value) => FieldValue::Decimal { scale: *scale, value: *value },
            Argument::Text(text) => FieldValue::text(text.as_str()),
            Argument::Binary(bytes) => FieldValue::Binary(Bytes::copy_from_slice(bytes)),
            Argument::Timestamp(seconds) => FieldValue::Timestamp(*seconds),
            Argument::Array(values) => FieldValue::Array(values.iter().map(FieldValue::from).collect()),
            Argument::Table(table) => FieldValue::Table(table.into()),
            Argument::Void => FieldValue::Void,
        }
    }
}

impl Message for Properties {
    fn headers(&self) -> Arguments {
        (&Properties::headers(self)).into()
    }

    fn property(&self, name: &str) -> Option<String> {
        let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
        match name {
            "correlation_id" => self.correlation_id().map(text),
            "message_id" => self.message_id().map(text),
            "timestamp" => self.timestamp().map(|seconds| seconds.to_string()),
            _ => None,
        }
    }
}
