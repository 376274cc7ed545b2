//! Channels and connections end: what they had goes back to its queues.

use std::sync::Arc;

use core_rpc::Core;

use super::consumer::Consumer;
use super::dead::send_dead;
use super::outbox::Unasked;
use crate::Gateway;
use crate::state::channel::Channel;
use crate::state::registry::Connection;

/// A consumer leaves its queue, which may go with it.
pub async fn consumer_leaves<C: Core>(gateway: &Arc<Gateway<C>>, consumer: &Consumer) {
    if gateway.queues.cancel(consumer) {
        gateway.lifecycle.consumers_changed(&consumer.queue.queue).await;
    }
}

/// A channel ends, for whatever reason. When this returns, others can have its messages, also those that were acknowledged in a
/// transaction that is not committed.
pub async fn channel_closed<C: Core>(gateway: &Arc<Gateway<C>>, channel: &mut Channel) {
    channel.roll_back();
    let consuming = &mut channel.consuming;
    // All leave before anything is given back: none is to get what it had, or another of them.
    let consumers = consuming.leave();
    let last: Vec<_> = consumers.iter().filter(|consumer| gateway.queues.cancel(consumer)).collect();
    let dead = consuming.give_back();
    if let Some(reply_to) = consuming.set_reply_to(None) {
        gateway.queues.replies.forget(&reply_to.address);
    }
    send_dead(gateway, dead);
    gateway.queues.settler().settled().await;
    for consumer in last {
        gateway.lifecycle.consumers_changed(&consumer.queue.queue).await;
    }
}

/// A connection ends, after all its channels: what was on its way to it is for others.
pub async fn connection_closed<C: Core>(gateway: &Arc<Gateway<C>>, connection: &Connection) {
    for unasked in connection.outbox.close() {
        if let Unasked::Deliveries(parcel) = unasked {
            parcel.give_back();
        }
    }
    gateway.queues.settler().settled().await;
}
