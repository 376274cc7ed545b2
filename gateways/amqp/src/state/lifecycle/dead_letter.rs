//! Dead-lettering: messages leave their queue and go to its dead letter exchange, in one commit.
//!
//! ```text
//!  holder has them ─► read their bytes ─► headers, keys (letters) ─► route ─► Core::transfer: settle + append, all or nothing
//! ```
//! So a message is in its queue or where it was sent, and never in both or in neither: whatever dies meanwhile. What cannot be
//! sent anywhere is dropped, as RabbitMQ does it, except from a quorum queue with the strategy at-least-once: there it waits
//! beside the queue (`amq.delayed`) until there is a way.

use std::sync::Arc;
use std::time::Duration;

use codec_record::amqp_message::MessageView;
use core_rpc::{
    Append, AppendError, AppendRequest, Core, FetchError, GroupName, LeaseError, PartitionId, SettleRange,
    SettleRequest, Settlement, TopicError, TransferError, TransferRequest,
};

use super::deaths::Reason;
use super::letters::{self, Death};
use super::post::{Post, Sent};
use super::{Lifecycle, read};
use crate::now_ms;
use crate::state::topology::{DeadLetterStrategy, Queue};

/// The most messages of one commit.
const LETTERS_MAX: usize = 256;

/// How often to ask a core again that could not answer, and after what time.
const ATTEMPTS: u32 = 20;
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Messages of one partition that die together, by rising offset.
pub type Dead = (PartitionId, Vec<u64>);

/// Messages of a queue with a dead letter exchange that die of one reason.
#[derive(Clone, Debug)]
pub struct Dying {
    pub queue: Arc<Queue>,
    pub dead: Dead,
    pub reason: Reason,
}

/// Dead letters on their way: for the call that settles the dead.
#[derive(Debug)]
pub struct Letters {
    pub appends: Vec<Append>,
    sent: Vec<Sent>,
}

impl<C: Core> Lifecycle<C> {
    /// Messages that `holder` has are over: they go to the dead letter exchange, if there is one.
    pub async fn expired(&self, queue: &Arc<Queue>, holder: &str, dead: Vec<Dead>) {
        self.dead_letter(queue, holder, dead, Reason::Expired).await;
    }

    /// Settles messages that `holder` has, and sends them to the queue's dead letter exchange, if it has one. Returns when that is
    /// done. What the core refuses for good is left to the holder's end, which makes it available again.
    pub async fn dead_letter(&self, queue: &Arc<Queue>, holder: &str, dead: Vec<Dead>, reason: Reason) {
        for (partition, offsets) in dead {
            for offsets in offsets.chunks(LETTERS_MAX) {
                self.send(queue, holder, (partition, offsets), reason).await;
            }
        }
    }

