//! The batch's header; the module's documentation draws it.

use super::{BatchError, Codec};

/// Length of the header, bytes.
pub const HEADER_BYTES: usize = 61;

/// Bytes before those that the length counts: base offset and length.
const UNCOUNTED_BYTES: usize = 12;

/// Where the attributes are, and with them the first byte that the CRC covers.
pub(super) const CRC_FROM: usize = 21;

/// The version of the batch format.
pub const MAGIC: i8 = 2;

/// The producer id of a batch without one.
pub const NO_PRODUCER_ID: i64 = -1;

/// The base sequence of a batch without a producer id.
pub const NO_SEQUENCE: i32 = -1;

/// The time of a record without one.
pub const NO_TIMESTAMP: i64 = -1;

/// The header of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; 0 in what a producer sends.
    pub base_offset: i64,
    /// Bytes after this field.
    pub batch_length: i32,
    /// Epoch of the leader that appended it.
    pub partition_leader_epoch: i32,
    /// CRC-32C of the bytes from the attributes on.
    pub crc: u32,
    /// Compression and flags.
    pub attributes: Attributes,
    /// Offset of the last record, relative to the first.
    pub last_offset_delta: i32,
    /// Time that the records' times are relative to, milliseconds since 1970.
    pub base_timestamp: i64,
    /// The greatest time of a record, milliseconds since 1970; -1 if there is none.
    pub max_timestamp: i64,
    /// Who produced it, or [`NO_PRODUCER_ID`].
    pub producer_id: i64,
    /// The producer's epoch, or -1.
    pub producer_epoch: i16,
    /// The sequence of the first record, or [`NO_SEQUENCE`].
    pub base_sequence: i32,
    /// How many records there are (fewer than offsets, after a compaction).
    pub records_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which need not hold the whole batch. Checks the version and that the
    /// length covers the header; the CRC is [`BatchHeader::check_crc`]'s.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        // The version stands at the same place in all versions, and all have 17 bytes.
        let magic = *bytes.get(16).ok_or(BatchError::Truncated)? as i8;
        if magic != MAGIC {
            return Err(BatchError::BadMagic(magic));
        }
        let header: &[u8; HEADER_BYTES] = match bytes.first_chunk() {
            Some(header) => header,
            None => {
                let batch_length = i32::from_be_bytes(field(bytes, 8));
                let too_short = batch_length < (HEADER_BYTES - UNCOUNTED_BYTES) as i32;
                return Err(if too_short { BatchError::BadLength(batch_length) } else { BatchError::Truncated });
            }
        };
        let batch_length = i32::from_be_bytes(field(header, 8));
        if batch_length < (HEADER_BYTES - UNCOUNTED_BYTES) as i32 {
            return Err(BatchError::BadLength(batch_length));
        }
        Ok(BatchHeader {
            base_offset: i64::from_be_bytes(field(header, 0)),
            batch_length,
            partition_leader_epoch: i32::from_be_bytes(field(header, 12)),
            crc: u32::from_be_bytes(field(header, 17)),
            attributes: Attributes(i16::from_be_bytes(field(header, 21))),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp: i64::from_be_bytes(field(header, 27)),
            max_timestamp: i64::from_be_bytes(field(header, 35)),
            producer_id: i64::from_be_bytes(field(header, 43)),
            producer_epoch: i16::from_be_bytes(field(header, 51)),
            base_sequence: i32::from_be_bytes(field(header, 53)),
            records_count: i32::from_be_bytes(field(header, 57)),
        })
    }

    /// The header as bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &self.base_offset.to_be_bytes());
        put(8, &self.batch_length.to_be_bytes());
        put(12, &self.partition_leader_epoch.to_be_bytes());
        put(16, &MAGIC.to_be_bytes());
        put(17, &self.crc.to_be_bytes());
        put(21, &self.attributes.0.to_be_bytes());
        put(23, &self.last_offset_delta.to_be_bytes());
        put(27, &self.base_timestamp.to_be_bytes());
        put(35, &self.max_timestamp.to_be_bytes());
        put(43, &self.producer_id.to_be_bytes());
        put(51, &self.producer_epoch.to_be_bytes());
        put(53, &self.base_sequence.to_be_bytes());
        put(57, &self.records_count.to_be_bytes());
        bytes
    }

    /// Length of the whole batch, bytes.
    pub fn batch_bytes(&self) -> usize {
        // Parsing checked that the length is not negative.
        UNCOUNTED_BYTES + self.batch_length.max(0) as usize
    }

    /// Whether the CRC is that of `batch`, which begins with this header and may go on after the batch.
    pub fn check_crc(&self, batch: &[u8]) -> Result<(), BatchError> {
        let covered = batch.get(CRC_FROM..self.batch_bytes()).ok_or(BatchError::Truncated)?;
        let computed = crc32c::crc32c(covered);
        match computed == self.crc {
            true => Ok(()),
            false => Err(BatchError::BadCrc { stored: self.crc, computed }),
        }
    }

    /// The offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.wrapping_add(i64::from(self.last_offset_delta))
    }

    /// Whether a producer id is given.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    // Offsets and lengths are constants above, all within the header; short input was refused.
    bytes[at..at + N].try_into().expect("a slice of N bytes")
}

/// Who set a batch's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer set them, one for each record.
    CreateTime,
    /// The broker set one for the batch: its max timestamp.
    LogAppendTime,
}

/// The batch's attributes; the module's documentation draws them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;

    /// Compression of the records.
    pub fn codec(self) -> Result<Codec, BatchError> {
        Codec::from_id((self.0 & Self::CODEC) as u8)
    }

    /// Who set the times.
    pub fn timestamp_type(self) -> TimestampType {
        match self.0 & Self::LOG_APPEND_TIME {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    /// Whether it is part of a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether it holds markers instead of data.
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// The same with another compression.
    pub fn with_codec(self, codec: Codec) -> Self {
        Attributes(self.0 & !Self::CODEC | i16::from(codec.id()))
    }

    /// The same with another timestamp type.
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        self.with(Self::LOG_APPEND_TIME, timestamp_type == TimestampType::LogAppendTime)
    }

    /// The same, inside or outside a transaction.
    pub fn with_transactional(self, transactional: bool) -> Self {
        self.with(Self::TRANSACTIONAL, transactional)
    }

    /// The same, with markers or data.
    pub fn with_control(self, control: bool) -> Self {
        self.with(Self::CONTROL, control)
    }

    fn with(self, bit: i16, set: bool) -> Self {
        Attributes(if set { self.0 | bit } else { self.0 & !bit })
    }
}
