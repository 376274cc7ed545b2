//! What becomes of messages and queues by themselves: expiry, dead-lettering, length limits, delayed messages, and queues that go when
//! they are unused, or when their connection, gateway or broker is gone.
//!
//! | who calls | what |
//! |---|---|
//! | publish | [`Lifecycle::admit`], [`Lifecycle::appended`], [`Lifecycle::refused`] for limited queues; [`Lifecycle::published`] for all; [`Lifecycle::due_ms`], [`Lifecycle::hold_back`] for delayed exchanges |
//! | dispatcher, basic.get | [`expiry`] for what they are about to hand out; [`Lifecycle::expired`], [`Lifecycle::dead_letter`] for what is over, rejected or given up |
//! | consume, cancel, a connection's end | [`Lifecycle::consumers_changed`], [`Lifecycle::connection_closed`] |
//! | declare, basic.get | [`Lifecycle::used`], [`Lifecycle::relieved`] |
//! | settling | [`Returns`], for what is given back |
//!
//! What is nobody's call (heads that expire, queues that nobody uses, messages that are due) is done by tasks of this room. For each queue one
//! gateway does it, by rendezvous hashing among those that live ([`owner`]); nothing here must survive a gateway: deadlines follow from
//! what the core has.

mod dead_letter;
mod death_headers;
mod deaths;
mod delay;
mod delayed;
mod exclusive;
pub mod expiry;
mod heads;
mod incarnation;
mod letters;
pub mod owner;
mod post;
mod read;
mod ready;
mod retention;
mod returns;
mod room;
mod rooms;
mod trims;
mod uses;

use std::sync::Arc;

use core_rpc::{Core, PartitionId, TopicId};
use dashmap::DashMap;
use gateway_runtime::Membership;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::state::topology::Queue;
use crate::state::{CoreSession, Topology};
pub use dead_letter::{Dead, Dying, Letters};
pub use deaths::Reason;
pub use delayed::Piece;
pub use returns::{Returns, drops_oldest};
pub use rooms::Admission;

/// What this room asks of the one that has the consumers.
pub trait Consumers: Send + Sync {
    /// How many consumers a queue has at this gateway.
    fn consumers(&self, queue: TopicId) -> usize;

    /// How many messages they would take at once.
    fn demand(&self, queue: TopicId) -> u64;
}

/// Cheap to clone; every clone is the same.
pub struct Lifecycle<C> {
    shared: Arc<Shared<C>>,
}

impl<C> Clone for Lifecycle<C> {
    fn clone(&self) -> Self {
        Lifecycle { shared: self.shared.clone() }
    }
}

struct Shared<C> {
    core: C,
    /// Its keys' session.
    session: CoreSession,
    /// Under which it holds messages.
    lease_session: CoreSession,
    membership: Membership,
    topology: Topology<C>,
    consumers: RwLock<Option<Arc<dyn Consumers>>>,
    heads: heads::Heads,
    /// Of limited queues.
    rooms: DashMap<TopicId, Arc<tokio::sync::Mutex<rooms::Room>>>,
    /// Limited queues to which messages were given back.
    crowded: Arc<returns::Crowded>,
    /// Where messages of a vhost wait.
    waiting: DashMap<String, PartitionId>,
    uses: uses::Uses,
    stop: CancellationToken,
}

impl<C> Shared<C> {
    fn consumers(&self, queue: TopicId) -> usize {
        self.consumers.read().as_ref().map_or(0, |consumers| consumers.consumers(queue))
    }

    fn demand(&self, queue: TopicId) -> u64 {
        self.consumers.read().as_ref().map_or(0, |consumers| consumers.demand(queue))
    }
}

