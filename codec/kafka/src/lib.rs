//! The Kafka wire protocol: bytes ↔ requests and responses. Pure: no I/O, no clock, no state between frames.
//!
//! ```text
//! socket bytes ─ frame::split ─► one frame ─ RequestHeader::decode ─► FetchRequest::decode(reader, version)
//!                                                                                        │ (a gateway answers)
//! vectored write ◄─ Frame (list of chunks) ◄─ frame::encode_response ◄── FetchResponse ◄─┘
//! ```
//!
//! - [`frame`]: the length prefix, and the request and response headers.
//! - [`wire`]: [`wire::Reader`] and [`wire::Writer`], the primitive types, and what bounds memory against hostile bytes.
//! - [`schema`]: how a message is declared (one table line per field), from which both directions are made.
//! - [`api`]: the table of APIs: key, versions that this crate can code, from which version the encoding is flexible.
//! - [`messages`]: one file per API. [`consumer_protocol`]: what consumers put into the opaque bytes of group messages.
//!
//! What a gateway *supports* is the gateway's table, and error codes are the gateway's too: here they are plain `i16`.

pub mod api;
pub mod consumer_protocol;
pub mod frame;
pub mod messages;
#[cfg(feature = "samples")]
pub mod samples;
pub mod schema;
pub mod wire;

pub use api::{ApiKey, Message, Request};
pub use frame::{DEFAULT_FRAME_BYTES_MAX, RequestHeader};
pub use wire::{DecodeError, EncodeError, Frame, Reader, RecordChunks, Uuid, Writer};
