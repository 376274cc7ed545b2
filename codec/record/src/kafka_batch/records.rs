//! The records in a batch.

use bytes::Bytes;

use super::header::HEADER_BYTES;
use super::headers::{self, Headers};
use super::varint::Cursor;
use super::{BatchError, BatchHeader, TimestampType};

/// One record, sharing the (decompressed) batch's memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Offset relative to the batch's base offset.
    pub offset_delta: i32,
    /// Milliseconds since 1970: the record's own, or the batch's if the broker set it.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
}

/// One record, borrowed: for scans, which then allocate nothing.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    /// Offset relative to the batch's base offset.
    pub offset_delta: i32,
    /// Milliseconds since 1970: the record's own, or the batch's if the broker set it.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    header_count: i32,
    encoded_headers: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// Key and value of each header, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        headers::iter(self.encoded_headers, self.header_count)
    }
}

/// The bytes of the records of `batch` (header included), decompressed to at most `bytes_max` bytes. Without
/// compression it is a slice of the batch, and there is no limit.
pub fn decompress(batch: &Bytes, bytes_max: usize) -> Result<Bytes, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if batch.len() < header.batch_bytes() {
        return Err(BatchError::Truncated);
    }
    header.attributes.codec()?.decompress(batch.slice(HEADER_BYTES..header.batch_bytes()), bytes_max)
}

/// The records of `batch` (header included), decompressed to at most `bytes_max` bytes. The CRC is not checked.
pub fn records(batch: &Bytes, bytes_max: usize) -> Result<Records, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let data = decompress(batch, bytes_max)?;
    Ok(Records { scan: Scan::new(&header), position: 0, data })
}

/// The records in `data`, which [`decompress`] gave for the batch with this header, borrowed.
pub fn record_views<'a>(header: &BatchHeader, data: &'a [u8]) -> RecordViews<'a> {
    RecordViews { scan: Scan::new(header), cursor: Cursor { rest: data } }
}

/// The records of a batch. After an error there are no more; bytes left over after the last record are an error.
#[derive(Debug, Clone)]
pub struct Records {
    scan: Scan,
    data: Bytes,
    position: usize,
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut cursor = Cursor { rest: &self.data[self.position..] };
        let result = self.scan.next(&mut cursor)?;
        self.position = self.data.len() - cursor.rest.len();
        Some(result.map(|view| Record {
            offset_delta: view.offset_delta,
            timestamp_ms: view.timestamp_ms,
            key: view.key.map(|key| self.data.slice_ref(key)),
            value: view.value.map(|value| self.data.slice_ref(value)),
            headers: Headers::from_checked(view.header_count, self.data.slice_ref(view.encoded_headers)),
        }))
    }
}

/// The records of a batch, borrowed. After an error there are no more; bytes left over after the last record are an
/// error.
#[derive(Debug, Clone)]
pub struct RecordViews<'a> {
    scan: Scan,
    cursor: Cursor<'a>,
}

impl RecordViews<'_> {
    /// How many bytes are left to be read: what was read so far ends where they begin.
    pub(super) fn left_bytes(&self) -> usize {
        self.cursor.rest.len()
    }
}

impl<'a> Iterator for RecordViews<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.scan.next(&mut self.cursor)
    }
}

/// How far a walk over records came.
#[derive(Debug, Clone, Copy)]
struct Scan {
    index: u32,
    count: u32,
    base_timestamp: i64,
    append_time: Option<i64>,
    done: bool,
}

impl Scan {
    fn new(header: &BatchHeader) -> Self {
        let append_time = match header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => Some(header.max_timestamp),
            TimestampType::CreateTime => None,
        };
        let count = header.records_count.max(0) as u32;
        Scan { index: 0, count, base_timestamp: header.base_timestamp, append_time, done: false }
    }

    fn next<'a>(&mut self, cursor: &mut Cursor<'a>) -> Option<Result<RecordView<'a>, BatchError>> {
        if self.done {
            return None;
        }
        let index = self.index;
        let record = match index < self.count {
            true => self.record(cursor),
            // The end: nothing may be left.
            false if cursor.rest.is_empty() => {
                self.done = true;
                return None;
            }
            false => None,
        };
        self.index += 1;
        self.done = record.is_none();
        Some(record.ok_or(BatchError::BadRecord { index }))
    }

    fn record<'a>(&self, batch: &mut Cursor<'a>) -> Option<RecordView<'a>> {
        let length = usize::try_from(batch.varint()?).ok()?;
        let mut cursor = Cursor { rest: batch.take(length)? };
        cursor.byte()?;
        let time_delta = cursor.varlong()?;
        let offset_delta = cursor.varint()?;
        let key = cursor.nullable_bytes()?;
        let value = cursor.nullable_bytes()?;
        let header_count = cursor.varint().filter(|count| *count >= 0)?;
        let encoded_headers = cursor.rest;
        for _ in 0..header_count {
            headers::header(&mut cursor)?;
        }
        let timestamp_ms = self.append_time.unwrap_or(self.base_timestamp.wrapping_add(time_delta));
        let view = RecordView { offset_delta, timestamp_ms, key, value, header_count, encoded_headers };
        cursor.rest.is_empty().then_some(view)
    }
}
