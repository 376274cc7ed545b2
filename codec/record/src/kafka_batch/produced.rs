//! The checks of a batch that a producer sent, as Kafka's broker makes them.

use std::cmp::Ordering;

use bytes::Bytes;

use super::{BatchError, BatchHeader, NO_TIMESTAMP, TimestampType, decompress, record_views};

/// What the records of a produced batch were found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// The header.
    pub header: BatchHeader,
    /// The greatest time of a record in milliseconds since 1970, or -1. It may differ from the header's, which a
    /// producer may have wrong: then store [`with_max_time`](super::with_max_time).
    pub max_timestamp: i64,
    /// The least time of a record, or -1.
    pub min_timestamp: i64,
    /// The first record without a key, which a compacted topic refuses (INVALID_RECORD).
    pub first_without_key: Option<u32>,
    /// Whether the records' offsets count up from 0. Some old clients leave them wrong, which Kafka's broker repairs:
    /// then store [`renumbered`](super::renumbered).
    pub offsets_are_consecutive: bool,
}

/// Checks the content of a partition's `records` in a Produce request: that it is one whole batch of version 2 with a
/// right CRC, and all that Kafka asks of a client's batch; then each of its records, decompressed to at most
/// `bytes_max` bytes.
pub fn produced(records: &Bytes, bytes_max: usize) -> Result<Produced, BatchError> {
    let header = produced_header(records)?;
    let data = decompress(records, bytes_max)?;
    let mut produced = Produced {
        header,
        max_timestamp: NO_TIMESTAMP,
        min_timestamp: i64::MAX,
        first_without_key: None,
        offsets_are_consecutive: true,
    };
    for (index, view) in (0..).zip(record_views(&header, &data)) {
        let view = view?;
        produced.offsets_are_consecutive &= i64::from(view.offset_delta) == i64::from(index);
        produced.max_timestamp = produced.max_timestamp.max(view.timestamp_ms);
        produced.min_timestamp = produced.min_timestamp.min(view.timestamp_ms);
        if view.key.is_none() && produced.first_without_key.is_none() {
            produced.first_without_key = Some(index);
        }
    }
    Ok(produced)
}

/// The part of [`produced`] that does not look into the records.
pub fn produced_header(records: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(records)?;
    match records.len().cmp(&header.batch_bytes()) {
        Ordering::Less => return Err(BatchError::Truncated),
        Ordering::Greater => return Err(BatchError::MoreThanOneBatch),
        Ordering::Equal => header.check_crc(records)?,
    }
    check_header(&header)?;
    Ok(header)
}

fn check_header(header: &BatchHeader) -> Result<(), BatchError> {
    header.attributes.codec()?;
    if header.base_offset != 0 {
        return Err(BatchError::BadBaseOffset(header.base_offset));
    }
    let (count, last_offset_delta) = (header.records_count, header.last_offset_delta);
    if count <= 0 || i64::from(last_offset_delta) + 1 != i64::from(count) {
        return Err(BatchError::BadCount { count, last_offset_delta });
    }
    if header.attributes.is_control() {
        return Err(BatchError::ControlBatch);
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return Err(BatchError::BadSequence(header.base_sequence));
    }
    match header.attributes.timestamp_type() {
        TimestampType::LogAppendTime => Err(BatchError::BadTimestampType),
        TimestampType::CreateTime => Ok(()),
    }
}
