//! tx.commit (90, 20): what was published and acknowledged since the last commit happens, all of it or nothing.
//!
//! All queues of a vhost lie together in the core, and so it is one commit there (`Core::transfer`): messages come into their queues
//! and into those of delayed exchanges, acknowledged ones go, rejected ones go to where dead letters go. What cannot be part
//! of one is refused, and nothing of the transaction happens: topics of other protocols that were made without that, and messages
//! that a full queue refuses. More than RabbitMQ gives, which promises no more than one queue at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use codec_amqp::tx;
use core_rpc::{
    Append, AppendError, Core, GroupName, LeaseError, PartitionId, SettleRange, Settlement, TransferError,
    TransferRequest,
};

use super::Request;
use crate::errors::Refusal;
use crate::now_ms;
use crate::session::{hold, take_turns};
use crate::state::channel::{Delivered, Outcome, Transaction};
use crate::state::lifecycle::{Dying, Reason};
use crate::state::queues::{Held, LiveQueue};
use crate::state::topology::QUEUE_GROUP;
use crate::translate::round::Slot;

/// How often to route dead letters again to whose queues are deleted meanwhile, and after what time.
const ATTEMPTS: u32 = 20;
const RETRY_AFTER: Duration = Duration::from_millis(100);

pub async fn handle<C: Core>(request: &mut Request<'_, C>, _: tx::Commit) -> Result<(), Refusal> {
    let Some(transaction) = &mut request.channel.transaction else {
        return Err(Refusal::precondition_failed("channel is not transactional"));
    };
    let Transaction { mut round, settles, returns } = std::mem::take(transaction);
    let mut slots = round.take().slots;
    let settling = Settling::of(request, &settles);
    if (!slots.is_empty() || !settling.ranges.is_empty())
        && let Err(refusal) = commit(request, &mut slots, settling).await
    {
        // That is the end of the channel, with which they are rolled back.
        request.channel.transaction.get_or_insert_default().settles = settles;
        return Err(refusal);
    }
    for (taken, outcome) in &settles {
        if *outcome == Outcome::Requeue {
            // They may have been over while they were out.
            let places = taken.iter().filter_map(|entry| request.channel.consuming.place(entry));
            places.for_each(|(live, _)| request.gateway.lifecycle.returned(&live.queue));
        }
        request.channel.consuming.forget(taken);
    }
    if !settles.is_empty() {
        request.settles.touch(request.channel.number);
    }
    // Those that found no queue come before the answer.
    request.replies.append(returns);
    request.reply(tx::CommitOk {});
    Ok(())
}

/// What becomes of the messages that were settled.
#[derive(Default)]
struct Settling {
    ranges: Vec<(PartitionId, Vec<SettleRange>)>,
    /// Those of them that go to a dead letter exchange.
    dying: Vec<Dying>,
}

impl Settling {
    fn of<C: Core>(request: &Request<'_, C>, settles: &[(Vec<Delivered>, Outcome)]) -> Settling {
        let mut offsets: BTreeMap<PartitionId, BTreeMap<u64, Settlement>> = BTreeMap::new();
        let mut settling = Settling::default();
        for (taken, outcome) in settles {
            for entry in taken {
                let Some((live, partition)) = request.channel.consuming.place(entry) else { continue };
                // What is read of a stream stays there: an acknowledgement only makes room.
                if live.queue.is_stream() {
                    continue;
                }
                let limit = live.queue.config().delivery_limit;
                let settlement = match outcome {
                    Outcome::Ack => Settlement::Accept,
                    Outcome::Requeue if limit.is_none_or(|limit| entry.failures < limit) => Settlement::Fail,
                    Outcome::Requeue => settling.die(live, partition, entry.offset, Reason::DeliveryLimit),
                    Outcome::Reject => settling.die(live, partition, entry.offset, Reason::Rejected),
                };
                offsets.entry(partition).or_default().insert(entry.offset, settlement);
            }
        }
        settling.dying.iter_mut().for_each(|dying| dying.dead.1.sort_unstable());
        settling.ranges = offsets.into_iter().map(|(partition, offsets)| (partition, joined(offsets))).collect();
        settling
    }

    fn die(&mut self, live: &LiveQueue, partition: PartitionId, offset: u64, reason: Reason) -> Settlement {
        if live.queue.config().dead_letter_exchange.is_some() {
            let is_alike = |dying: &&mut Dying| dying.dead.0 == partition && dying.reason == reason;
            match self.dying.iter_mut().find(is_alike) {
                Some(dying) => dying.dead.1.push(offset),
                None => {
                    self.dying.push(Dying { queue: live.queue.clone(), dead: (partition, vec![offset]), reason });
                }
            }
        }
        Settlement::Reject
    }
}

