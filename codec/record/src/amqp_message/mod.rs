//! AMQP 0-9-1's messages: how they are stored, their properties and headers, and the elementary types of those.
//!
//! - [`stored`]: the payload of [`FormatId::AMQP_091`](crate::FormatId::AMQP_091): [`Writer`], [`messages`],
//!   [`MessageView`]. [`AmqpFormat`] is what the core asks of it; [`to_message`] and [`from_message`] are for the others.
//! - [`walk`]: going through stored messages without building any.
//! - [`wire`]: [`Reader`], which nothing of a peer overruns. [`ShortStr`]: text of at most 255 bytes.
//! - [`table`]: [`FieldTable`] and [`FieldValue`], typed and nested.
//! - [`properties`]: [`Properties`], the raw bytes of a content header, read and changed in place; [`PropertyList`] has all
//!   of them taken apart.
//!
//! The frames and methods around it are the crate `codec-amqp`'s.

mod format;
mod json;
mod neutral;
pub mod properties;
mod property_list;
mod short_str;
pub mod stored;
pub mod table;
pub mod walk;
pub mod wire;

pub use format::AmqpFormat;
pub(crate) use neutral::DELIVERY_MODE;
pub use neutral::{from_message, to_message};
pub use properties::{InvalidExpiration, PERSISTENT, Properties};
pub use property_list::PropertyList;
pub use short_str::{ShortStr, TooLong};
pub use stored::{MessageParts, MessageView, Messages, Writer, batch_of, messages, nth};
pub use table::{DEPTH_MAX, FieldTable, FieldValue, VALUES_MAX};
pub use wire::{Reader, SyntaxError};
