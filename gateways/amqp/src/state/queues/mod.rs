//! The queues that have consumers here: a dispatcher each, and the outboxes of the connections.
//!
//! ```text
//!  Core ── acquire ─► dispatcher (one task for a queue with consumers) ── deal ─► Outbox ─► connection task ─► client
//!   ▲                     ▲ wake: places, room                                               │ Consuming: tags, unacked
//!   └── settle ── Settler ◄──────────────────── marks: ack, requeue ─────────────────────────┘
//! ```
//! - All that this gateway has acquired it holds under one name, [`Queues::holder`], which is the core session's: so one
//!   acquire serves all consumers of a queue, each gets its turn message by message, and `tx.commit` settles in one call
//!   whatever a channel acknowledges. What a channel has, its [`crate::state::channel::Consuming`] knows; when it ends that is given back in
//!   place. When the gateway dies the session ends, and the core gives back all.
//! - When the session is lost although the gateway lives (the core was started anew or out of reach for too long, or a call about leases
//!   broke off), what was out is others' now: the connections that have consumers or unacknowledged messages are closed with 320, from
//!   which clients recover by connecting again.
//! - A queue without consumers here costs nothing but an entry, if it was ever used; a consumer costs no task.

mod asking;
mod claim;
mod consume;
mod consumer;
mod dead;
mod dealer;
mod dispatcher;
mod drain;
mod forced;
mod get;
mod leave;
mod live;
mod outbox;
mod parcel;
mod reply;
mod reply_inbox;
mod settler;
mod stock;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use core_rpc::{Core, LeaseError, MetaError, SessionId, TopicId};
use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::state::CoreSession;
use crate::state::lifecycle::{Consumers, Returns};
use crate::state::topology::{Queue, QueueEvent};
pub use asking::Question;
pub use consume::ConsumeRequest;
pub use consumer::{ChannelWindow, Consumer};
pub use dead::{DeadLetters, send_dead};
pub(crate) use drain::{counted, now_s, watch_timeouts};
pub(crate) use forced::follow_session;
pub use get::Got;
pub use leave::{channel_closed, connection_closed, consumer_leaves};
pub use live::LiveQueue;
pub use outbox::{OUTBOX_BYTES_MAX, Outbox, Unasked};
pub use parcel::{DELIVERY_BYTES, Parcel, Parceled};
pub use reply::{DirectReply, PSEUDO_QUEUE, Replies, ReplyConsumer};
pub use reply_inbox::ReplyInboxes;
pub use settler::Settler;

/// The live queues of this gateway. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Queues<C> {
    core: C,
    session: CoreSession,
    settler: Settler,
    /// By their topics.
    live: Arc<DashMap<TopicId, Arc<LiveQueue>>>,
    /// The session under which messages are acquired now.
    held: Arc<Mutex<Held>>,
    numbers: Arc<AtomicU64>,
    pub replies: Arc<Replies>,
    stop: CancellationToken,
}

/// Under which session messages are held, and by which name.
#[derive(Clone, Debug)]
pub struct Held {
    pub session: SessionId,
    pub holder: Arc<str>,
}

impl Held {
    fn of(session: SessionId) -> Held {
        Held { session, holder: format!("amqp-{}", session.0).into() }
    }
}

impl<C: Core> Queues<C> {
    /// `returns` is told of queues whose messages, given back, may be over.
    pub fn start(core: C, session: CoreSession, node_id: i32, returns: Returns, stop: CancellationToken) -> Queues<C> {
        Queues {
            settler: Settler::start(core.clone(), session.clone(), returns, stop.clone()),
            held: Arc::new(Mutex::new(Held::of(session.id()))),
            live: Arc::default(),
            numbers: Arc::new(AtomicU64::new(1)),
            replies: Arc::new(Replies::new(node_id)),
            core,
            session,
            stop,
        }
    }

    pub fn core(&self) -> &C {
        &self.core
    }

    /// The name under which this gateway holds messages now.
    pub fn holder(&self) -> Arc<str> {
        self.held().holder
    }

    pub fn settler(&self) -> &Settler {
        &self.settler
    }

