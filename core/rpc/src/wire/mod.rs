//! The RPC's wire: addresses, the handshake, frames, and the messages in them.
//!
//! A connection begins with a [`handshake`]; then both sides send [`frame`]s: a call's [`message`] (postcard) and
//! raw batches, which nothing parses or copies. Answers come in any order. Hostile bytes end the connection.

pub mod address;
pub mod frame;
pub mod handshake;
pub mod message;

pub(crate) mod outbox;
pub(crate) mod reader;

pub use address::{Address, AddressError, Listener};

use std::time::Duration;

/// The largest frame, bytes: the largest batch, and room for its neighbours and the message.
pub const FRAME_BYTES_MAX: usize = crate::BATCH_BYTES_MAX as usize + (32 << 20);

/// Calls that may be unanswered on one connection, long polls apart. The client waits at this number; the server
/// ends a connection that goes beyond it.
pub const CALLS_MAX: usize = 16 * 1024;

/// Long polls (a fetch that waits, a watch) that may be unanswered on one connection. They are counted apart so
/// that any number of idle readers leaves room for calls.
pub const LONG_POLLS_MAX: usize = 64 * 1024;

/// The longest that one poll waits; whoever asked for longer gets an empty answer and asks again.
pub const LONG_POLL_WAIT_MAX: Duration = Duration::from_secs(300);

/// Bytes of unanswered appends on one connection, at either end; beyond it the client waits and the server stops
/// reading. One larger frame is let through alone.
pub const APPEND_BYTES_MAX: usize = 64 << 20;

/// Bytes of answers that wait for a slow reader on one connection. A fetch that finds no room is made again when
/// there is.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A client that hears nothing for this long asks for a sign of life.
pub const PING_AFTER: Duration = Duration::from_secs(5);

/// A connection on which the client has heard nothing for this long is broken.
pub const CLIENT_SILENCE_MAX: Duration = Duration::from_secs(30);

/// A connection on which the server has heard nothing for this long is broken; above all it frees what a vanished
/// client's long polls hold.
pub const SERVER_SILENCE_MAX: Duration = Duration::from_secs(90);

/// What `bytes` take of a budget that is counted in KiB (a semaphore counts to 2^29 on small machines): at least
/// one, at most the whole, so that the largest frame gets through alone.
pub(crate) fn budget_kib(bytes: usize, budget_bytes: usize) -> u32 {
    (bytes.min(budget_bytes) >> 10).max(1) as u32
}