impl<C: Core> Lifecycle<C> {
    /// Joins the broker's incarnation, deletes what is left of former ones, and starts the tasks, which end with `stop`. Before
    /// clients come.
    pub async fn start(
        core: C,
        (session, lease_session): (CoreSession, CoreSession),
        membership: Membership,
        topology: Topology<C>,
        stop: CancellationToken,
    ) -> anyhow::Result<Lifecycle<C>> {
        let own = membership.own().node_id;
        let others_live = membership.live().iter().any(|member| member.node_id != own);
        let incarnation = incarnation::join(core.clone(), session.clone(), others_live, stop.clone()).await?;
        topology.set_incarnation(incarnation.clone());
        let shared = Shared {
            core,
            session,
            lease_session,
            membership,
            topology,
            consumers: RwLock::default(),
            heads: heads::Heads::default(),
            rooms: DashMap::new(),
            crowded: Arc::default(),
            waiting: DashMap::new(),
            uses: uses::Uses::default(),
            stop,
        };
        let lifecycle = Lifecycle { shared: Arc::new(shared) };
        lifecycle.bury_former(&incarnation).await;
        tokio::spawn(lifecycle.clone().follow());
        tokio::spawn(lifecycle.clone().expire_heads());
        lifecycle.keep_doing("what is due is not moved", lifecycle.clone().move_due());
        lifecycle.keep_doing("unused queues are not deleted", lifecycle.clone().bury_unused());
        lifecycle.keep_doing("orphaned queues are not deleted", lifecycle.clone().bury_orphans());
        Ok(lifecycle)
    }

    /// Begins a task of this room, which is to end with the gateway and not before.
    fn keep_doing(&self, what: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let stop = self.shared.stop.clone();
        tokio::spawn(async move {
            if let Some(error) = failure(task.await, &stop) {
                tracing::error!(%error, what);
            }
        });
    }

    /// Says who has the consumers. Said once, before clients come.
    pub fn set_consumers(&self, consumers: Arc<dyn Consumers>) {
        *self.shared.consumers.write() = Some(consumers);
    }

    /// The name under which this room holds messages while it moves them.
    fn holder(&self) -> String {
        format!("amqp-lifecycle-{}", self.shared.lease_session.id().0)
    }

    fn all_queues(&self) -> Vec<Arc<Queue>> {
        self.shared.topology.image().by_topic.values().cloned().collect()
    }

    /// Follows what happens to queues and gateways until the gateway stops.
    async fn follow(self) {
        let mut events = self.shared.topology.queue_events();
        let mut members = self.shared.membership.changes();
        self.look_at_all();
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                event = events.recv() => {
                    let Some(event) = event else { return };
                    self.queue_changed(&event);
                    self.note_mortal(&event);
                }
                changed = members.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.look_at_all();
                }
            }
        }
    }

    /// Deletes a queue that nobody deletes.
    async fn remove_queue(&self, queue: &Arc<Queue>, because: &'static str) {
        tracing::debug!(vhost = queue.vhost(), queue = queue.name(), because, "a queue goes");
        if let Err(error) = self.shared.topology.drop_queue(queue).await {
            tracing::warn!(vhost = queue.vhost(), queue = queue.name(), %error, "a queue was to go, and did not");
        }
    }

    /// Deletes what is transient of earlier lives of the broker.
    async fn bury_former(&self, incarnation: &str) {
        let is_former = |of: &Option<String>| of.as_deref().is_some_and(|of| of != incarnation);
        for queue in self.all_queues() {
            if is_former(&queue.record.incarnation) {
                self.remove_queue(&queue, "the broker was started anew").await;
            }
        }
        let exchanges: Vec<_> = {
            let image = self.shared.topology.image();
            let all = image.vhosts.values().flat_map(|vhost| vhost.exchanges().cloned());
            all.filter(|exchange| is_former(&exchange.record.incarnation)).collect()
        };
        for exchange in exchanges {
            if let Err(error) = self.shared.topology.drop_exchange(&exchange.vhost, &exchange.name).await {
                tracing::warn!(exchange = %exchange.name, %error, "a transient exchange was to go, and did not");
            }
        }
    }
}

/// Why a task ended before its time. What it follows ends with the gateway, as it does itself: which of them it sees first is chance.
fn failure(ended: anyhow::Result<()>, stop: &CancellationToken) -> Option<anyhow::Error> {
    ended.err().filter(|_| !stop.is_cancelled())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_with_the_gateway_has_not_failed() {
        let stop = CancellationToken::new();
        assert!(failure(Ok(()), &stop).is_none());
        assert!(failure(Err(anyhow::anyhow!("channel closed")), &stop).is_some());
        stop.cancel();
        assert!(failure(Err(anyhow::anyhow!("channel closed")), &stop).is_none());
    }
}
