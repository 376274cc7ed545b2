//! Vhosts, exchanges, queues, bindings and policies: records in the core's meta, and an image of them in memory.
//!
//! ```text
//! handlers, management ─ declare, bind … ─► meta (amqp/…, topic/…) ──watch──► Image ◄── route, queue, exchange ─ publishes
//!                              └──────────── own writes, at once ──────────────┘
//! ```
//! - A queue *is* its topic: what it was declared with is in the topic's label, so that it is declared in one step.
//! - Everything else is a record of its own ([`records`], [`keys`]). Nothing refers to another by more than name and id, so that a
//!   gateway that dies between two writes leaves nothing that would bind what comes later.
//! - The image changes entry by entry; what this gateway changes is in it before the change returns. What others change comes
//!   with the watch, a moment later.

pub mod arguments;
mod bindings;
mod counts;
mod equivalence;
mod exchange;
mod exchanges;
mod field_table;
mod image;
pub mod keys;
mod policies;
mod policy;
mod queue;
mod queue_config;
mod queues;
pub mod records;
pub mod routing;
mod store;
pub mod validate;
mod versions;
mod vhosts;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use core_rpc::{Core, TopicId};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::state::CoreSession;

pub use arguments::{Argument, Arguments};
pub use bindings::BindRequest;
pub use counts::{Counts, QueueSize};
pub use exchange::Exchange;
pub use exchanges::ExchangeDeclare;
pub use image::{Image, Vhost};
pub use queue::{DELAYED_TOPIC, Effective, QUEUE_GROUP, Queue};
pub use queue_config::{DeadLetterStrategy, Overflow, QueueConfig, QueueType, age_ms};
pub use queues::{QueueDeclare, QueueDelete};
pub use records::{DestinationKind, ExchangeKind};
pub use routing::{Binding, KeyOnly, Message};
pub use validate::Resource;

/// Where a message goes.
#[derive(Clone, Debug)]
pub struct Routed {
    /// The exchange that it was published to.
    pub exchange: Arc<Exchange>,
    /// Each queue once.
    pub queues: Routes,
    /// The answer holds for all messages with these routing keys, while [`Topology::generation`] is the same.
    pub is_by_key: bool,
}

/// The queues that a message goes to.
pub type Routes = Arc<[Arc<Queue>]>;

/// What happened to a queue.
#[derive(Clone, Debug)]
pub enum QueueEvent {
    /// It is there, or does something else than before.
    Put(Arc<Queue>),
    Removed(Arc<Queue>),
}

/// All that is declared. Cheap to clone; every clone is the same.
pub struct Topology<C> {
    inner: Arc<Inner<C>>,
}

impl<C> Clone for Topology<C> {
    fn clone(&self) -> Self {
        Topology { inner: self.inner.clone() }
    }
}

struct Inner<C> {
    core: C,
    session: CoreSession,
    image: RwLock<Image>,
    generation: AtomicU64,
    access_generation: AtomicU64,
    changed: watch::Sender<u64>,
    listeners: Mutex<Vec<mpsc::UnboundedSender<QueueEvent>>>,
    incarnation: OnceLock<String>,
}

impl<C: Core> Topology<C> {
    /// Reads everything, then keeps watching in tasks that end with `stop`. Waits until the core answers.
    pub async fn start(core: C, session: CoreSession, stop: CancellationToken) -> anyhow::Result<Topology<C>> {
        let inner = Inner {
            core,
            session,
            image: RwLock::default(),
            generation: AtomicU64::new(1),
            access_generation: AtomicU64::new(1),
            changed: watch::channel(1).0,
            listeners: Mutex::default(),
            incarnation: OnceLock::new(),
        };
        let topology = Topology { inner: Arc::new(inner) };
        store::start(&topology, stop).await?;
        Ok(topology)
    }

    pub fn core(&self) -> &C {
        &self.inner.core
    }

    /// The incarnation that transient queues and exchanges belong to that are declared from now on. Said once, before clients come.
    pub fn set_incarnation(&self, incarnation: String) {
        let _ = self.inner.incarnation.set(incarnation);
    }

    fn incarnation(&self) -> Option<String> {
        self.inner.incarnation.get().cloned()
    }

    /// Rises with each change: what was derived from the topology under another number is to be derived anew.
    pub fn generation(&self) -> u64 {
        self.inner.generation.load(Ordering::Acquire)
    }

    /// Rises when permissions change.
    pub fn access_generation(&self) -> u64 {
        self.inner.access_generation.load(Ordering::Acquire)
    }

