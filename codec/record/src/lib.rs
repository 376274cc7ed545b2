//! Stored record formats: the batch header every stored batch begins with, the `Format` trait (all that the log
//! core may ask of a payload), the protocols' native payloads, and the neutral [`Message`] between them.
//!
//! Pure: no I/O and no clock. A payload is stored as its protocol wrote it and is decoded only when another
//! protocol reads it, when an offset is looked up by time inside a batch, or when a batch is compacted.

pub mod amqp_message;
pub mod batch;
pub mod format;
pub mod kafka_batch;
pub mod message;
pub mod mqtt_message;
pub mod translate;

pub use batch::{Batch, BatchFlags, BatchHeader, HEADER_BYTES, Producer};
pub use format::{Format, FormatError, FormatId, Formats, RecordKey, Retained};
pub use message::Message;
