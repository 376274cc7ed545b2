//! What the log core asks of a payload of this format: offsets by time, and compaction.

use super::retain::retained;
use super::{BatchHeader, HEADER_BYTES, RecordView, TimestampType, record_views};
use crate::format::{Format, FormatError, RecordKey, Retained};

/// What a stored batch may decompress to when it is searched. Above any batch that clients make: the limit of a
/// request is 100 MiB compressed or not, and the common one of a batch is 1 MiB.
pub const DECOMPRESSED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// [`FormatId::KAFKA_BATCH_V2`](crate::FormatId::KAFKA_BATCH_V2).
#[derive(Debug, Clone, Copy, Default)]
pub struct KafkaBatchFormat;

impl Format for KafkaBatchFormat {
    fn first_at_or_after(
        &self,
        _header: &crate::BatchHeader,
        payload: &[u8],
        time_ms: i64,
    ) -> Result<Option<(u32, i64)>, FormatError> {
        let batch = Batch::read(payload)?;
        if batch.header.max_timestamp < time_ms {
            return Ok(None);
        }
        batch.first(|time| time >= time_ms)
    }

    fn max_time(&self, _header: &crate::BatchHeader, payload: &[u8]) -> Result<(u32, i64), FormatError> {
        let batch = Batch::read(payload)?;
        let max_timestamp = batch.header.max_timestamp;
        // A header's max time is only as good as its producer: fall back to the batch's last offset with it.
        let found = batch.first(|time| time >= max_timestamp)?;
        Ok(found.unwrap_or((batch.header.last_offset_delta.max(0) as u32, max_timestamp)))
    }

    fn has_keys(&self) -> bool {
        true
    }

    fn keys(
        &self,
        _header: &crate::BatchHeader,
        payload: &[u8],
        visit: &mut dyn FnMut(RecordKey<'_>),
    ) -> Result<(), FormatError> {
        let batch = Batch::read(payload)?;
        let decompressed = batch.decompressed()?;
        for view in record_views(&batch.header, decompressed.as_deref().unwrap_or(batch.data()?)) {
            visit(key_of(&view.map_err(|_| FormatError)?)?);
        }
        Ok(())
    }

    fn retain(
        &self,
        _header: &crate::BatchHeader,
        payload: &[u8],
        keep: &mut dyn FnMut(RecordKey<'_>) -> bool,
    ) -> Result<Retained, FormatError> {
        let batch = Batch::read(payload)?;
        let decompressed = batch.decompressed()?;
        let data = decompressed.as_deref().unwrap_or(batch.data()?);
        retained(&batch.header, data, &mut |view| Ok(keep(key_of(view)?)))
    }
}

fn key_of<'a>(view: &RecordView<'a>) -> Result<RecordKey<'a>, FormatError> {
    let position = u32::try_from(view.offset_delta).map_err(|_| FormatError)?;
    Ok(RecordKey { position, key: view.key, tombstone: view.value.is_none(), expires_ms: None })
}

struct Batch<'a> {
    header: BatchHeader,
    payload: &'a [u8],
}

impl<'a> Batch<'a> {
    fn read(payload: &'a [u8]) -> Result<Self, FormatError> {
        Ok(Batch { header: BatchHeader::parse(payload).map_err(|_| FormatError)?, payload })
    }

    /// The records as they are stored.
    fn data(&self) -> Result<&'a [u8], FormatError> {
        self.payload.get(HEADER_BYTES..self.header.batch_bytes()).ok_or(FormatError)
    }

    /// The records decompressed; None if they are not compressed.
    fn decompressed(&self) -> Result<Option<Vec<u8>>, FormatError> {
        let codec = self.header.attributes.codec().map_err(|_| FormatError)?;
        codec.decompress_slice(self.data()?, DECOMPRESSED_BYTES_MAX).map_err(|_| FormatError)
    }

    /// Position and time of the first record whose time is `wanted`.
    fn first(&self, wanted: impl Fn(i64) -> bool) -> Result<Option<(u32, i64)>, FormatError> {
        let header = &self.header;
        if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
            // All records have one time: no need to look into them.
            return Ok(wanted(header.max_timestamp).then_some((0, header.max_timestamp)));
        }
        let decompressed = self.decompressed()?;
        for view in record_views(header, decompressed.as_deref().unwrap_or(self.data()?)) {
            let view = view.map_err(|_| FormatError)?;
            if wanted(view.timestamp_ms) {
                let position = u32::try_from(view.offset_delta).map_err(|_| FormatError)?;
                return Ok(Some((position, view.timestamp_ms)));
            }
        }
        Ok(None)
    }
}
