//! Exclusive queues of connections that are gone, and what is transient of former incarnations of the broker.

use std::sync::Arc;

use core_rpc::Core;
use gateway_runtime::Mirror;

use super::Lifecycle;
use crate::state::topology::{Queue, keys};

/// Keys under the session of the gateway whose connection has the queue.
const PREFIX: &str = "amqp/exclusive/";

impl<C: Core> Lifecycle<C> {
    /// A connection of this gateway is gone: its exclusive queues go with it.
    pub async fn connection_closed(&self, owner: &str) {
        for queue in self.all_queues() {
            if queue.record.exclusive.as_deref() == Some(owner) {
                self.remove_queue(&queue, "its connection is gone").await;
            }
        }
    }

    /// Deletes the exclusive queues of gateways that died, until this one stops.
    pub(super) async fn bury_orphans(self) -> anyhow::Result<()> {
        let shared = &self.shared;
        let owners = Mirror::start(shared.core.clone(), PREFIX.into(), |_| Some(()), shared.stop.clone()).await?;
        let (mut changes, mut member_changes) = (owners.changes(), shared.membership.changes());
        loop {
            member_changes.borrow_and_update();
            let owned = changes.borrow_and_update().clone();
            for queue in self.all_queues() {
                let is_orphan = queue.record.exclusive.is_some()
                    && !owned.entries.contains_key(&keys::exclusive(queue.vhost(), queue.name()))
                    && self.owns(&queue);
                if is_orphan && self.is_orphan(&queue).await {
                    self.remove_queue(&queue, "its connection is gone").await;
                }
            }
            tokio::select! {
                () = shared.stop.cancelled() => return Ok(()),
                changed = changes.changed() => changed?,
                changed = member_changes.changed() => changed?,
            }
        }
    }

    /// What the core says now.
    async fn is_orphan(&self, queue: &Arc<Queue>) -> bool {
        let key = keys::exclusive(queue.vhost(), queue.name());
        matches!(self.shared.core.meta_get(key).await, Ok(None))
    }
}
