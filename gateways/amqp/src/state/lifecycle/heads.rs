//! Expiry at the heads of queues, for messages that no consumer takes: one deadline for each queue, that of its oldest message.
//!
//! ```text
//!  publish with a deadline ─┐
//!  a queue is another now ──┤
//!  a message is given back ─┼─► the queue's deadline ─► when it is due: look at the head ─► over: take them, dead-letter or settle
//!  becoming its owner ──────┘                                 └─ not over: its deadline is the next
//! ```
//! Nothing polls. Dispatchers and basic.get look for themselves at what they are about to hand out. Each gateway watches the queues to
//! which it published, and those that rendezvous hashing gives it, which it looks at once when it becomes their owner; who is not
//! the owner waits a moment longer, so that two do not do the same.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use core_rpc::{Core, PartitionId, PeekRequest, Settlement, TopicId};
use gateway_runtime::Deadlines;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::post::Sent;
use super::{Lifecycle, Reason, dead_letter::ranges, expiry, owner, read, rooms};
use crate::now_ms;
use crate::state::topology::{Queue, QueueEvent};

/// How much longer those wait that do not own the queue, ms.
const OTHERS_WAIT_MS: i64 = 200;

/// How many queues are looked at side by side.
const AT_ONCE: usize = 16;

/// At most so many messages go in one step.
const STEP_MESSAGES: usize = 1000;

/// After a failure of the core, ms.
const RETRY_MS: i64 = 500;

/// The ranges of a map that are looked through for the oldest ready message.
const RANGES_MAX: u32 = 1024;

/// The deadlines of queues.
#[derive(Debug, Default)]
pub(super) struct Heads {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    deadlines: Deadlines<TopicId>,
    queues: HashMap<TopicId, Arc<Queue>>,
}

impl Heads {
    /// Something in the queue is over then, or earlier.
    fn expect(&self, queue: &Arc<Queue>, at_ms: i64) {
        let mut state = self.state.lock();
        let is_first = state.deadlines.set_earlier(queue.topic(), at_ms);
        state.queues.insert(queue.topic(), queue.clone());
        drop(state);
        if is_first {
            self.wake.notify_one();
        }
    }

    fn forget(&self, topic: TopicId) {
        let mut state = self.state.lock();
        state.deadlines.remove(&topic);
        state.queues.remove(&topic);
    }

    fn take_due(&self, now_ms: i64) -> Vec<Arc<Queue>> {
        let mut state = self.state.lock();
        let due = state.deadlines.take_due(now_ms);
        due.iter().filter_map(|topic| state.queues.remove(topic)).collect()
    }

    async fn next(&self) {
        loop {
            let next_ms = self.state.lock().deadlines.next_ms();
            match next_ms {
                None => self.wake.notified().await,
                Some(at_ms) => {
                    let left = Duration::from_millis(at_ms.saturating_sub(now_ms()).max(0) as u64);
                    tokio::select! {
                        () = tokio::time::sleep(left) => return,
                        () = self.wake.notified() => {}
                    }
                }
            }
        }
    }
}

/// What looking at a head said.
enum Head {
    /// Nothing is ready, or nothing has a deadline.
    Quiet,
    /// The oldest is over then.
    At(i64),
    /// So many of the oldest are over.
    Over(PartitionId, usize),
}

impl<C: Core> Lifecycle<C> {
    /// Messages were appended to a queue; the first of them to expire by itself does so at `expires_ms`. Called for every publish,
    /// cheap where nothing expires.
    pub fn published(&self, queue: &Arc<Queue>, expires_ms: Option<i64>) {
        let ttl_ms = queue.config().message_ttl_ms;
        if expires_ms.is_none() && ttl_ms.is_none() {
            return;
        }
        let now_ms = now_ms();
        let Some(deadline_ms) = expiry::deadline_ms(now_ms, expires_ms.unwrap_or(0), ttl_ms) else { return };
        self.shared.heads.expect(queue, self.look_ms(queue, expiry::look_ms(deadline_ms, now_ms)));
    }

    /// Messages were put into a queue by this gateway itself.
    pub(super) fn arrived(&self, sent: &Sent) {
        self.published(&sent.queue, sent.expires_ms);
        if rooms::limits(&sent.queue).is_some() {
            let (lifecycle, queue) = (self.clone(), sent.queue.clone());
            // A task of its own: what it drops may be sent on to where this came from.
            tokio::spawn(async move { lifecycle.make_room(&queue).await });
        }
    }

    /// When to look at a queue with this deadline.
    fn look_ms(&self, queue: &Queue, deadline_ms: i64) -> i64 {
        if self.owns(queue) { deadline_ms } else { deadline_ms.saturating_add(OTHERS_WAIT_MS) }
    }

    /// Whether this gateway keeps house for the queue.
    pub(super) fn owns(&self, queue: &Queue) -> bool {
        let members = self.shared.membership.live();
        owner::of(&members, queue.topic().0) == Some(self.shared.membership.own().node_id)
    }

    /// Looks at all queues that are this gateway's to look after: at the start, and when gateways come or go.
    pub(super) fn look_at_all(&self) {
        let now_ms = now_ms();
        for queue in self.all_queues() {
            self.look_at_retention(&queue);
            if !queue.is_stream() && self.owns(&queue) {
                self.shared.heads.expect(&queue, now_ms);
            }
        }
    }

