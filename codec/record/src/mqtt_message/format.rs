//! What the log core asks of a payload of this format: the batch's time is every message's, and the topic name is the key by
//! which they are compacted; an empty payload deletes it, as it deletes a retained message (3.3.1.3), and so does its expiry.

use bytes::{BufMut, BytesMut};

use super::stored::{Stored, walk};
use crate::batch::BatchHeader;
use crate::format::{Format, FormatError, RecordKey, Retained};

/// [`FormatId::MQTT`](crate::FormatId::MQTT).
#[derive(Debug, Clone, Copy, Default)]
pub struct MqttFormat;

impl Format for MqttFormat {
    fn first_at_or_after(
        &self,
        header: &BatchHeader,
        _payload: &[u8],
        time_ms: i64,
    ) -> Result<Option<(u32, i64)>, FormatError> {
        Ok((header.max_time_ms >= time_ms).then_some((0, header.max_time_ms)))
    }

    fn max_time(&self, header: &BatchHeader, _payload: &[u8]) -> Result<(u32, i64), FormatError> {
        Ok((0, header.max_time_ms))
    }

    fn has_keys(&self) -> bool {
        true
    }

    fn keys(
        &self,
        header: &BatchHeader,
        payload: &[u8],
        visit: &mut dyn FnMut(RecordKey<'_>),
    ) -> Result<(), FormatError> {
        for stored in walk(payload) {
            visit(key_of(header, &stored?));
        }
        Ok(())
    }

    fn retain(
        &self,
        header: &BatchHeader,
        payload: &[u8],
        keep: &mut dyn FnMut(RecordKey<'_>) -> bool,
    ) -> Result<Retained, FormatError> {
        let (mut kept, mut dropped) = (BytesMut::new(), false);
        // The place after the last one that is kept.
        let (mut places, mut some) = (0, false);
        for stored in walk(payload) {
            let stored = stored?;
            if !keep(key_of(header, &stored)) {
                dropped = true;
                continue;
            }
            for _ in places..stored.position {
                kept.put_u32_le(0);
            }
            kept.put_slice(stored.bytes);
            places = stored.position + 1;
            some = true;
        }
        Ok(match (dropped, some) {
            (_, false) => {
                // One place that is gone: a batch without a byte would look like one that was lost.
                Retained::None { payload: 0u32.to_le_bytes().to_vec().into() }
            }
            (false, true) => Retained::All,
            (true, true) => Retained::Some { max_time_ms: header.max_time_ms, payload: kept.freeze() },
        })
    }
}

fn key_of<'a>(header: &BatchHeader, stored: &Stored<'a>) -> RecordKey<'a> {
    let expires_ms = (stored.parts.expiry_s)
        .map(|expiry_s| header.append_time_ms.saturating_add(i64::from(expiry_s).saturating_mul(1000)));
    let tombstone = stored.parts.payload.is_empty();
    RecordKey { position: stored.position, key: Some(stored.parts.topic), tombstone, expires_ms }
}