    async fn send(&self, queue: &Arc<Queue>, holder: &str, dead: (PartitionId, &[u64]), reason: Reason) {
        if queue.config().dead_letter_exchange.is_none() {
            return self.settle(&queue.group(), holder, dead.0, ranges(dead.1, Settlement::Reject)).await;
        }
        for attempt in 0.. {
            let (retry, offsets) = match self.try_send(queue, holder, dead, reason).await {
                Ok(sent) => return sent.into_iter().for_each(|sent| self.arrived(&sent)),
                Err(TransferError::Settle { error: LeaseError::NotHeld | LeaseError::Passed, .. }) => {
                    // Some of it is not the holder's any more: one by one, so that the rest goes.
                    (false, dead.1)
                }
                Err(TransferError::Invalid) => (false, dead.1),
                // A queue was deleted meanwhile: routed again, it is not there.
                Err(TransferError::Append { error: AppendError::UnknownPartition, .. }) => (true, dead.1),
                Err(error) => {
                    tracing::warn!(queue = %queue.name, %error, "dead letters were not sent");
                    (true, dead.1)
                }
            };
            if !retry || attempt >= ATTEMPTS {
                if offsets.len() > 1 {
                    for offset in offsets {
                        Box::pin(self.send(queue, holder, (dead.0, std::slice::from_ref(offset)), reason)).await;
                    }
                } else if attempt >= ATTEMPTS {
                    self.settle(&queue.group(), holder, dead.0, ranges(offsets, Settlement::Release)).await;
                }
                return;
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    async fn try_send(
        &self,
        queue: &Arc<Queue>,
        holder: &str,
        (partition, offsets): (PartitionId, &[u64]),
        reason: Reason,
    ) -> Result<Vec<Sent>, TransferError> {
        let mut post = Post::default();
        self.write_letters(&mut post, queue, partition, offsets, reason).await?;
        let (appends, sent) = post.finish();
        self.transfer(&queue.group(), holder, partition, ranges(offsets, Settlement::Reject), appends).await?;
        Ok(sent)
    }

    /// What becomes of messages that die together with other things: their letters are to be appended in the call that settles
    /// them, and then [`Lifecycle::letters_sent`].
    pub async fn letters(&self, dying: &[Dying]) -> Result<Letters, TransferError> {
        let mut post = Post::default();
        for Dying { queue, dead: (partition, offsets), reason } in dying {
            for offsets in offsets.chunks(LETTERS_MAX) {
                self.write_letters(&mut post, queue, *partition, offsets, *reason).await?;
            }
        }
        let (appends, sent) = post.finish();
        Ok(Letters { appends, sent })
    }

    /// The letters are kept where they were sent.
    pub fn letters_sent(&self, letters: &Letters) {
        letters.sent.iter().for_each(|sent| self.arrived(sent));
    }

    async fn write_letters(
        &self,
        post: &mut Post,
        queue: &Arc<Queue>,
        partition: PartitionId,
        offsets: &[u64],
        reason: Reason,
    ) -> Result<(), TransferError> {
        let stored = match read::at(&self.shared.core, queue.name(), partition, offsets).await {
            Ok(stored) => stored,
            // It was deleted, and they with it.
            Err(FetchError::UnknownPartition) => return Ok(()),
            Err(FetchError::Unavailable) => return Err(TransferError::Unavailable),
            Err(_) => return Err(TransferError::StorageFailed),
        };
        for stored in &stored {
            self.address(post, queue, &stored.message, reason).await.map_err(|_| TransferError::Unavailable)?;
        }
        Ok(())
    }

    /// Adds a dead message to what goes out. Nothing is added where nobody takes it.
    pub(super) async fn address(
        &self,
        post: &mut Post,
        queue: &Arc<Queue>,
        message: &MessageView,
        reason: Reason,
    ) -> Result<(), TopicError> {
        let config = queue.config();
        let Some(exchange) = &config.dead_letter_exchange else { return Ok(()) };
        let routing_key = config.dead_letter_routing_key.as_deref();
        let death = Death { queue: queue.name(), reason, exchange, routing_key, now_ms: now_ms() };
        let Some(letter) = letters::write(message, &death) else { return Ok(()) };
        let is_sent = self.deliver(post, queue.vhost(), &letter.message).await?;
        if !is_sent && config.dead_letter_strategy == DeadLetterStrategy::AtLeastOnce {
            self.park(post, queue.vhost(), &letter.message).await?;
        }
        Ok(())
    }

    /// Settles and appends in one commit.
    pub(super) async fn transfer(
        &self,
        group: &GroupName,
        holder: &str,
        partition: PartitionId,
        ranges: Vec<SettleRange>,
        appends: Vec<Append>,
    ) -> Result<(), TransferError> {
        let core = &self.shared.core;
        let request = TransferRequest {
            group: group.clone(),
            holder: holder.to_owned(),
            session: None,
            settles: vec![(partition, ranges.clone())],
            appends,
        };
        match core.transfer(request.clone()).await {
            Ok(_) => Ok(()),
            // A topic that another protocol made: first there, then gone here, so that nothing is lost.
            Err(TransferError::NotTogether) => {
                let appended = core.append(AppendRequest { appends: request.appends }).await;
                let failed = appended.into_iter().enumerate().find_map(|(at, answer)| Some((at, answer.err()?)));
                if let Some((at, error)) = failed {
                    return Err(TransferError::Append { at: at as u32, error });
                }
                self.settle(group, holder, partition, ranges).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn settle(
        &self,
        group: &GroupName,
        holder: &str,
        partition: PartitionId,
        ranges: Vec<SettleRange>,
    ) {
        let request = SettleRequest {
            group: group.clone(),
            holder: holder.to_owned(),
            partitions: vec![(partition, ranges)],
            durable: false,
        };
        for answer in self.shared.core.settle(request).await.into_iter().flatten() {
            match answer {
                Ok(()) | Err(LeaseError::NotHeld | LeaseError::Passed | LeaseError::UnknownPartition) => {}
                Err(error) => tracing::warn!(%error, "dead messages were not settled: they will be available again"),
            }
        }
    }
}

/// Rising offsets as ranges, all settled alike.
pub(super) fn ranges(offsets: &[u64], settlement: Settlement) -> Vec<SettleRange> {
    let mut ranges: Vec<SettleRange> = Vec::new();
    for offset in offsets {
        match ranges.last_mut() {
            Some(range) if range.last + 1 == *offset => range.last = *offset,
            _ => ranges.push(SettleRange::new(*offset, *offset, settlement)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_range() {
        let shown: Vec<(u64, u64)> =
            ranges(&[1, 2, 3, 7, 9, 10], Settlement::Reject).iter().map(|range| (range.first, range.last)).collect();
        assert_eq!(shown, [(1, 3), (7, 7), (9, 10)]);
    }
}
