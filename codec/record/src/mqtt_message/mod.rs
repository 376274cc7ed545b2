//! MQTT's messages: how they are stored, and what of them other protocols see.
//!
//! - [`stored`]: the payload of [`FormatId::MQTT`](crate::FormatId::MQTT): [`Writer`], [`messages`], [`MessageView`], and
//!   [`walk`] for whoever only looks. [`MqttFormat`] is what the core asks of it.
//! - [`properties`]: the properties of a PUBLISH that outlive their packet, in version 5's wire form.
//! - [`to_message`] and [`from_message`] are for the others.
//!
//! The packets around it are the crate `codec-mqtt`'s. How topics are called is [`names`](crate::translate::names)'.

mod format;
mod neutral;
pub mod properties;
pub mod stored;

pub use format::MqttFormat;
pub use neutral::{from_message, to_message};
pub use stored::{MessageParts, MessageView, Messages, Stored, Walk, Writer, batch_of, messages, nth, walk};
