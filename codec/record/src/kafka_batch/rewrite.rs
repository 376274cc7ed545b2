//! Changes of a batch's header: those of every fetch, outside the CRC, and those of an append, inside it.

use bytes::{Bytes, BytesMut};

use super::header::{CRC_FROM, TimestampType};
use super::{BatchEncoder, BatchError, BatchHeader, Record, records};

/// Length of the part of a batch that is written anew for a fetch, bytes.
pub const PREFIX_BYTES: usize = 16;

/// The first [`PREFIX_BYTES`] of a batch as a consumer gets it. `batch_length` is that of the stored batch.
pub fn prefix(base_offset: i64, batch_length: i32, leader_epoch: i32) -> [u8; PREFIX_BYTES] {
    let mut bytes = [0; PREFIX_BYTES];
    bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
    bytes[8..12].copy_from_slice(&batch_length.to_be_bytes());
    bytes[12..].copy_from_slice(&leader_epoch.to_be_bytes());
    bytes
}

/// `batch` at its place in the log, in two chunks: a fresh prefix, and the rest without a copy.
pub fn rebased(batch: &Bytes, base_offset: i64, leader_epoch: i32) -> Result<[Bytes; 2], BatchError> {
    let header = BatchHeader::parse(batch)?;
    let prefix = prefix(base_offset, header.batch_length, leader_epoch);
    Ok([Bytes::copy_from_slice(&prefix), batch.slice(PREFIX_BYTES..)])
}

/// A copy of `batch` with the broker's time as its max time and every record's (the topic says
/// `message.timestamp.type=LogAppendTime`).
pub fn with_append_time(batch: &[u8], append_time_ms: i64) -> Result<Bytes, BatchError> {
    rewrite(batch, |header| {
        header.attributes = header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
        header.max_timestamp = append_time_ms;
    })
}

/// A copy of `batch` with another max time, where the producer's was wrong.
pub fn with_max_time(batch: &[u8], max_timestamp_ms: i64) -> Result<Bytes, BatchError> {
    rewrite(batch, |header| header.max_timestamp = max_timestamp_ms)
}

/// A copy of `batch` with its records numbered from 0 on, compressed again; decompressed to at most `bytes_max` bytes.
pub fn renumbered(batch: &Bytes, bytes_max: usize) -> Result<Bytes, BatchError> {
    let header = BatchHeader::parse(batch)?;
    // One by one: a list of them may be twenty times as large as their bytes.
    let numbered = (0..).zip(records(batch, bytes_max)?);
    let numbered = numbered.map(|(offset_delta, record)| Ok(Record { offset_delta, ..record? }));
    let encoder = BatchEncoder {
        base_offset: header.base_offset,
        partition_leader_epoch: header.partition_leader_epoch,
        codec: header.attributes.codec()?,
        timestamp_type: header.attributes.timestamp_type(),
        transactional: header.attributes.is_transactional(),
        control: header.attributes.is_control(),
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
    };
    encoder.encode_each(numbered)
}

fn rewrite(batch: &[u8], change: impl FnOnce(&mut BatchHeader)) -> Result<Bytes, BatchError> {
    let mut header = BatchHeader::parse(batch)?;
    let mut copy = BytesMut::from(batch.get(..header.batch_bytes()).ok_or(BatchError::Truncated)?);
    change(&mut header);
    copy[..super::HEADER_BYTES].copy_from_slice(&header.encode());
    header.crc = crc32c::crc32c(&copy[CRC_FROM..]);
    copy[..super::HEADER_BYTES].copy_from_slice(&header.encode());
    Ok(copy.freeze())
}
