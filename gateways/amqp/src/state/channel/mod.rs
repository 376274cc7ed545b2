//! What one channel remembers.
//!
//! - [`confirms`]: publisher confirms that are answered together.
//! - [`consuming`]: consumers, prefetch and what is unacknowledged.

mod channels;
pub mod confirms;
pub mod consuming;

use std::sync::Arc;

use codec_amqp::ShortStr;

pub use self::channels::{Channels, Seat};
pub use self::consuming::Consuming;
use super::registry::ChannelInfo;
use crate::errors::Refusal;

/// An open channel.
#[derive(Debug)]
pub struct Channel {
    pub number: u16,
    /// What others see of it.
    pub info: Arc<ChannelInfo>,
    /// The queue that was declared last: what an empty queue name means.
    pub last_queue: Option<ShortStr>,
    pub consuming: Consuming,
}

impl Channel {
    pub fn new(number: u16) -> Channel {
        Channel { number, info: Arc::new(ChannelInfo::new(number)), last_queue: None, consuming: Consuming::default() }
    }

    /// The queue that a request means: the one it names, or the one that this channel declared last.
    pub fn queue_name(&self, named: &ShortStr) -> Result<ShortStr, Refusal> {
        if !named.is_empty() {
            return Ok(named.clone());
        }
        self.last_queue.clone().ok_or_else(|| Refusal::not_found("no previously declared queue"))
    }
}