fn joined(offsets: BTreeMap<u64, Settlement>) -> Vec<SettleRange> {
    let mut ranges: Vec<SettleRange> = Vec::new();
    for (offset, settlement) in offsets {
        match ranges.last_mut() {
            Some(range) if range.last + 1 == offset && range.settlement == settlement => range.last = offset,
            _ => ranges.push(SettleRange::new(offset, offset, settlement)),
        }
    }
    ranges
}

async fn commit<C: Core>(request: &mut Request<'_, C>, slots: &mut [Slot], settling: Settling) -> Result<(), Refusal> {
    let gateway = request.gateway;
    let turns = take_turns(gateway, slots).await;
    if !turns.admit_all() {
        turns.end(gateway).await;
        return Err(Refusal::precondition_failed("a queue of the transaction is full; nothing of it was done"));
    }
    let transferred = match appends(request, slots).await {
        Ok(appends) => transfer(request, appends, settling).await,
        Err(error) => Err(TransferError::Append { at: 0, error }),
    };
    if transferred.is_ok() {
        for slot in slots.iter() {
            slot.targets.iter().for_each(|target| gateway.lifecycle.published(&target.queue, slot.expires_ms));
        }
    }
    turns.end(gateway).await;
    transferred.map_err(|error| match error {
        TransferError::NotTogether => Refusal::not_implemented(
            "a topic of the transaction was made by another protocol and does not lie with the vhost's queues; \
             nothing of it was done",
        ),
        TransferError::Settle { error, .. } => {
            Refusal::precondition_failed(format!("an acknowledged message is not held any more ({error})"))
        }
        TransferError::Append { error, .. } => Refusal::from(error),
        TransferError::Invalid => Refusal::precondition_failed("the transaction is too large to be done at once"),
        TransferError::DiskFull => {
            gateway.alarms.disk_is_full(&request.connection.namespace);
            Refusal::internal_error("the disk is full; nothing of the transaction was done")
        }
        TransferError::StorageFailed | TransferError::Unavailable | TransferError::UnknownSession => {
            Refusal::internal_error(error.to_string())
        }
    })
}

/// What was published.
async fn appends<C: Core>(request: &Request<'_, C>, slots: &mut [Slot]) -> Result<Vec<Append>, AppendError> {
    let mut appends = Vec::with_capacity(slots.len());
    // Their time to live begins when they come into their queues, as in RabbitMQ.
    let now_ms = now_ms();
    for slot in slots.iter_mut() {
        if let Some(held) = slot.held.take() {
            appends.push(hold(request.gateway, &held).await?);
            continue;
        }
        slot.arrive_at(now_ms);
        let Some(batch) = slot.take_batch() else { continue };
        appends.extend(slot.targets.iter().map(|target| Append { partition: target.partition, batch: batch.clone() }));
    }
    Ok(appends)
}

async fn transfer<C: Core>(
    request: &Request<'_, C>,
    mut appends: Vec<Append>,
    mut settling: Settling,
) -> Result<(), TransferError> {
    let gateway = request.gateway;
    let group = GroupName { namespace: request.connection.namespace.to_string(), group: QUEUE_GROUP.into() };
    let Held { session, holder } = gateway.queues.held();
    let mut attempts = 0..ATTEMPTS;
    loop {
        let letters = gateway.lifecycle.letters(&settling.dying).await?;
        let once = TransferRequest {
            group: group.clone(),
            holder: holder.to_string(),
            session: None,
            settles: settling.ranges.clone(),
            appends: appends.iter().chain(&letters.appends).cloned().collect(),
        };
        if once.settles.is_empty() && once.appends.is_empty() {
            return Ok(());
        }
        match gateway.core.transfer(once).await {
            Ok(_) => {
                gateway.lifecycle.letters_sent(&letters);
                return Ok(());
            }
            // A queue that was deleted meanwhile took its messages with it.
            Err(TransferError::Append { at, error: AppendError::UnknownPartition }) if (at as usize) < appends.len() => {
                appends.remove(at as usize);
            }
            Err(TransferError::Settle { at, error: LeaseError::UnknownPartition })
                if (at as usize) < settling.ranges.len() =>
            {
                settling.ranges.remove(at as usize);
            }
            // To where dead letters went: that is looked up again.
            Err(TransferError::Append { error: AppendError::UnknownPartition, .. }) if attempts.next().is_some() => {
                tokio::time::sleep(RETRY_AFTER).await;
            }
            Err(error) => {
                if error == TransferError::Unavailable {
                    // Whether it still holds what it acknowledged, nobody knows.
                    gateway.queues.doubt(session, LeaseError::Unavailable);
                }
                return Err(error);
            }
        }
    }
}
