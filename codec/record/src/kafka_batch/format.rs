//! What the log core asks of a payload of this format: offsets by time.

use super::{BatchHeader, HEADER_BYTES, TimestampType, record_views};
use crate::format::{Format, FormatError};

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
}

struct Batch<'a> {
    header: BatchHeader,
    payload: &'a [u8],
}

impl<'a> Batch<'a> {
    fn read(payload: &'a [u8]) -> Result<Self, FormatError> {
        Ok(Batch { header: BatchHeader::parse(payload).map_err(|_| FormatError)?, payload })
    }

    /// Position and time of the first record whose time is `wanted`.
    fn first(&self, wanted: impl Fn(i64) -> bool) -> Result<Option<(u32, i64)>, FormatError> {
        let header = &self.header;
        if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
            // All records have one time: no need to look into them.
            return Ok(wanted(header.max_timestamp).then_some((0, header.max_timestamp)));
        }
        let codec = header.attributes.codec().map_err(|_| FormatError)?;
        let data = self.payload.get(HEADER_BYTES..header.batch_bytes()).ok_or(FormatError)?;
        let decompressed = codec.decompress_slice(data, DECOMPRESSED_BYTES_MAX).map_err(|_| FormatError)?;
        for view in record_views(header, decompressed.as_deref().unwrap_or(data)) {
            let view = view.map_err(|_| FormatError)?;
            if wanted(view.timestamp_ms) {
                let position = u32::try_from(view.offset_delta).map_err(|_| FormatError)?;
                return Ok(Some((position, view.timestamp_ms)));
            }
        }
        Ok(None)
    }
}
