//! A queue's dispatcher: acquires what its consumers can take, and deals it. One task, while there are consumers here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use core_rpc::{
    AcquireAnswer, AcquireMode, AcquireRequest, Core, Isolation, Lease, LeaseError, OffsetAt, PartitionId, SeekTo,
    SessionId,
};
use tokio::time::timeout;

use super::claim::Claim;
use super::consumer::Consumer;
use super::live::LiveQueue;
use super::outbox::Unasked;
use super::parcel::{DELIVERY_BYTES, Parcel, Parceled};
use super::stock::{Next, Step, Stock};
use crate::state::channel::DeadReason;
use crate::state::lifecycle::expiry;
use crate::{Gateway, now_ms};

/// The most messages of one round: their batches stay in memory until they are dealt.
const ROUND_MESSAGES_MAX: u32 = 4096;
/// The most bytes of one round. A single batch may be larger.
const ROUND_BYTES_MAX: u32 = 1 << 20;
/// How long one acquire stands; it is renewed at once.
const ACQUIRE_WAIT: Duration = Duration::from_secs(60);
/// How long messages that nobody can take are kept, before others may have them.
const HELD_MAX: Duration = Duration::from_secs(1);
/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What came of asking the core.
enum Acquisition {
    Some,
    Nothing,
    /// The queue's topic is gone.
    Deleted,
    Failed(LeaseError),
}

/// What is to be done with messages that nobody may have any more.
#[derive(Default)]
struct Aside {
    expired: Vec<(u32, u64)>,
    failed: Vec<(u32, u64)>,
}

struct Dispatcher<C> {
    gateway: Arc<Gateway<C>>,
    live: Arc<LiveQueue>,
    session: SessionId,
    stock: Stock,
}

/// Runs until nobody consumes here any more.
pub(super) async fn run<C: Core>(gateway: Arc<Gateway<C>>, live: Arc<LiveQueue>, session: SessionId) {
    let mut claim = Claim::new(gateway.core.clone(), gateway.membership.own().node_id, &live, session);
    loop {
        let mut dispatcher =
            Dispatcher { gateway: gateway.clone(), live: live.clone(), session, stock: Stock::default() };
        tokio::select! {
            biased;
            () = gateway.stop.cancelled() => {}
            () = dispatcher.deliver(&mut claim) => {}
        }
        dispatcher.give_back();
        claim.give_up().await;
        let mut dealing = live.dealing.lock();
        if dealing.dealer.is_empty() || gateway.stop.is_cancelled() {
            dealing.dispatched = false;
            return;
        }
        // Somebody came while the claim was given up.
    }
}

impl<C: Core> Dispatcher<C> {
    /// Returns when nobody consumes here any more.
    async fn deliver(&mut self, claim: &mut Claim<C>) {
        loop {
            if self.live.is_over() || self.live.dealing.lock().dealer.is_empty() {
                return;
            }
            // Of queues with a single active consumer only one gateway delivers.
            if !claim.is_held() {
                tokio::select! {
                    () = claim.hold(&self.live) => {}
                    () = self.live.changed.notified() => {}
                }
                continue;
            }
            if !self.stock.is_empty() {
                let dealt = self.deal().await;
                // Asking is what has the dispatcher woken when there is a place; one may have come meanwhile.
                let nobody = !dealt && self.live.dealing.lock().demand() == 0;
                if nobody && timeout(HELD_MAX, self.live.waker().notified()).await.is_err() {
                    self.give_back();
                }
                continue;
            }
            let demand = self.live.dealing.lock().demand();
            if demand == 0 {
                tokio::select! {
                    () = self.live.waker().notified() => {}
                    () = self.live.changed.notified() => {}
                }
                continue;
            }
            let live = self.live.clone();
            let acquired = tokio::select! {
                biased;
                // Whoever left may have been the one for whom it is.
                () = live.changed.notified() => continue,
                acquired = self.acquire(demand) => acquired,
            };
            match acquired {
                Acquisition::Some | Acquisition::Nothing => {}
                Acquisition::Deleted => return self.gateway.queues.deleted(self.live.topic),
                Acquisition::Failed(error) => {
                    tracing::debug!(queue = %self.live.queue.name, %error, "cannot acquire messages");
                    self.gateway.queues.doubt(self.session, error);
                    // Over, or to be tried again.
                    let _ = timeout(RETRY_AFTER, self.live.changed.notified()).await;
                }
            }
        }
    }

    /// Of several partitions the highest priority first; only when there is nothing it waits for all of them.
    async fn acquire(&mut self, demand: u32) -> Acquisition {
        let partitions = self.live.partitions.clone();
        if partitions.len() == 1 {
            let answer = self.ask(partitions, demand, ACQUIRE_WAIT).await;
            return self.take(0, answer);
        }
        for (at, partition) in partitions.iter().enumerate().rev() {
            let answer = self.ask(vec![*partition], demand, Duration::ZERO).await;
            match self.take(at as u32, answer) {
                Acquisition::Nothing => {}
                acquired => return acquired,
            }
        }
        // One only: it is dealt, and then it is looked for the highest again.
        let answer = self.ask(partitions, 1, ACQUIRE_WAIT).await;
        self.take(0, answer)
    }

