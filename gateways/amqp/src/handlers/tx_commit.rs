//! tx.commit (90, 20): what was published and acknowledged since the last commit happens, all of it or nothing.
//!
//! All queues of a vhost lie together in the core, and so it is one commit there (`Core::transfer`). What cannot be part of
//! one is refused, and nothing of the transaction happens: topics of other protocols that were made without that, messages
//! that a delayed exchange holds back, messages that a full queue refuses, and dead-lettering. More than RabbitMQ gives,
//! which promises no more than one queue at a time.

use std::collections::BTreeMap;

use codec_amqp::tx;
use core_rpc::{
    Append, Core, GroupName, LeaseError, PartitionId, SettleRange, Settlement, TransferError, TransferRequest,
};

use super::Request;
use crate::errors::Refusal;
use crate::now_ms;
use crate::session::take_turns;
use crate::state::channel::{Delivered, Outcome, Transaction};
use crate::state::queues::Held;
use crate::state::topology::QUEUE_GROUP;
use crate::translate::round::Slot;

pub async fn handle<C: Core>(request: &mut Request<'_, C>, _: tx::Commit) -> Result<(), Refusal> {
    let Some(transaction) = &mut request.channel.transaction else {
        return Err(Refusal::precondition_failed("channel is not transactional"));
    };
    let Transaction { mut round, settles, returns } = std::mem::take(transaction);
    let mut slots = round.take().slots;
    if slots.iter().any(|slot| slot.held.is_some()) {
        return Err(Refusal::not_implemented("a delayed message cannot be part of a transaction"));
    }
    let ranges = ranges(request, &settles)?;
    if !slots.is_empty() || !ranges.is_empty() {
        commit(request, &mut slots, ranges).await?;
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

type Ranges = Vec<(PartitionId, Vec<SettleRange>)>;

/// What is settled, by partition and offset.
fn ranges<C: Core>(request: &Request<'_, C>, settles: &[(Vec<Delivered>, Outcome)]) -> Result<Ranges, Refusal> {
    let mut offsets: BTreeMap<PartitionId, BTreeMap<u64, Settlement>> = BTreeMap::new();
    for (taken, outcome) in settles {
        for entry in taken {
            let Some((live, partition)) = request.channel.consuming.place(entry) else { continue };
            // What is read of a stream stays there: an acknowledgement only makes room.
            if live.queue.is_stream() {
                continue;
            }
            let settlement = match outcome {
                Outcome::Ack => Settlement::Accept,
                Outcome::Requeue => Settlement::Fail,
                Outcome::Reject if live.queue.config().dead_letter_exchange.is_some() => {
                    return Err(Refusal::not_implemented("dead-lettering cannot be part of a transaction"));
                }
                Outcome::Reject => Settlement::Reject,
            };
            offsets.entry(partition).or_default().insert(entry.offset, settlement);
        }
    }
    let joined = offsets.into_iter().map(|(partition, offsets)| {
        let mut ranges: Vec<SettleRange> = Vec::new();
        for (offset, settlement) in offsets {
            match ranges.last_mut() {
                Some(range) if range.last + 1 == offset && range.settlement == settlement => range.last = offset,
                _ => ranges.push(SettleRange {
                    first: offset,
                    last: offset,
                    settlement,
                    delay: std::time::Duration::ZERO,
                }),
            }
        }
        (partition, ranges)
    });
    Ok(joined.collect())
}

async fn commit<C: Core>(request: &mut Request<'_, C>, slots: &mut [Slot], settles: Ranges) -> Result<(), Refusal> {
    let (gateway, namespace) = (request.gateway, request.connection.namespace.clone());
    let turns = take_turns(gateway, slots).await;
    if !turns.admit_all() {
        turns.end(gateway).await;
        return Err(Refusal::precondition_failed("a queue of the transaction is full; nothing of it was done"));
    }
    let mut appends = Vec::with_capacity(slots.len());
    // Their time to live begins when they come into their queues, as in RabbitMQ.
    let now_ms = now_ms();
    for slot in slots.iter_mut() {
        slot.arrive_at(now_ms);
        let Some(batch) = slot.take_batch() else { continue };
        appends.extend(slot.targets.iter().map(|target| Append { partition: target.partition, batch: batch.clone() }));
    }
    let group = GroupName { namespace: request.connection.namespace.to_string(), group: QUEUE_GROUP.into() };
    let Held { session, holder } = gateway.queues.held();
    let request = TransferRequest { group, holder: holder.to_string(), settles, appends };
    let transferred = gateway.core.transfer(request).await;
    if transferred == Err(TransferError::Unavailable) {
        // Whether it still holds what it acknowledged, nobody knows.
        gateway.queues.doubt(session, LeaseError::Unavailable);
    }
    if transferred.is_ok() {
        for slot in slots.iter() {
            slot.targets.iter().for_each(|target| gateway.lifecycle.published(&target.queue, slot.expires_ms));
        }
    }
    turns.end(gateway).await;
    transferred.map(drop).map_err(|error| match error {
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
            gateway.alarms.disk_is_full(&namespace);
            Refusal::internal_error("the disk is full; nothing of the transaction was done")
        }
        TransferError::StorageFailed | TransferError::Unavailable => Refusal::internal_error(error.to_string()),
    })
}
