//! Publishes what is due. One gateway does, the one with the lowest number that lives, so that what is due at the same time keeps
//! its order; when it dies, what it had in hand is available again and the next one goes on.

use std::sync::Arc;
use std::time::Duration;

use codec_record::Producer;
use codec_record::mqtt_message::{MessageView, batch_of};
use codec_record::translate::mqtt_messages;
use core_rpc::{
    AcquireMode, AcquireRequest, Acquired, AnyCore, Append, AppendRequest, Core, GroupName, Isolation, Lease,
    LeaseError, OffsetAt, PartitionId, ReleaseRequest, SeekTo, SessionId, SettleRange, SettleRequest, Settlement,
    TransferError, TransferRequest,
};
use gateway_runtime::hash::fnv1a;
use gateway_runtime::{CoreSession, Membership};
use tokio_util::sync::CancellationToken;

use crate::now_ms;
use crate::state::publishing::{PublishError, Publishing, Round};
use crate::state::topics::{DELAYED_GROUP, Own, Topics, partitions_of};

/// How many messages are moved in one commit, and how many bytes are taken at a time.
const MOVE_MESSAGES: u32 = 256;
const MOVE_BYTES: u32 = 4 << 20;

/// How long one acquire stands; it is renewed at once.
const ACQUIRE_WAIT: Duration = Duration::from_secs(30);

/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Moves what is due.
pub struct Mover {
    pub core: AnyCore,
    pub topics: Arc<Topics>,
    pub publishing: Publishing,
    pub membership: Membership,
    /// Under which it holds what it has in hand.
    pub lease_session: CoreSession,
    pub stop: CancellationToken,
}

/// A message whose time has come.
struct Due {
    partition: PartitionId,
    offset: u64,
    /// None: nothing that anybody would get. It is only settled.
    message: Option<MessageView>,
}