    async fn ask(&self, partitions: Vec<PartitionId>, demand: u32, wait: Duration) -> AcquireAnswer {
        let request = AcquireRequest {
            group: self.live.group().clone(),
            partitions,
            holder: self.live.holder().to_string(),
            lease: Lease::Session(self.session),
            mode: AcquireMode::Strict,
            credit_messages: demand.min(ROUND_MESSAGES_MAX),
            credit_bytes: ROUND_BYTES_MAX,
            bytes_min: 1,
            window_messages: u64::MAX,
            acquisitions_max: None,
            start: SeekTo::At(OffsetAt::Earliest),
            isolation: Isolation::Committed,
            wait,
        };
        self.gateway.core.acquire(request).await
    }

    /// `first` is the number of the first partition that was asked.
    fn take(&mut self, first: u32, answer: AcquireAnswer) -> Acquisition {
        let mut acquisition = Acquisition::Nothing;
        for (partition, answer) in (first..).zip(answer) {
            match answer {
                Ok(acquired) if acquired.ranges.is_empty() => {}
                Ok(acquired) => {
                    self.stock.add(&self.live.queue.name, partition, acquired);
                    acquisition = Acquisition::Some;
                }
                Err(LeaseError::UnknownPartition) => return Acquisition::Deleted,
                Err(error) if self.stock.is_empty() => acquisition = Acquisition::Failed(error),
                Err(_) => {}
            }
        }
        acquisition
    }

    /// Deals what is in stock. False: nobody can take the next.
    async fn deal(&mut self) -> bool {
        let mut aside = Aside::default();
        let all = self.deal_to(&mut aside);
        if !aside.expired.is_empty() {
            let offsets = self.by_partition(aside.expired);
            let (queue, holder) = (self.live.queue.clone(), self.live.holder().clone());
            self.gateway.lifecycle.expired(&queue, &holder, offsets).await;
        }
        if !aside.failed.is_empty() {
            let offsets = self.by_partition(aside.failed);
            super::dead::dead_letter(&self.gateway, &self.live, DeadReason::DeliveryLimit, offsets).await;
        }
        all
    }

    fn deal_to(&mut self, aside: &mut Aside) -> bool {
        let config = self.live.queue.config();
        let now_ms = now_ms();
        let mut dealing = self.live.dealing.lock();
        while let Some(batch) = self.stock.front() {
            let mut parcels = Parcels::default();
            let mut stuck = false;
            while let Some(step) = batch.next() {
                let next = match step {
                    Step::Message(next) => next,
                    Step::Missing(range) => {
                        self.live.settle(batch.partition, vec![range]);
                        batch.pop(range.last);
                        continue;
                    }
                };
                let deadline_ms = expiry::deadline_ms(next.time_ms, next.expires_ms, config.message_ttl_ms);
                // What somebody gave back is not on its way any more.
                let is_over = match next.failures {
                    0 => expiry::is_over(deadline_ms, next.time_ms, now_ms),
                    _ => expiry::is_past(deadline_ms, now_ms),
                };
                if is_over {
                    aside.expired.push((batch.partition, next.offset));
                } else if config.delivery_limit.is_some_and(|limit| next.failures > limit) {
                    aside.failed.push((batch.partition, next.offset));
                } else {
                    let bytes = next.bytes + DELIVERY_BYTES;
                    let Some(consumer) = dealing.dealer.deal(|consumer| consumer.takes(bytes)) else {
                        stuck = true;
                        break;
                    };
                    parcels.add(consumer, &next, bytes);
                    if next.expires_ms != 0 {
                        self.live.note_mortal();
                    }
                }
                batch.pop(next.offset);
            }
            parcels.send(batch.partition, &batch.payload);
            if stuck {
                return false;
            }
        }
        true
    }

    fn by_partition(&self, offsets: Vec<(u32, u64)>) -> Vec<(PartitionId, Vec<u64>)> {
        let mut by_partition: Vec<(PartitionId, Vec<u64>)> = Vec::new();
        for (partition, offset) in offsets {
            let partition = self.live.partitions[partition as usize];
            match by_partition.last_mut() {
                Some((other, offsets)) if *other == partition => offsets.push(offset),
                _ => by_partition.push((partition, vec![offset])),
            }
        }
        by_partition
    }

    /// What nobody took is for others.
    fn give_back(&mut self) {
        for (partition, ranges) in self.stock.drain() {
            self.live.settle(partition, ranges);
        }
    }
}

/// What consumers get of one batch.
#[derive(Default)]
struct Parcels {
    parcels: Vec<(Arc<Consumer>, Vec<Parceled>, usize)>,
    by_number: HashMap<u64, usize>,
    last: usize,
}

impl Parcels {
    fn add(&mut self, consumer: &Arc<Consumer>, next: &Next, bytes: usize) {
        let is_last = self.parcels.get(self.last).is_some_and(|(last, ..)| last.number == consumer.number);
        if !is_last {
            self.last = *self.by_number.entry(consumer.number).or_insert_with(|| {
                self.parcels.push((consumer.clone(), Vec::new(), 0));
                self.parcels.len() - 1
            });
        }
        let (_, messages, total) = &mut self.parcels[self.last];
        messages.push(Parceled::from(next));
        *total += bytes;
    }

    fn send(self, partition: u32, payload: &bytes::Bytes) {
        for (consumer, messages, bytes) in self.parcels {
            let outbox = consumer.outbox.clone();
            let parcel = Parcel { consumer, partition, payload: payload.clone(), messages, bytes };
            // The connection is gone: its consumers are on their way out.
            if let Err(Unasked::Deliveries(parcel)) = outbox.push(Unasked::Deliveries(parcel)) {
                parcel.give_back();
            }
        }
    }
}
