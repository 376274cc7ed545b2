//! Stored batches → what a consumer gets.
//!
//! A batch that Kafka clients wrote goes out as it is, but for the 16 bytes before what its CRC covers:
//!
//! ```text
//! stored payload   │ base offset, length, epoch: 16 bytes │ magic, crc, attributes … records │
//! sent             │ fresh prefix (a chunk of its own)    │ the same memory, no copy         │
//! ```
//!
//! What other protocols wrote is converted to a record batch at the same offsets; docs/mapping.md says what becomes what.

use bytes::{Bytes, BytesMut};
use codec_kafka::RecordChunks;
use codec_record::kafka_batch::{PREFIX_BYTES, prefix};
use codec_record::{Batch, FormatId, translate};

use super::LEADER_EPOCH;
use crate::errors::ErrorCode;

/// Bytes of a batch that its length field does not count: base offset and length.
const UNCOUNTED_BYTES: usize = 12;

/// The batches of one partition as the content of a `records` field. Where one cannot be had, the answer ends before
/// it; if it is the first, the error says why.
pub fn records(batches: Vec<Batch>) -> Result<RecordChunks, ErrorCode> {
    let mut prefixes = BytesMut::with_capacity(batches.len() * PREFIX_BYTES);
    let mut chunks = Vec::with_capacity(batches.len() * 2);
    for batch in batches {
        match kafka_batch(batch, &mut prefixes) {
            Ok(parts) => chunks.extend(parts),
            Err(error) if chunks.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(RecordChunks(chunks))
}

fn kafka_batch(batch: Batch, prefixes: &mut BytesMut) -> Result<[Bytes; 2], ErrorCode> {
    match batch.header.format {
        FormatId::KAFKA_BATCH_V2 if batch.payload.len() > PREFIX_BYTES => {
            let batch_length = (batch.payload.len() - UNCOUNTED_BYTES) as i32;
            prefixes.extend_from_slice(&prefix(batch.header.base_offset as i64, batch_length, LEADER_EPOCH));
            Ok([prefixes.split().freeze(), batch.payload.slice(PREFIX_BYTES..)])
        }
        format => match translate::kafka_batch(&batch, LEADER_EPOCH) {
            Ok(mut converted) => Ok([converted.split_to(PREFIX_BYTES), converted]),
            Err(_) => {
                tracing::error!(?format, offset = batch.header.base_offset, "a stored batch cannot be read here");
                Err(ErrorCode::UnsupportedForMessageFormat)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec_record::kafka_batch::{BatchEncoder, BatchHeader, Record};

    #[test]
    fn a_batch_is_sent_with_its_offset_and_without_a_copy() {
        let sent = BatchEncoder { base_offset: 7, partition_leader_epoch: 0, ..Default::default() };
        let stored = BatchEncoder::default().encode(&[Record::default()]);
        let mut batch = Batch::new(FormatId::KAFKA_BATCH_V2, 1, -1, stored);
        batch.header.base_offset = 7;
        let chunks = records(vec![batch.clone()]).unwrap();
        assert_eq!(chunks.0[1].as_ptr(), batch.payload[PREFIX_BYTES..].as_ptr());
        let bytes = chunks.to_bytes();
        assert_eq!(bytes, sent.encode(&[Record::default()]));
        assert_eq!(BatchHeader::parse(&bytes).unwrap().base_offset, 7);
    }

    #[test]
    fn an_unknown_format_is_an_error_where_it_is_first() {
        let known = Batch::new(FormatId::KAFKA_BATCH_V2, 1, -1, BatchEncoder::default().encode(&[Record::default()]));
        let unknown = Batch::new(FormatId::RAW, 1, -1, Bytes::from_static(b"x"));
        assert_eq!(records(vec![unknown.clone()]), Err(ErrorCode::UnsupportedForMessageFormat));
        assert_eq!(records(vec![known, unknown]).unwrap().0.len(), 2);
    }
}
