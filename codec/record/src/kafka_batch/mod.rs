//! Kafka's record batch, version 2 (KIP-98): the payload of [`FormatId::KAFKA_BATCH_V2`](crate::FormatId).
//!
//! ```text
//!  0        8        12       16 17       21 23       27       35       43       51 53       57       61
//!  ├ base ──┼ length ┼ leader ┼──┼ crc  ──┼──┼ last ──┼ base ──┼ max  ──┼ pro- ──┼──┼ base ──┼ record ┼ records …
//!  │ offset │        │ epoch  │ │          │  │ offset │ time   │ time   │ ducer  │ │ sequ-  │ count  │
//!  │ i64    │ i32    │ i32    │ magic, 2  │  │ delta  │ ms i64 │ ms i64 │ id i64 │ │ ence   │ i32    │
//!  │        │        │        │           attributes  │        │        │        epoch i32   │        │
//!  ╰─ written anew for each fetch ╯        ╰─ covered by the crc (CRC-32C) ─────────────────────────────── …
//! ```
//! All integers are big-endian. `length` counts the bytes after itself. The base offset and the leader epoch stand
//! before what the CRC covers, so a broker sets them without touching the rest. Attributes:
//!
//! ```text
//!  bits 0-2  compression of the records: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd
//!  bit  3    timestamp type: 0 given by the producer, 1 time of append (the max time is then every record's)
//!  bit  4    part of a transaction
//!  bit  5    control batch: markers of the broker, no data
//!  bit  6    the base time is when tombstones may be dropped (KIP-534); set by Kafka's compaction only, the core's keeps
//!            that time in its own header
//! ```
//!
//! A record, inside the (decompressed) records; varints are zigzag, -1 as a length is null:
//!
//! ```text
//!  varint length │ i8 attributes, 0 │ varlong time delta │ varint offset delta │ varint key length │ key
//!  │ varint value length │ value │ varint header count │ count × (varint length │ key │ varint length │ value)
//! ```
//!
//! Nothing here trusts a length or a count, and no decompression exceeds the limit that its caller gives.

mod compression;
mod control;
mod encode;
mod error;
mod format;
mod header;
mod headers;
mod neutral;
mod produced;
mod records;
mod retain;
mod rewrite;
mod varint;

pub use compression::Codec;
pub use control::end_marker;
pub use encode::BatchEncoder;
pub use error::BatchError;
pub use format::{DECOMPRESSED_BYTES_MAX, KafkaBatchFormat};
pub use header::{
    Attributes, BatchHeader, HEADER_BYTES, MAGIC, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, TimestampType,
};
pub use headers::Headers;
pub use neutral::{from_message, to_message};
pub use produced::{Produced, produced, produced_header};
pub use records::{Record, RecordView, RecordViews, Records, decompress, record_views, records};
pub use rewrite::{PREFIX_BYTES, prefix, rebased, renumbered, with_append_time, with_max_time};
