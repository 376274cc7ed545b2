//! `$delayed/SECONDS/NAME`, as EMQX has it: a message that is published to NAME when its time has come.
//!
//! ```text
//!  publish ─► __mqtt_delayed (a batch of its own, with not_before) ─► the core hands it out when it is due
//!          ─► [`Mover`]: settled there and appended to its topic, in one commit
//! ```
//! It has its QoS, its properties and its retain flag from the beginning, and what it lives it lives from then on: one whose
//! message expiry interval is over when it is due is never published. The core keeps the times; nothing is counted down here.

mod mover;
#[cfg(test)]
mod tests;

use codec_record::mqtt_message::MessageParts;
use codec_record::translate::names;
use core_rpc::Append;

use super::publishing::record;
use super::topics::{Own, Topics};

pub use mover::Mover;

/// What such names begin with.
pub const PREFIX: &str = "$delayed/";

/// The longest delay, seconds. A greater number is a time: seconds since the Unix epoch.
pub const DELAY_SECONDS_MAX: i64 = 42_949_670;

/// What a name says that begins with [`PREFIX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay<'a> {
    /// Milliseconds since the Unix epoch. Perhaps in the past: then it is due at once.
    pub due_ms: i64,
    /// What it is published to then.
    pub name: &'a str,
}

/// Such a name that says nothing that can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDelay {
    #[error("no number of seconds between two slashes")]
    NoDelay,
    #[error("a time that is more than {DELAY_SECONDS_MAX} seconds away")]
    TooLong,
    #[error("no name behind the delay that a client may publish to")]
    NoName,
}

/// None: a name like any other.
pub fn parse(name: &str, now_ms: i64) -> Option<Result<Delay<'_>, InvalidDelay>> {
    name.strip_prefix(PREFIX).map(|rest| delay(rest, now_ms))
}

fn delay(rest: &str, now_ms: i64) -> Result<Delay<'_>, InvalidDelay> {
    let (seconds, name) = rest.split_once('/').ok_or(InvalidDelay::NoDelay)?;
    if seconds.is_empty() || !seconds.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(InvalidDelay::NoDelay);
    }
    // Digits that are too many for a number are too long a delay, too.
    let seconds: i64 = seconds.parse().map_err(|_| InvalidDelay::TooLong)?;
    let name = names::checked(name.as_bytes()).ok_or(InvalidDelay::NoName)?;
    let due_ms = match seconds <= DELAY_SECONDS_MAX {
        true => now_ms.saturating_add(seconds * 1000),
        false => seconds.checked_mul(1000).ok_or(InvalidDelay::TooLong)?,
    };
    if due_ms.saturating_sub(now_ms) > DELAY_SECONDS_MAX * 1000 {
        return Err(InvalidDelay::TooLong);
    }
    Ok(Delay { due_ms, name })
}

/// What keeps a message until it is due. Its topic is [`Delay::name`]. To be acknowledged when this is kept.
pub fn hold_back(topics: &Topics, message: &MessageParts<'_>, due_ms: i64) -> Append {
    let name = std::str::from_utf8(message.topic).unwrap_or_default();
    let mut append = record(topics.own_partition(Own::Delayed, name), message);
    append.batch.header.not_before_ms = Some(due_ms);
    append
}
