//! The wire protocol AMQP 0-9-1 with RabbitMQ's extensions: bytes ↔ frames, methods, contents. Pure: no I/O, no clock,
//! no state between frames.
//!
//! ```text
//! socket bytes ─ frame::split ─► Frame ─┬ Method::decode ────────► basic::Publish, queue::Declare …
//!                                       ├ ContentHeader::decode ─► body size, properties
//!                                       └ the payload ───────────► a piece of the body (BodyPieces puts them together)
//! vectored write ◄─ Outgoing (a `Buf` of many chunks) ◄─ put_method, put_content (method + header + body) ◄─ a gateway
//! ```
//!
//! - [`frame`]: the envelope, and the header that a connection begins with.
//! - [`method`]: [`Method`], one struct per method, one file per class.
//! - [`content`]: what carries a message: content headers, bodies over many frames.
//! - [`in_place`]: the same frames, read where they lie, for publishes.
//! - [`outgoing`]: what waits to be written; bodies are not copied into it.
//! - Tables, properties and the elementary types are `codec_record::amqp_message`'s, for they are stored; they are found
//!   here, too.
//!
//! Which reply code an error becomes is the gateway's to know; the errors here tell apart what the codes tell apart.

pub mod content;
pub mod frame;
pub mod in_place;
pub mod method;
pub mod outgoing;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod sample;

pub use codec_record::amqp_message::{
    DEPTH_MAX, FieldTable, FieldValue, InvalidExpiration, PERSISTENT, Properties, PropertyList, Reader, ShortStr,
    SyntaxError, TooLong, VALUES_MAX, properties, table,
};
pub use content::{BodyPieces, ContentError, ContentHeader};
pub use frame::{Frame, FrameError, FrameKind};
pub use method::{Method, MethodError, access, basic, channel, confirm, connection, exchange, queue, tx};
pub use outgoing::{ContentMethod, Outgoing};