    /// To be woken when the generation changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// All queues that there are, and from then on all that happens to them.
    pub fn queue_events(&self) -> mpsc::UnboundedReceiver<QueueEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        // Under the image's lock, so that nothing is missed between the two.
        let image = self.inner.image.read();
        for queue in image.by_topic.values() {
            let _ = sender.send(QueueEvent::Put(queue.clone()));
        }
        self.inner.listeners.lock().push(sender);
        receiver
    }

    /// Where a message goes that is published to `exchange`. None: there is no such exchange.
    pub fn route(&self, vhost: &str, exchange: &str, routing_key: &str, message: &dyn Message) -> Option<Routed> {
        self.route_keys(vhost, exchange, &[routing_key], message)
    }

    /// As [`Topology::route`], for a message with several routing keys (CC, BCC).
    pub fn route_keys(&self, vhost: &str, exchange: &str, keys: &[&str], message: &dyn Message) -> Option<Routed> {
        self.image().vhost(vhost)?.route(exchange, keys, message)
    }

    pub fn queue(&self, vhost: &str, name: &str) -> Option<Arc<Queue>> {
        self.image().vhost(vhost)?.queues.get(name).cloned()
    }

    pub fn queue_by_topic(&self, topic: TopicId) -> Option<Arc<Queue>> {
        self.image().by_topic.get(&topic).cloned()
    }

    pub fn exchange(&self, vhost: &str, name: &str) -> Option<Arc<Exchange>> {
        self.image().vhost(vhost)?.exchange(name).cloned()
    }

    pub fn has_vhost(&self, vhost: &str) -> bool {
        self.image().vhost(vhost).is_some()
    }

    /// The names of all vhosts, in order.
    pub fn vhosts(&self) -> Vec<Arc<str>> {
        let image = self.image();
        let mut names: Vec<_> =
            image.vhosts.values().filter(|vhost| vhost.record.is_some()).map(|vhost| vhost.name.clone()).collect();
        names.sort();
        names
    }

    /// The queues of a vhost, by name.
    pub fn queues(&self, vhost: &str) -> Vec<Arc<Queue>> {
        let image = self.image();
        let mut queues: Vec<_> =
            image.vhost(vhost).into_iter().flat_map(|vhost| vhost.queues.values().cloned()).collect();
        queues.sort_by(|one, other| one.name.cmp(&other.name));
        queues
    }

    /// A limit of a vhost (`max-connections`, `max-queues`); None: there is none.
    pub fn vhost_limit(&self, vhost: &str, name: &str) -> Option<u64> {
        limit(&self.image(), "limit", vhost, name)
    }

    /// A limit of a user (`max-connections`, `max-channels`); None: there is none.
    pub fn user_limit(&self, user: &str, name: &str) -> Option<u64> {
        limit(&self.image(), "user-limit", user, name)
    }

    /// Everything, to be read without waiting: nothing changes while this is held.
    pub fn image(&self) -> RwLockReadGuard<'_, Image> {
        self.inner.image.read()
    }

    /// A stored value of a kind that is no vhost's, exchange's, binding's or policy's.
    pub fn record(&self, kind: &str, parts: &[&str]) -> Option<Arc<Value>> {
        self.image().other(kind, parts).cloned()
    }

    /// All stored values of such a kind, by the parts of their keys.
    pub fn records(&self, kind: &str) -> Vec<(Vec<String>, Arc<Value>)> {
        self.image().others(kind).map(|(parts, value)| (parts.clone(), value.clone())).collect()
    }

    /// Changes the image; tells who listens.
    fn change<T>(&self, change: impl FnOnce(&mut Image) -> T) -> T {
        let mut image = self.inner.image.write();
        let changed = change(&mut image);
        let events = std::mem::take(&mut image.events);
        if !events.is_empty() {
            let tell = |listener: &mpsc::UnboundedSender<QueueEvent>| {
                events.iter().all(|event| listener.send(event.clone()).is_ok())
            };
            self.inner.listeners.lock().retain(tell);
        }
        let permissions_changed = std::mem::take(&mut image.permissions_changed);
        drop(image);
        if permissions_changed {
            self.inner.access_generation.fetch_add(1, Ordering::Release);
        }
        // After the change, so that nobody takes the new number with the old image.
        let generation = self.inner.generation.fetch_add(1, Ordering::Release) + 1;
        self.inner.changed.send_replace(generation);
        changed
    }
}

/// A limit below zero is none.
fn limit(image: &Image, kind: &str, of: &str, name: &str) -> Option<u64> {
    u64::try_from(image.other(kind, &[of, name])?.as_i64()?).ok()
}
