//! Queues of type stream: read from any offset, again and again.
//!
//! A stream is a topic with a retention (`x-max-age`, `x-max-length-bytes`) and without a lease map: each consumer reads by
//! a [`Cursor`] of its own from where it asks for ([`StartAt`], `x-stream-offset`), an acknowledgement only makes room in its prefetch
//! window, and what is rejected or given back is not delivered again. Every delivery says where it lies (`x-stream-offset`).
//! A consumer may ask for messages with some filter values only ([`Filter`]).
//! What Kafka's producers wrote into the topic is read like the rest, without what their transactions aborted.

mod cursor;
mod filter;
mod offset;
mod reader;
mod visible;

pub use cursor::{Cursor, Piece, Placed};
pub use filter::Filter;
pub use offset::{StartAt, check_consumer};
pub use reader::{begin, run};