    /// A number for a channel's life, or a consumer.
    pub fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A queue as it is served here.
    pub fn live(&self, queue: &Arc<Queue>) -> Arc<LiveQueue> {
        let held = self.held();
        let fresh = || Arc::new(LiveQueue::new(queue.clone(), held.clone(), self.settler.clone()));
        let mut live = self.live.entry(queue.topic).or_insert_with(fresh);
        if live.is_over() || live.session() != held.session {
            *live = fresh();
        }
        live.clone()
    }

    /// A stream as one of its consumers has it, who is woken alone.
    fn private(&self, queue: &Arc<Queue>) -> Arc<LiveQueue> {
        Arc::new(LiveQueue::new(queue.clone(), self.held(), self.settler.clone()))
    }

    /// How many consumers a queue has at this gateway.
    pub fn consumers(&self, topic: TopicId) -> usize {
        self.live.get(&topic).map_or(0, |live| live.consumers())
    }

    /// Whether a queue has consumers at another gateway than this one, whose number is `own`.
    pub async fn is_consumed_elsewhere(&self, queue: &Queue, own: i32) -> Result<bool, MetaError> {
        Ok(!claim::others(&self.core, queue, own).await?.is_empty())
    }

    /// All consumers of a queue at this gateway.
    pub fn consumers_of(&self, topic: TopicId) -> Vec<Arc<Consumer>> {
        self.live.get(&topic).map_or_else(Vec::new, |live| live.dealing.lock().dealer.iter().cloned().collect())
    }

    /// Whether a consumer is one of those that get messages.
    pub fn is_active(&self, consumer: &Consumer) -> bool {
        let live = self.live.get(&consumer.queue.topic);
        live.is_some_and(|live| live.dealing.lock().dealer.is_entitled(consumer.number))
    }

    /// All consumers at this gateway.
    pub fn all_consumers(&self) -> Vec<Arc<Consumer>> {
        let of = |live: &LiveQueue| live.dealing.lock().dealer.iter().cloned().collect::<Vec<_>>();
        self.live.iter().flat_map(|live| of(live.value())).collect()
    }

    /// A queue was deleted, here or elsewhere: its consumers are told, what is out of it is forgotten.
    pub fn deleted(&self, topic: TopicId) {
        let Some((_, live)) = self.live.remove(&topic) else { return };
        live.set_over();
        let consumers = live.dealing.lock().dealer.clear();
        for consumer in consumers {
            consumer.queue.set_over();
            let cancelled = Unasked::Cancelled {
                channel: consumer.channel,
                channel_life: consumer.channel_life,
                consumer_tag: consumer.tag.clone(),
            };
            // A connection that is gone needs not be told.
            let _ = consumer.outbox.push(cancelled);
        }
    }

    /// Under what this gateway holds messages now.
    pub fn held(&self) -> Held {
        self.held.lock().clone()
    }

    /// What the core answered about leases of a session. If it means that nobody knows what is held, all is given up.
    pub fn doubt(&self, session: SessionId, error: LeaseError) {
        self.session.doubt(session, error);
        self.look_at_session();
    }

    /// Ends all that is held under a former session. Called whenever the session may be another.
    pub(crate) fn look_at_session(&self) {
        let session = self.session.id();
        {
            let mut held = self.held.lock();
            if held.session == session {
                return;
            }
            *held = Held::of(session);
        }
        let former: Vec<Arc<LiveQueue>> =
            self.live.iter().filter(|live| live.session() != session).map(|live| live.value().clone()).collect();
        for live in former {
            self.live.remove_if(&live.topic, |_, other| Arc::ptr_eq(other, &live));
            live.set_over();
            let consumers = live.dealing.lock().dealer.clear();
            for consumer in consumers {
                consumer.queue.set_over();
                let _ = consumer.outbox.push(forced::refused(consumer.channel));
            }
        }
    }

    /// Follows what happens to queues, until the gateway stops.
    pub async fn follow(self, mut events: mpsc::UnboundedReceiver<QueueEvent>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                event = events.recv() => match event {
                    Some(QueueEvent::Removed(queue)) => self.deleted(queue.topic),
                    Some(QueueEvent::Put(_)) => {}
                    None => return,
                },
            }
        }
    }
}

impl<C: Core> Consumers for Queues<C> {
    fn consumers(&self, queue: TopicId) -> usize {
        Queues::consumers(self, queue)
    }

    fn demand(&self, queue: TopicId) -> u64 {
        self.live.get(&queue).map_or(0, |live| u64::from(live.dealing.lock().demand()))
    }
}
