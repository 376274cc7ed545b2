//! What a producer sent → a batch to append, after the checks that Kafka makes.
//!
//! The batch's bytes are stored as they are, unless the topic's configuration asks for a change: the broker's time
//! (`message.timestamp.type`) or another compression (`compression.type`).
//!
//! Records are looked at one by one only where they are not compressed (which costs a few nanoseconds each), or where
//! the topic limits their times or is compacted (then each needs a key). A batch that is compressed and has a right CRC is trusted to contain what its header says;
//! Kafka decompresses every batch to see.

use bytes::{Bytes, BytesMut};
use codec_record::kafka_batch::{
    BatchError, BatchHeader, Codec, DECOMPRESSED_BYTES_MAX, HEADER_BYTES, NO_TIMESTAMP, TimestampType, decompress,
    record_views, with_append_time, with_max_time,
};
use codec_record::{Batch, BatchFlags, FormatId, Producer};

use crate::configs::TopicConfig;
use crate::errors::ErrorCode;

/// The first version of Produce in which zstd may be used (KIP-110).
const ZSTD_VERSION: i16 = 7;

/// Where the part of a Kafka batch begins that its CRC covers.
const CRC_FROM: usize = 21;

/// From this size on the CRC of the whole payload is computed from the one that was just checked, instead of by
/// another walk over the bytes. Combining takes some microseconds whatever the size.
const COMBINE_BYTES_MIN: usize = 256 << 10;

/// Record errors that are told at most; Kafka tells all.
const RECORD_ERRORS_MAX: usize = 1000;

/// Why a batch is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub code: ErrorCode,
    pub message: String,
    /// The records that are to blame, by their place in the batch.
    pub records: Vec<(i32, String)>,
}

impl Refused {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Refused { code, message: message.into(), records: Vec::new() }
    }
}

impl From<BatchError> for Refused {
    fn from(error: BatchError) -> Self {
        let code = match error {
            BatchError::Truncated
            | BatchError::MoreThanOneBatch
            | BatchError::BadBaseOffset(_)
            | BatchError::BadCount { .. }
            | BatchError::ControlBatch
            | BatchError::BadSequence(_)
            | BatchError::BadRecord { .. }
            | BatchError::BadMagic(0 | 1) => ErrorCode::InvalidRecord,
            BatchError::BadLength(_)
            | BatchError::BadMagic(_)
            | BatchError::BadCrc { .. }
            | BatchError::BadCompression => ErrorCode::CorruptMessage,
            BatchError::BadTimestampType => ErrorCode::InvalidTimestamp,
            BatchError::UnknownCodec(_) => ErrorCode::UnsupportedCompressionType,
            BatchError::TooLarge { .. } => ErrorCode::RecordListTooLarge,
        };
        let records = match error {
            BatchError::BadRecord { index } => vec![(index as i32, error.to_string())],
            _ => Vec::new(),
        };
        Refused { code, message: error.to_string(), records }
    }
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Refused::new(code, code.message().unwrap_or_default())
    }
}

/// A batch to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub batch: Batch,
    /// The time that the broker gave the records, where the topic says so.
    pub append_time_ms: Option<i64>,
}

/// Checks the `records` of a partition in a Produce request of this version. `now_ms` is the time, milliseconds since
/// 1970.
pub fn accept(records: Option<Bytes>, version: i16, config: &TopicConfig, now_ms: i64) -> Result<Accepted, Refused> {
    let records = records
        .filter(|records| !records.is_empty())
        .ok_or_else(|| Refused::new(ErrorCode::InvalidRecord, "there must be one record batch per partition"))?;
    let mut header = BatchHeader::parse(&records)?;
    match records.len().cmp(&header.batch_bytes()) {
        std::cmp::Ordering::Less => return Err(BatchError::Truncated.into()),
        std::cmp::Ordering::Greater => return Err(BatchError::MoreThanOneBatch.into()),
        std::cmp::Ordering::Equal => {}
    }
    let codec = header.attributes.codec()?;
    if codec == Codec::Zstd && version < ZSTD_VERSION {
        let message = format!("Produce version {version} is not allowed to use zstd compression");
        return Err(Refused::new(ErrorCode::UnsupportedCompressionType, message));
    }
    if records.len() > config.max_message_bytes as usize {
        let message = format!(
            "The record batch has {} bytes, which exceeds the maximum configured value of {}",
            records.len(),
            config.max_message_bytes
        );
        return Err(Refused::new(ErrorCode::MessageTooLarge, message));
    }
    header.check_crc(&records)?;
    check_header(&header)?;
    let received = records.as_ptr();
    let (mut payload, append_time_ms) = check_records(&header, records, codec, config, now_ms)?;
    if let Some(target) = config.compression.filter(|target| *target != codec) {
        payload = recompressed(&payload, target)?;
    }
    // A copy has been made if something had to be changed: length, CRC or times.
    if payload.as_ptr() != received {
        header = BatchHeader::parse(&payload)?;
    }
    Ok(Accepted { batch: core_batch(&header, payload), append_time_ms })
}

fn check_header(header: &BatchHeader) -> Result<(), BatchError> {
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
    // A transaction is its producer's.
    let needs_sequence = header.has_producer_id() || header.attributes.is_transactional();
    if needs_sequence && (!header.has_producer_id() || header.base_sequence < 0) {
        return Err(BatchError::BadSequence(header.base_sequence));
    }
    match header.attributes.timestamp_type() {
        TimestampType::LogAppendTime => Err(BatchError::BadTimestampType),
        TimestampType::CreateTime => Ok(()),
    }
}

