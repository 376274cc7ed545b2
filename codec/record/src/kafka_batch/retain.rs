//! A batch without some of its records, as compaction leaves it.
//!
//! The records that stay are copied as they are encoded: their offsets and times are relative to the batch's base, which
//! stays, so not a byte of them changes. A batch without any record is its header: consumers take from it where to go on
//! (Kafka's own cleaner leaves such batches too).

use bytes::{BufMut, Bytes, BytesMut};

use super::header::{CRC_FROM, HEADER_BYTES};
use super::{BatchHeader, Codec, NO_TIMESTAMP, RecordView, TimestampType, record_views};
use crate::format::{FormatError, Retained};

/// The batch with this header and those of its records that `keep` wants; `data` is all of them, decompressed.
pub(super) fn retained(
    header: &BatchHeader,
    data: &[u8],
    keep: &mut dyn FnMut(&RecordView<'_>) -> Result<bool, FormatError>,
) -> Result<Retained, FormatError> {
    let mut views = record_views(header, data);
    let mut kept = Kept { bytes: BytesMut::new(), records: 0, max_timestamp: NO_TIMESTAMP };
    let (mut from, mut dropped) = (0, false);
    while let Some(view) = views.next() {
        let view = view.map_err(|_| FormatError)?;
        let until = data.len() - views.left_bytes();
        match keep(&view)? {
            true if dropped => kept.add(&data[from..until], &view),
            true => kept.count(&view),
            false if !dropped => {
                // The first that goes: those before it stay.
                dropped = true;
                kept.bytes.put_slice(&data[..from]);
            }
            false => {}
        }
        from = until;
    }
    // A batch that had none already, has none.
    if !dropped && kept.records > 0 {
        return Ok(Retained::All);
    }
    let Kept { bytes, records, max_timestamp } = kept;
    let max_timestamp = match header.attributes.timestamp_type() {
        _ if records == 0 => NO_TIMESTAMP,
        // It is every record's time.
        TimestampType::LogAppendTime => header.max_timestamp,
        TimestampType::CreateTime => max_timestamp,
    };
    let payload = with_records(header, bytes.freeze(), records, max_timestamp)?;
    Ok(match records {
        0 => Retained::None { payload },
        _ => Retained::Some { payload, max_time_ms: max_timestamp },
    })
}

struct Kept {
    bytes: BytesMut,
    records: i32,
    max_timestamp: i64,
}

impl Kept {
    fn add(&mut self, encoded: &[u8], view: &RecordView<'_>) {
        self.bytes.put_slice(encoded);
        self.count(view);
    }

    fn count(&mut self, view: &RecordView<'_>) {
        self.records += 1;
        self.max_timestamp = self.max_timestamp.max(view.timestamp_ms);
    }
}

/// The batch with these records in place of its own.
fn with_records(header: &BatchHeader, data: Bytes, records: i32, max_timestamp: i64) -> Result<Bytes, FormatError> {
    let codec = header.attributes.codec().map_err(|_| FormatError)?;
    // What the prefix says is written anew for each fetch; it is kept as it was.
    let mut header = BatchHeader { records_count: records, max_timestamp, ..*header };
    let data = match records {
        // As Kafka does it: nothing is not compressed.
        0 => {
            header.attributes = header.attributes.with_codec(Codec::None);
            Bytes::new()
        }
        _ => codec.compress(data),
    };
    let bytes = HEADER_BYTES + data.len();
    header.batch_length = i32::try_from(bytes - 12).map_err(|_| FormatError)?;
    header.crc = crc32c::crc32c_append(crc32c::crc32c(&header.encode()[CRC_FROM..]), &data);
    let mut copy = BytesMut::with_capacity(bytes);
    copy.put_slice(&header.encode());
    copy.put_slice(&data);
    Ok(copy.freeze())
}
