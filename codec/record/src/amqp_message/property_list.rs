//! All properties of a message, taken apart: for who makes a message, or changes more than a header.

use bytes::{BufMut, Bytes, BytesMut};

use super::properties::*;
use super::table::put_short;
use super::{FieldTable, Reader, ShortStr, SyntaxError};

/// See [`Properties`] for what the fields are. Strings longer than 255 bytes are left out when they are encoded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PropertyList {
    pub content_type: Option<Bytes>,
    pub content_encoding: Option<Bytes>,
    pub headers: Option<FieldTable>,
    /// 1 transient, 2 persistent.
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    pub correlation_id: Option<Bytes>,
    pub reply_to: Option<Bytes>,
    /// Milliseconds, as decimal text.
    pub expiration: Option<Bytes>,
    pub message_id: Option<Bytes>,
    /// Seconds since the Unix epoch.
    pub timestamp: Option<u64>,
    /// The property `type`.
    pub kind: Option<Bytes>,
    pub user_id: Option<Bytes>,
    pub app_id: Option<Bytes>,
    /// Reserved since 0-9-1; some clients still send it.
    pub cluster_id: Option<Bytes>,
}

impl PropertyList {
    pub(super) fn read(raw: &Bytes) -> Result<Self, SyntaxError> {
        let mut reader = Reader::new(raw);
        let mut list = PropertyList::default();
        for field in present(reader.u16()?) {
            match field {
                CONTENT_TYPE => list.content_type = Some(reader.short_bytes()?),
                CONTENT_ENCODING => list.content_encoding = Some(reader.short_bytes()?),
                HEADERS => list.headers = Some(FieldTable::read(&mut reader)?),
                DELIVERY_MODE => list.delivery_mode = Some(reader.u8()?),
                PRIORITY => list.priority = Some(reader.u8()?),
                CORRELATION_ID => list.correlation_id = Some(reader.short_bytes()?),
                REPLY_TO => list.reply_to = Some(reader.short_bytes()?),
                EXPIRATION => list.expiration = Some(reader.short_bytes()?),
                MESSAGE_ID => list.message_id = Some(reader.short_bytes()?),
                TIMESTAMP => list.timestamp = Some(reader.u64()?),
                TYPE => list.kind = Some(reader.short_bytes()?),
                USER_ID => list.user_id = Some(reader.short_bytes()?),
                APP_ID => list.app_id = Some(reader.short_bytes()?),
                CLUSTER_ID => list.cluster_id = Some(reader.short_bytes()?),
                _ => return Err(SyntaxError::UnknownProperties),
            }
        }
        reader.finish()?;
        Ok(list)
    }

    /// As they stand in a content header.
    pub fn encode(&self) -> Properties {
        let mut out = BytesMut::with_capacity(256);
        out.put_u16(0);
        let mut flags = 0;
        let mut short = |out: &mut BytesMut, field: u16, value: &Option<Bytes>| {
            if let Some(value) = value.as_ref().filter(|value| value.len() <= ShortStr::BYTES_MAX) {
                flags |= field;
                put_short(out, value);
            }
        };
        short(&mut out, CONTENT_TYPE, &self.content_type);
        short(&mut out, CONTENT_ENCODING, &self.content_encoding);
        if let Some(headers) = &self.headers {
            headers.write(&mut out);
        }
        out.extend(self.delivery_mode);
        out.extend(self.priority);
        short(&mut out, CORRELATION_ID, &self.correlation_id);
        short(&mut out, REPLY_TO, &self.reply_to);
        short(&mut out, EXPIRATION, &self.expiration);
        short(&mut out, MESSAGE_ID, &self.message_id);
        if let Some(seconds) = self.timestamp {
            out.put_u64(seconds);
        }
        short(&mut out, TYPE, &self.kind);
        short(&mut out, USER_ID, &self.user_id);
        short(&mut out, APP_ID, &self.app_id);
        short(&mut out, CLUSTER_ID, &self.cluster_id);
        let others = [
            (self.headers.is_some(), HEADERS),
            (self.delivery_mode.is_some(), DELIVERY_MODE),
            (self.priority.is_some(), PRIORITY),
            (self.timestamp.is_some(), TIMESTAMP),
        ];
        flags |= others.into_iter().filter(|(is_there, _)| *is_there).fold(0, |flags, (_, field)| flags | field);
        out[..2].copy_from_slice(&flags.to_be_bytes());
        Properties::from_stored(out.freeze())
    }
}