/// Checks the records; returns the batch with the times that the topic wants, and the broker's time if that is it.
fn check_records(
    header: &BatchHeader,
    records: Bytes,
    codec: Codec,
    config: &TopicConfig,
    now_ms: i64,
) -> Result<(Bytes, Option<i64>), Refused> {
    let by_broker = config.timestamp_type == TimestampType::LogAppendTime;
    let limited = !by_broker
        && (config.timestamp_before_max_ms != i64::MAX
            || header.max_timestamp > now_ms.saturating_add(config.timestamp_after_max_ms));
    let mut max_timestamp = header.max_timestamp;
    if codec == Codec::None || limited || config.compacted {
        let data = decompress(&records, DECOMPRESSED_BYTES_MAX)?;
        max_timestamp = walk(header, &data, config, limited.then_some(now_ms))?;
    }
    match by_broker {
        true => Ok((with_append_time(&records, now_ms)?, Some(now_ms))),
        // As Kafka does it: the header says what the records say.
        false if max_timestamp != header.max_timestamp => Ok((with_max_time(&records, max_timestamp)?, None)),
        false => Ok((records, None)),
    }
}

/// Looks at each record; returns their greatest time. `limited_at_ms`: when the topic's limits of times are to be looked at,
/// the time that they are from.
fn walk(header: &BatchHeader, data: &[u8], config: &TopicConfig, limited_at_ms: Option<i64>) -> Result<i64, Refused> {
    let mut max_timestamp = NO_TIMESTAMP;
    let mut late = Vec::new();
    let mut keyless = Vec::new();
    for (index, view) in record_views(header, data).enumerate() {
        let view = view?;
        // Consecutive offsets are what the batch's offset range promises to readers.
        if i64::from(view.offset_delta) != index as i64 {
            return Err(BatchError::BadRecord { index: index as u32 }.into());
        }
        max_timestamp = max_timestamp.max(view.timestamp_ms);
        if config.compacted && view.key.is_none() && keyless.len() < RECORD_ERRORS_MAX {
            keyless.push((index as i32, "Compacted topic cannot accept message without key".to_owned()));
        }
        let Some(now_ms) = limited_at_ms.filter(|_| view.timestamp_ms != NO_TIMESTAMP) else { continue };
        let (before, after) = (config.timestamp_before_max_ms, config.timestamp_after_max_ms);
        let (least, greatest) = (now_ms.saturating_sub(before), now_ms.saturating_add(after));
        if !(least..=greatest).contains(&view.timestamp_ms) && late.len() < RECORD_ERRORS_MAX {
            let time = view.timestamp_ms;
            late.push((
                index as i32,
                format!(
                    "Timestamp {time} of record {index} is out of range: it should be within [{least}, {greatest}]"
                ),
            ));
        }
    }
    if !keyless.is_empty() {
        return Err(Refused {
            code: ErrorCode::InvalidRecord,
            message: "One or more records have been rejected: a compacted topic needs keys".into(),
            records: keyless,
        });
    }
    match late.is_empty() {
        true => Ok(max_timestamp),
        false => Err(Refused {
            code: ErrorCode::InvalidTimestamp,
            message: "One or more records have been rejected due to invalid timestamp".into(),
            records: late,
        }),
    }
}

/// A copy of the batch whose records are compressed as `target` says.
fn recompressed(batch: &Bytes, target: Codec) -> Result<Bytes, BatchError> {
    let mut header = BatchHeader::parse(batch)?;
    let data = target.compress(decompress(batch, DECOMPRESSED_BYTES_MAX)?);
    header.attributes = header.attributes.with_codec(target);
    let batch_bytes = HEADER_BYTES + data.len();
    header.batch_length =
        i32::try_from(batch_bytes - 12).map_err(|_| BatchError::TooLarge { bytes_max: batch_bytes })?;
    header.crc = crc32c::crc32c_append(crc32c::crc32c(&header.encode()[CRC_FROM..]), &data);
    let mut copy = BytesMut::with_capacity(batch_bytes);
    copy.extend_from_slice(&header.encode());
    copy.extend_from_slice(&data);
    Ok(copy.freeze())
}

/// The core's batch around a Kafka batch whose CRC is right.
fn core_batch(header: &BatchHeader, payload: Bytes) -> Batch {
    let payload_crc = if payload.len() >= COMBINE_BYTES_MIN {
        crc32c::crc32c_combine(crc32c::crc32c(&payload[..CRC_FROM]), header.crc, payload.len() - CRC_FROM)
    } else {
        crc32c::crc32c(&payload)
    };
    Batch {
        header: codec_record::BatchHeader {
            format: FormatId::KAFKA_BATCH_V2,
            flags: match header.attributes.is_transactional() {
                true => BatchFlags::TRANSACTIONAL,
                false => BatchFlags::default(),
            },
            count: header.records_count as u32,
            base_offset: 0,
            max_time_ms: header.max_timestamp,
            append_time_ms: 0,
            producer: header.has_producer_id().then_some(Producer {
                id: header.producer_id,
                epoch: header.producer_epoch,
                sequence: header.base_sequence,
            }),
            tombstones_until_ms: None,
            not_before_ms: None,
            payload_length: payload.len() as u32,
            payload_crc,
        },
        payload,
    }
}

#[cfg(test)]
#[path = "produced_tests.rs"]
mod tests;
