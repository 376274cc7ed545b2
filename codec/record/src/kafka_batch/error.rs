//! What can be wrong with a batch.

/// Why a batch is refused. Each says what Kafka's broker makes of it when a producer sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// There is no whole batch: the bytes end before it does. INVALID_RECORD.
    #[error("the bytes end before the record batch does")]
    Truncated,
    /// The batch's length is below that of its header. CORRUPT_MESSAGE.
    #[error("the record batch is {0} bytes long, less than its header")]
    BadLength(i32),
    /// Not version 2. Versions 0 and 1 (message sets): INVALID_RECORD, since Produce 3 forbids them; others:
    /// CORRUPT_MESSAGE.
    #[error("record batches of version {0} are not supported")]
    BadMagic(i8),
    /// The checksum does not match. CORRUPT_MESSAGE.
    #[error("the record batch's checksum is {stored:#010x}, its bytes give {computed:#010x}")]
    BadCrc {
        /// As the header says.
        stored: u32,
        /// As computed.
        computed: u32,
    },
    /// Bytes after the one batch that a partition may have in a request. INVALID_RECORD.
    #[error("more than one record batch")]
    MoreThanOneBatch,
    /// A producer's base offset is not 0. INVALID_RECORD.
    #[error("the base offset of a produced record batch is {0}, not 0")]
    BadBaseOffset(i64),
    /// No records, or not as many as offsets. INVALID_RECORD.
    #[error("the record batch counts {count} records for the offsets up to {last_offset_delta}")]
    BadCount {
        /// The header's count of records.
        count: i32,
        /// The header's last offset, relative to the first.
        last_offset_delta: i32,
    },
    /// A control batch from a client. INVALID_RECORD.
    #[error("clients may not write control batches")]
    ControlBatch,
    /// A producer id without a sequence. INVALID_RECORD.
    #[error("the record batch has a producer id but the sequence {0}")]
    BadSequence(i32),
    /// A client claims that the broker set the time. INVALID_TIMESTAMP.
    #[error("clients may not set the timestamp type to log append time")]
    BadTimestampType,
    /// A compression that does not exist. UNSUPPORTED_COMPRESSION_TYPE.
    #[error("compression {0} is unknown")]
    UnknownCodec(u8),
    /// The compressed bytes are broken. CORRUPT_MESSAGE.
    #[error("the records cannot be decompressed")]
    BadCompression,
    /// The records would decompress to more than the limit. Kafka has no such limit; RECORD_LIST_TOO_LARGE fits.
    #[error("the records decompress to more than {bytes_max} bytes")]
    TooLarge {
        /// The limit given by the caller.
        bytes_max: usize,
    },
    /// A record that is malformed, or too few or too many bytes for the count of records. INVALID_RECORD.
    #[error("record {index} of the batch is malformed")]
    BadRecord {
        /// Which record, from 0.
        index: u32,
    },
}