    pub(super) fn queue_changed(&self, event: &QueueEvent) {
        match event {
            QueueEvent::Put(queue) => {
                self.look_at_retention(queue);
                // With a time to live, perhaps another than before; what is there already is looked at.
                if queue.config().message_ttl_ms.is_some() && self.owns(queue) {
                    self.shared.heads.expect(queue, now_ms());
                }
            }
            QueueEvent::Removed(queue) => {
                self.shared.heads.forget(queue.topic());
                self.shared.rooms.remove(&queue.topic());
                self.shared.crowded.forget(queue.topic());
            }
        }
    }

    /// Messages were given back to a queue that may have been over while they were out.
    pub(super) fn look_at_head(&self, queue: &Arc<Queue>) {
        if !queue.is_stream() {
            self.shared.heads.expect(queue, now_ms());
        }
    }

    /// Expires heads until the gateway stops.
    pub(super) async fn expire_heads(self) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                () = self.shared.heads.next() => {}
            }
            for queue in self.shared.heads.take_due(now_ms()) {
                let Ok(place) = places.clone().acquire_owned().await else { return };
                let lifecycle = self.clone();
                tokio::spawn(async move {
                    if let Some(at_ms) = lifecycle.expire_head(&queue).await {
                        lifecycle.shared.heads.expect(&queue, lifecycle.look_ms(&queue, at_ms));
                    }
                    drop(place);
                });
            }
        }
    }

    /// Takes from a queue's head what is over. Returns when to look again.
    async fn expire_head(&self, queue: &Arc<Queue>) -> Option<i64> {
        let mut next_ms: Option<i64> = None;
        // The head of a queue with priorities is that of each of its partitions.
        for partition in queue.partitions() {
            loop {
                match self.look(queue, partition).await {
                    Ok(Head::Quiet) => break,
                    Ok(Head::At(at_ms)) => {
                        next_ms = next_ms.into_iter().chain([at_ms]).min();
                        break;
                    }
                    Ok(Head::Over(partition, messages)) => {
                        if !self.expire(queue, partition, messages).await {
                            // Somebody else took them.
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::debug!(queue = %queue.name(), %error, "a queue's head cannot be looked at");
                        return Some(now_ms() + RETRY_MS);
                    }
                }
            }
        }
        next_ms
    }

    async fn look(&self, queue: &Queue, partition: PartitionId) -> anyhow::Result<Head> {
        let core = &self.shared.core;
        let request = PeekRequest { group: queue.group(), partitions: Some(vec![partition]), ranges_max: RANGES_MAX };
        let view = match core.peek(request).await {
            Ok(views) => views.into_iter().next().and_then(|(_, view)| view),
            // It was deleted.
            Err(core_rpc::LeaseError::UnknownPartition) => return Ok(Head::Quiet),
            Err(error) => return Err(error.into()),
        };
        let ready = match view {
            Some(view) => rooms::ready_of(&view),
            None => vec![(0, u64::MAX)],
        };
        let Some((first, _)) = ready.first().copied() else { return Ok(Head::Quiet) };
        let batches = match read::from(core, partition, first).await {
            Ok(batches) => batches,
            Err(core_rpc::FetchError::UnknownPartition) => return Ok(Head::Quiet),
            Err(error) => return Err(error.into()),
        };
        let (now_ms, ttl_ms) = (now_ms(), queue.config().message_ttl_ms);
        let mut over = 0;
        for stored in batches.iter().flat_map(|batch| read::messages(batch, queue.name())) {
            if !ready.iter().any(|(first, end)| (*first..*end).contains(&stored.offset)) {
                continue;
            }
            let message = &stored.message;
            let deadline_ms = expiry::deadline_ms(message.time_ms, message.expires_ms.unwrap_or(0), ttl_ms);
            if expiry::is_over(deadline_ms, message.time_ms, now_ms) && over < STEP_MESSAGES {
                over += 1;
            } else if over > 0 {
                break;
            } else {
                let at_ms = deadline_ms.map(|at_ms| expiry::look_ms(at_ms, message.time_ms));
                return Ok(at_ms.map_or(Head::Quiet, Head::At));
            }
        }
        Ok(if over > 0 { Head::Over(partition, over) } else { Head::Quiet })
    }

    /// Takes so many of the oldest, and lets those go that are over. False: there was nothing.
    async fn expire(&self, queue: &Arc<Queue>, partition: PartitionId, messages: usize) -> bool {
        let holder = self.holder();
        let offsets = self.take(queue, partition, &holder, messages as u32).await;
        if offsets.is_empty() {
            return false;
        }
        let stored = read::at(&self.shared.core, queue.name(), partition, &offsets).await.unwrap_or_default();
        let (now_ms, ttl_ms) = (now_ms(), queue.config().message_ttl_ms);
        let is_over = |stored: &&read::Stored| {
            let message = &stored.message;
            let deadline_ms = expiry::deadline_ms(message.time_ms, message.expires_ms.unwrap_or(0), ttl_ms);
            expiry::is_over(deadline_ms, message.time_ms, now_ms)
        };
        let over: Vec<u64> = stored.iter().filter(is_over).map(|stored| stored.offset).collect();
        // A consumer took one of those that were over, and another came instead.
        let others: Vec<u64> = offsets.into_iter().filter(|offset| over.binary_search(offset).is_err()).collect();
        if !others.is_empty() {
            self.settle(&queue.group(), &holder, partition, ranges(&others, Settlement::Release)).await;
        }
        let any = !over.is_empty();
        if any {
            self.dead_letter(queue, &holder, vec![(partition, over)], Reason::Expired).await;
        }
        any
    }
}
