//! What one channel remembers.
//!
//! - [`confirms`]: publisher confirms that are answered together.
//! - [`publishing`]: the message that is coming in, and the routes that were looked up.
//! - [`consuming`]: consumers, prefetch and what is unacknowledged.
//! - [`Settles`]: which channels have settled something in a read round.

mod channels;
pub mod confirms;
pub mod consuming;
pub mod publishing;
mod settles;
mod transaction;
mod unacked;
mod window;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use codec_amqp::ShortStr;

pub use self::channels::{Channels, Seat};
pub use self::consuming::{Consuming, Dead, DeadReason, Outcome, ReplyTo};
pub use self::publishing::Publishing;
pub use self::settles::Settles;
pub use self::transaction::Transaction;
pub use self::unacked::{Delivered, Unacked, UnknownTag};
pub use self::window::Window;
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
    pub publishing: Publishing,
    pub consuming: Consuming,
    /// What waits for a commit, if the channel is transactional.
    pub transaction: Option<Transaction>,
}

impl Channel {
    pub fn new(number: u16) -> Channel {
        Channel {
            number,
            info: Arc::new(ChannelInfo::new(number)),
            last_queue: None,
            publishing: Publishing::default(),
            consuming: Consuming::default(),
            transaction: None,
        }
    }

    /// Shows others how many consumers there are.
    pub fn count_consumers(&self) {
        self.info.consumers.store(self.consuming.consumers().count() as u32, Ordering::Relaxed);
    }

    /// Shows others how much is out.
    pub fn count_unacked(&self) {
        self.info.unacknowledged.store(self.consuming.unacked() as u64, Ordering::Relaxed);
    }

    /// Forgets what a transaction holds: what was acknowledged in it is unacknowledged again. False: the channel is not transactional.
    pub fn roll_back(&mut self) -> bool {
        let Some(transaction) = &mut self.transaction else { return false };
        let Transaction { settles, .. } = std::mem::take(transaction);
        for (taken, _) in settles.into_iter().rev() {
            self.consuming.restore(taken);
        }
        true
    }

    /// The queue that a request means: the one it names, or the one that this channel declared last.
    pub fn queue_name(&self, named: &ShortStr) -> Result<ShortStr, Refusal> {
        if !named.is_empty() {
            return Ok(named.clone());
        }
        self.last_queue.clone().ok_or_else(|| Refusal::not_found("no previously declared queue"))
    }
}
