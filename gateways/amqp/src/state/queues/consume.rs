//! Consumers come and go.

use std::sync::Arc;

use codec_amqp::{FieldTable, ShortStr};
use core_rpc::Core;

use super::claim;
use super::consumer::Consumer;
use super::dealer::InExclusiveUse;
use super::{LiveQueue, Queues, dispatcher, forced};
use crate::Gateway;
use crate::errors::Refusal;
use crate::state::channel::{Channel, Window};
use crate::state::registry::Connection;
use crate::state::streams;
use crate::state::topology::Queue;

/// Who wants to consume, and how.
#[derive(Debug)]
pub struct ConsumeRequest {
    pub queue: Arc<Queue>,
    /// Not used by another consumer of the channel.
    pub tag: ShortStr,
    pub no_ack: bool,
    pub exclusive: bool,
    pub priority: i32,
    pub arguments: FieldTable,
}

impl<C: Core> Queues<C> {
    /// Adds a consumer of a channel to a queue. Its deliveries come after whatever the caller sends in the same turn.
    pub async fn consume(
        gateway: &Arc<Gateway<C>>,
        connection: &Arc<Connection>,
        channel: &mut Channel,
        request: ConsumeRequest,
    ) -> Result<Arc<Consumer>, Refusal> {
        let ConsumeRequest { queue, tag, no_ack, exclusive, priority, arguments } = request;
        let in_use =
            || Refusal::access_refused(format!("queue '{}' in vhost '{}' in exclusive use", queue.name, queue.vhost));
        let queues = &gateway.queues;
        queues.look_at_session();
        let live = queues.live(&queue);
        let session = live.session();
        live.dealing.lock().dealer.may_join(exclusive).map_err(|InExclusiveUse| in_use())?;
        if queue.record.exclusive.is_none() {
            let node_id = gateway.membership.own().node_id;
            let free = if exclusive {
                claim::claim_exclusively(&gateway.core, &queue, node_id, session).await?
            } else if gateway.membership.live().len() > 1 {
                let others = claim::others(&gateway.core, &queue, node_id).await?;
                others.iter().all(|other| !other.exclusive)
            } else {
                true
            };
            if !free {
                return Err(in_use());
            }
        }
        let start = match queue.is_stream() {
            true => Some(streams::begin(&gateway.core, &queue, &channel.consuming, no_ack, &arguments).await?),
            false => None,
        };
        let consumer = Arc::new(Consumer {
            number: queues.next_number(),
            channel_life: channel.consuming.life(),
            channel: channel.number,
            tag,
            queue: if start.is_some() { queues.private(&queue) } else { live.clone() },
            no_ack,
            exclusive,
            priority,
            arguments,
            window: Window::new(channel.consuming.prefetch()),
            channel_window: channel.consuming.window().clone(),
            outbox: connection.outbox.clone(),
            connection_id: connection.id,
        });
        {
            let mut dealing = live.dealing.lock();
            // It may have been deleted meanwhile, or the session lost.
            if live.is_over() && session != queues.held().session {
                return Err(forced::refusal());
            }
            if live.is_over() {
                return Err(Refusal::not_found(format!("no queue '{}' in vhost '{}'", queue.name, queue.vhost)));
            }
            let joined = dealing.dealer.join(consumer.number, priority, exclusive, consumer.clone());
            joined.map_err(|InExclusiveUse| in_use())?;
            if let Some(cursor) = start {
                tokio::spawn(streams::run(gateway.clone(), consumer.clone(), cursor));
            } else if !std::mem::replace(&mut dealing.dispatched, true) {
                tokio::spawn(dispatcher::run(gateway.clone(), live.clone(), session));
            }
        }
        live.wake();
        channel.consuming.add(consumer.clone());
        gateway.lifecycle.consumers_changed(&queue).await;
        Ok(consumer)
    }

    /// A consumer gets nothing more. What is on its way to it, or with its client, stays there. True: it was the last one of
    /// its queue at this gateway.
    pub fn cancel(&self, consumer: &Consumer) -> bool {
        let live = &consumer.queue;
        let leave = |live: &LiveQueue| {
            let mut dealing = live.dealing.lock();
            dealing.dealer.leave(consumer.number).is_some() && dealing.dealer.is_empty()
        };
        if live.queue.is_stream() {
            live.set_over();
            return self.live.get(&live.topic).is_some_and(|shared| leave(&shared));
        }
        let last = leave(live);
        live.changed.notify_one();
        live.wake();
        last
    }
}
