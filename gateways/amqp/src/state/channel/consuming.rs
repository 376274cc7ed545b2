//! The consuming side of a channel: its consumers, prefetch, and what is unacknowledged.

/// The consuming side of a channel.
#[derive(Debug, Default)]
pub struct Consuming {}
