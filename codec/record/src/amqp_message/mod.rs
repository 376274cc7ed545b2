//! What AMQP 0-9-1 says of a message: its properties and headers, and the elementary types that they are made of.
//!
//! - [`wire`]: [`Reader`], which nothing of a peer overruns. [`ShortStr`]: text of at most 255 bytes.
//! - [`table`]: [`FieldTable`] and [`FieldValue`], typed and nested.
//! - [`properties`]: [`Properties`], the raw bytes of a content header, read and changed in place; [`PropertyList`] has all
//!   of them taken apart.
//!
//! The frames and methods around it are the crate `codec-amqp`'s.

pub mod properties;
mod property_list;
mod short_str;
pub mod table;
pub mod wire;

pub use properties::{InvalidExpiration, PERSISTENT, Properties};
pub use property_list::PropertyList;
pub use short_str::{ShortStr, TooLong};
pub use table::{DEPTH_MAX, FieldTable, FieldValue, VALUES_MAX};
pub use wire::{Reader, SyntaxError};
