//! Making batches: for tests, and where another protocol's messages become Kafka records.

use std::borrow::Borrow;

use bytes::{BufMut, Bytes, BytesMut};

use super::header::{Attributes, CRC_FROM, HEADER_BYTES, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP};
use super::varint::{put_nullable_bytes, put_varint, put_varlong};
use super::{BatchError, BatchHeader, Codec, Record, TimestampType};

/// What a batch is to be, apart from its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchEncoder {
    /// Offset of the first record; 0 in what a producer sends.
    pub base_offset: i64,
    /// Epoch of the leader; -1 in what a producer sends.
    pub partition_leader_epoch: i32,
    /// Compression.
    pub codec: Codec,
    /// Who set the times. With the broker's, the greatest of the records' times becomes that of all.
    pub timestamp_type: TimestampType,
    /// Part of a transaction.
    pub transactional: bool,
    /// Markers instead of data.
    pub control: bool,
    /// The producer, or [`NO_PRODUCER_ID`].
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// The first record's sequence, or [`NO_SEQUENCE`].
    pub base_sequence: i32,
}

impl Default for BatchEncoder {
    fn default() -> Self {
        BatchEncoder {
            base_offset: 0,
            partition_leader_epoch: -1,
            codec: Codec::None,
            timestamp_type: TimestampType::CreateTime,
            transactional: false,
            control: false,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: -1,
            base_sequence: NO_SEQUENCE,
        }
    }
}

impl BatchEncoder {
    /// A whole batch. The records' offsets must ascend; the last one's is the batch's. All of them together must stay
    /// below 2 GiB.
    pub fn encode(&self, records: &[Record]) -> Bytes {
        self.encode_each(records.iter().map(Ok)).expect("no record is an error")
    }

    /// The same for records that come one by one, up to the first error.
    pub(super) fn encode_each<R: Borrow<Record>>(
        &self,
        records: impl IntoIterator<Item = Result<R, BatchError>>,
    ) -> Result<Bytes, BatchError> {
        self.encode_spanning(records, None)
    }

    /// The same; the batch ends where it is said to, though records be missing there.
    pub(crate) fn encode_spanning<R: Borrow<Record>>(
        &self,
        records: impl IntoIterator<Item = Result<R, BatchError>>,
        last: Option<i32>,
    ) -> Result<Bytes, BatchError> {
        let mut data = BytesMut::new();
        let (mut base_timestamp, mut max_timestamp) = (None, NO_TIMESTAMP);
        let (mut last_offset_delta, mut records_count) = (-1, 0);
        for record in records {
            let record = record?;
            let record = record.borrow();
            put_record(&mut data, record, *base_timestamp.get_or_insert(record.timestamp_ms));
            max_timestamp = max_timestamp.max(record.timestamp_ms);
            last_offset_delta = record.offset_delta;
            records_count += 1;
        }
        let data = self.codec.compress(data.freeze());
        let mut header = BatchHeader {
            base_offset: self.base_offset,
            batch_length: (HEADER_BYTES - 12 + data.len()).try_into().expect("a batch is below 2 GiB"),
            partition_leader_epoch: self.partition_leader_epoch,
            crc: 0,
            attributes: Attributes::default()
                .with_codec(self.codec)
                .with_timestamp_type(self.timestamp_type)
                .with_transactional(self.transactional)
                .with_control(self.control),
            last_offset_delta: last.unwrap_or(last_offset_delta),
            base_timestamp: base_timestamp.unwrap_or(NO_TIMESTAMP),
            max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            records_count,
        };
        header.crc = crc32c::crc32c_append(crc32c::crc32c(&header.encode()[CRC_FROM..]), &data);
        let mut batch = BytesMut::with_capacity(HEADER_BYTES + data.len());
        batch.put_slice(&header.encode());
        batch.put_slice(&data);
        Ok(batch.freeze())
    }
}

fn put_record(data: &mut BytesMut, record: &Record, base_timestamp: i64) {
    let mut body = BytesMut::new();
    body.put_i8(0);
    put_varlong(&mut body, record.timestamp_ms.wrapping_sub(base_timestamp));
    put_varint(&mut body, record.offset_delta);
    put_nullable_bytes(&mut body, record.key.as_deref());
    put_nullable_bytes(&mut body, record.value.as_deref());
    put_varint(&mut body, record.headers.len() as i32);
    body.put_slice(record.headers.encoded());
    put_varlong(data, body.len() as i64);
    data.put_slice(&body);
}