/// Why nothing was moved; what was in hand is given back, and tried again.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Mover {
    /// Until the gateway stops.
    pub async fn run(self) {
        let mut members = self.membership.changes();
        let own = self.membership.own().node_id;
        loop {
            let is_mine = members.borrow_and_update().first().is_some_and(|first| first.node_id == own);
            let session = self.lease_session.id();
            let holder = format!("mqtt-delayed-{}", session.0);
            let waiting = async {
                match is_mine {
                    true => self.acquire(&holder, session).await,
                    false => std::future::pending().await,
                }
            };
            let acquired = tokio::select! {
                () = self.stop.cancelled() => return,
                changed = members.changed() => match changed {
                    // What the acquire that was given up had taken, perhaps.
                    Ok(()) => { self.release(&holder).await; continue }
                    Err(_) => return,
                },
                acquired = waiting => acquired,
            };
            let moved = match acquired {
                Ok(acquired) => self.publish(&holder, acquired).await,
                Err(error) => Err(Failed::Lease(error)),
            };
            let Err(failed) = moved else { continue };
            tracing::warn!(error = %failed, "delayed messages that are due cannot be published now");
            self.release(&holder).await;
            match failed {
                Failed::Lease(error) => self.lease_session.doubt(session, error),
                // What was in hand is nobody's or moved: a new session holds nothing of it.
                Failed::Publish(PublishError::Unavailable) => {
                    self.lease_session.doubt(session, LeaseError::Unavailable);
                }
                Failed::Publish(_) => {}
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    fn group(&self) -> GroupName {
        GroupName { namespace: self.topics.namespace().to_owned(), group: DELAYED_GROUP.to_owned() }
    }

    fn partitions(&self) -> Vec<PartitionId> {
        partitions_of(self.topics.own(Own::Delayed)).collect()
    }

    async fn acquire(&self, holder: &str, session: SessionId) -> Result<Vec<(PartitionId, Acquired)>, LeaseError> {
        let partitions = self.partitions();
        let request = AcquireRequest {
            group: self.group(),
            partitions: partitions.clone(),
            holder: holder.to_owned(),
            lease: Lease::Session(session),
            mode: AcquireMode::Strict,
            credit_messages: MOVE_MESSAGES,
            credit_bytes: MOVE_BYTES,
            bytes_min: 1,
            window_messages: u64::MAX,
            acquisitions_max: None,
            start: SeekTo::At(OffsetAt::Earliest),
            isolation: Isolation::All,
            wait: ACQUIRE_WAIT,
        };
        let answers = self.core.acquire(request).await;
        partitions.into_iter().zip(answers).map(|(partition, answer)| Ok((partition, answer?))).collect()
    }

    /// Gives back what is held.
    async fn release(&self, holder: &str) {
        let partitions = Some(self.partitions());
        let request = ReleaseRequest { group: self.group(), holder: holder.to_owned(), partitions };
        if let Err(error) = self.core.release(request).await {
            tracing::debug!(%error, "what is due was not given back; it is when the session ends");
        }
    }

    async fn publish(&self, holder: &str, acquired: Vec<(PartitionId, Acquired)>) -> Result<(), Failed> {
        let now_ms = now_ms();
        let due: Vec<Due> =
            acquired.iter().flat_map(|(partition, acquired)| due(*partition, acquired, now_ms)).collect();
        if due.is_empty() {
            return Ok(());
        }
        match self.transfer(holder, &due).await {
            // What cannot be kept must not hold up what can.
            Err(Failed::Publish(PublishError::TooLarge | PublishError::TopicInvalid)) => {
                for one in due {
                    self.publish_one(holder, one).await?;
                }
                Ok(())
            }
            moved => moved,
        }
    }

    async fn publish_one(&self, holder: &str, mut due: Due) -> Result<(), Failed> {
        match self.transfer(holder, std::slice::from_ref(&due)).await {
            Err(Failed::Publish(error @ (PublishError::TooLarge | PublishError::TopicInvalid))) => {
                tracing::warn!(%error, "a delayed message is dropped: its topic does not take it");
                due.message = None;
                self.transfer(holder, &[due]).await
            }
            moved => moved,
        }
    }

    /// Settles and publishes all of it, in one commit where the topics lie together.
    async fn transfer(&self, holder: &str, due: &[Due]) -> Result<(), Failed> {
        let mut round = Round::default();
        for (message, partition) in self.targets(due).await? {
            round.add(partition, &message.parts());
            if let Some(retained) = self.retained(message) {
                round.add(retained, &message.parts());
            }
        }
        let appends = round.into_appends();
        let settles = settles(due);
        let request =
            TransferRequest { group: self.group(), holder: holder.to_owned(), session: None, settles, appends };
        match self.core.transfer(request).await {
            Ok(_) => Ok(()),
            Err(TransferError::NotTogether) => self.append_then_settle(holder, due).await,
            Err(TransferError::Settle { error, .. }) => Err(error.into()),
            Err(TransferError::Append { error, .. }) => Err(PublishError::from(error).into()),
            // More than fits at once; what is moved alone fits, or nothing can be done with it.
            Err(TransferError::Invalid) => Err(PublishError::TooLarge.into()),
            Err(TransferError::DiskFull) => Err(PublishError::DiskFull.into()),
            Err(TransferError::StorageFailed) => Err(PublishError::StorageFailed.into()),
            Err(TransferError::Unavailable | TransferError::UnknownSession) => Err(PublishError::Unavailable.into()),
        }
    }

    /// For topics that others made, which lie elsewhere: nothing is settled that was not kept. A crash between the two repeats
    /// what has QoS 1; what has QoS 2 comes with a producer of its own, by which the core knows it again.
    async fn append_then_settle(&self, holder: &str, due: &[Due]) -> Result<(), Failed> {
        self.append(due).await?;
        let request =
            SettleRequest { group: self.group(), holder: holder.to_owned(), partitions: settles(due), durable: true };
        match self.core.settle(request).await.into_iter().flatten().find_map(Result::err) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    async fn append(&self, due: &[Due]) -> Result<(), Failed> {
        let mut appends = Vec::new();
        let targets = self.targets(due).await?;
        for (place, (message, partition)) in due.iter().filter(|due| due.message.is_some()).zip(targets) {
            let mut batch = batch_of(&message.parts(), -1);
            if message.qos == 2 {
                batch.header.producer = Some(producer(place.partition, place.offset));
            }
            appends.push(Append { partition, batch });
            if let Some(partition) = self.retained(message) {
                appends.push(Append { partition, batch: batch_of(&message.parts(), -1) });
            }
        }
        match self.core.append(AppendRequest { appends }).await.into_iter().find_map(Result::err) {
            Some(error) => Err(PublishError::from(error).into()),
            None => Ok(()),
        }
    }

    /// What a crash leaves behind that comes between the two.
    #[cfg(test)]
    pub(super) async fn append_without_settling(&self) -> anyhow::Result<()> {
        let acquired = self.acquire("crashes", self.lease_session.id()).await?;
        let due: Vec<Due> = acquired.iter().flat_map(|(partition, acquired)| due(*partition, acquired, 0)).collect();
        self.append(&due).await?;
        self.release("crashes").await;
        Ok(())
    }

    /// The messages that are to be published, and where to. Topics that are not there are made.
    async fn targets<'a>(&self, due: &'a [Due]) -> Result<Vec<(&'a MessageView, PartitionId)>, PublishError> {
        let mut targets = Vec::new();
        for message in due.iter().filter_map(|due| due.message.as_ref()) {
            let name = message.topic_str().map_err(|_| PublishError::TopicInvalid)?;
            targets.push((message, self.topics.partition(name).await?));
        }
        Ok(targets)
    }

    fn retained(&self, message: &MessageView) -> Option<PartitionId> {
        let name = message.topic_str().ok().filter(|_| message.retain)?;
        Some(self.publishing.retained_partition(name))
    }
}

/// What was acquired of a partition.
fn due(partition: PartitionId, acquired: &Acquired, now_ms: i64) -> Vec<Due> {
    let offsets = acquired.ranges.iter().flat_map(|range| range.first..=range.last);
    let mut due: Vec<Due> = offsets.map(|offset| Due { partition, offset, message: None }).collect();
    for batch in &acquired.batches {
        // What is not of the gateways themselves is nothing that was published.
        for view in mqtt_messages(batch, "").into_iter().flatten().flatten() {
            let offset = batch.header.base_offset + u64::from(view.position);
            if let Ok(index) = due.binary_search_by_key(&offset, |due| due.offset) {
                due[index].message = alive(view, batch.header.append_time_ms, now_ms);
            }
        }
    }
    due
}

/// With what it has left to live. None: nothing [MQTT-3.3.2-5].
fn alive(mut message: MessageView, append_time_ms: i64, now_ms: i64) -> Option<MessageView> {
    if let Some(expiry_s) = message.expiry_s {
        let waited_s = now_ms.saturating_sub(append_time_ms).max(0) / 1000;
        let left_s = i64::from(expiry_s).saturating_sub(waited_s);
        message.expiry_s = Some(u32::try_from(left_s).ok().filter(|left_s| *left_s > 0)?);
    }
    Some(message)
}

/// Accepts all of it, in as few ranges as there are.
fn settles(due: &[Due]) -> Vec<(PartitionId, Vec<SettleRange>)> {
    let mut settles: Vec<(PartitionId, Vec<SettleRange>)> = Vec::new();
    for one in due {
        match settles.last_mut() {
            Some((partition, ranges)) if *partition == one.partition => match ranges.last_mut() {
                Some(range) if range.last + 1 == one.offset => range.last = one.offset,
                _ => ranges.push(SettleRange::new(one.offset, one.offset, Settlement::Accept)),
            },
            _ => {
                let range = SettleRange::new(one.offset, one.offset, Settlement::Accept);
                settles.push((one.partition, vec![range]));
            }
        }
    }
    settles
}

/// The producer of the one batch that comes from this place: below all that have an id of their own.
fn producer(partition: PartitionId, offset: u64) -> Producer {
    let place = format!("{}/{}/{offset}", partition.topic.0, partition.index);
    let id = -2 - (fnv1a(place.bytes()) >> 2) as i64;
    Producer { id, epoch: 0, sequence: 0 }
}

#[cfg(test)]
mod tests {
    use core_rpc::TopicId;

    use super::*;

    #[test]
    fn ranges_are_as_few_as_there_are() {
        let partition = |index| PartitionId { topic: TopicId(1), index };
        let due = [(0, 3), (0, 4), (0, 6), (1, 7)].map(|(index, offset)| Due {
            partition: partition(index),
            offset,
            message: None,
        });
        let range = |first, last| SettleRange::new(first, last, Settlement::Accept);
        assert_eq!(settles(&due), [(partition(0), vec![range(3, 4), range(6, 6)]), (partition(1), vec![range(7, 7)])]);
    }

    #[test]
    fn producers_are_nobody_elses() {
        let partition = PartitionId { topic: TopicId(u32::MAX.into()), index: 0 };
        for offset in [0, 1, u64::MAX] {
            let one = producer(partition, offset);
            assert!(one.id < -1 && one == producer(partition, offset));
            assert_ne!(one, producer(PartitionId { index: 1, ..partition }, offset));
        }
    }
}
