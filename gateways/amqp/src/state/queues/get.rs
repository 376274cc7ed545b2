//! One message at a time, and how many there are.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use core_rpc::{AcquireMode, AcquireRequest, Core, Isolation, Lease, OffsetAt, SeekTo, SettleRange, Settlement};

use super::Queues;
use super::live::LiveQueue;
use super::parcel::Parceled;
use super::stock::{Step, Stock};
use crate::errors::Refusal;
use crate::state::lifecycle::expiry;
use crate::state::topology::Queue;
use crate::{Gateway, now_ms};

/// A message that basic.get has taken.
#[derive(Debug)]
pub struct Got {
    pub live: Arc<LiveQueue>,
    pub partition: u32,
    pub message: Parceled,
    /// The stored messages among which it is.
    pub payload: Bytes,
}

impl Got {
    /// It could not be delivered after all.
    pub fn give_back(self) {
        self.live.settle(
            self.partition,
            vec![SettleRange::new(self.message.offset, self.message.offset, Settlement::Release)],
        );
    }
}

impl<C: Core> Queues<C> {
    /// Takes the first message of a queue, of the highest priority.
    pub async fn get(gateway: &Arc<Gateway<C>>, queue: &Arc<Queue>) -> Result<Option<Got>, Refusal> {
        gateway.queues.look_at_session();
        let live = gateway.queues.live(queue);
        let partitions = (0..live.partitions.len()).rev();
        for partition in partitions {
            while let Some(got) = take_one(gateway, &live, partition as u32).await? {
                match got {
                    Taken::Message(got) => return Ok(Some(got)),
                    Taken::Over => {}
                }
            }
        }
        Ok(None)
    }
}

enum Taken {
    Message(Got),
    /// One that nobody may have any more, or none.
    Over,
}

async fn take_one<C: Core>(
    gateway: &Arc<Gateway<C>>,
    live: &Arc<LiveQueue>,
    partition: u32,
) -> Result<Option<Taken>, Refusal> {
    let id = live.partitions[partition as usize];
    let session = live.session();
    let request = AcquireRequest {
        group: live.group().clone(),
        partitions: vec![id],
        holder: live.holder().to_string(),
        lease: Lease::Session(session),
        mode: AcquireMode::Strict,
        credit_messages: 1,
        credit_bytes: 1,
        bytes_min: 1,
        window_messages: u64::MAX,
        acquisitions_max: None,
        start: SeekTo::At(OffsetAt::Earliest),
        isolation: Isolation::Committed,
        wait: Duration::ZERO,
    };
    let acquired = match gateway.core.acquire(request).await.pop() {
        Some(Ok(acquired)) if !acquired.ranges.is_empty() => acquired,
        Some(Ok(_)) | None => return Ok(None),
        Some(Err(error)) => {
            gateway.queues.doubt(session, error);
            return Err(error.into());
        }
    };
    let mut stock = Stock::default();
    stock.add(&live.queue.name, partition, acquired);
    let Some(batch) = stock.front() else { return Ok(None) };
    match batch.next() {
        Some(Step::Message(next)) => {
            let ttl_ms = live.queue.config().message_ttl_ms;
            let deadline_ms = expiry::deadline_ms(next.time_ms, next.expires_ms, ttl_ms);
            if expiry::is_past(deadline_ms, now_ms()) {
                let offsets = vec![(id, vec![next.offset])];
                gateway.lifecycle.expired(&live.queue, live.holder(), offsets).await;
                return Ok(Some(Taken::Over));
            }
            if next.expires_ms != 0 {
                live.note_mortal();
            }
            let message = Parceled::from(&next);
            Ok(Some(Taken::Message(Got { live: live.clone(), partition, message, payload: batch.payload.clone() })))
        }
        Some(Step::Missing(range)) => {
            live.settle(partition, vec![range]);
            Ok(Some(Taken::Over))
        }
        None => Ok(None),
    }
}
