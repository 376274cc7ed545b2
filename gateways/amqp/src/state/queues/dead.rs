//! Messages that leave their queue without having been delivered well: to its dead letter exchange, or to nowhere.

use std::sync::Arc;

use core_rpc::{Core, PartitionId, Settlement};
use gateway_runtime::Marks;

use super::live::LiveQueue;
use crate::Gateway;
use crate::state::channel::{Dead, DeadReason};
use crate::state::lifecycle::Reason;

/// Settles all of it, in a task of its own: nobody waits.
pub fn send_dead<C: Core>(gateway: &Arc<Gateway<C>>, dead: Vec<Dead>) {
    if dead.is_empty() {
        return;
    }
    let gateway = gateway.clone();
    tokio::spawn(async move {
        for Dead { live, reason, partitions } in dead {
            dead_letter(&gateway, &live, reason, partitions).await;
        }
    });
}

pub(super) async fn dead_letter<C: Core>(
    gateway: &Gateway<C>,
    live: &Arc<LiveQueue>,
    reason: DeadReason,
    partitions: Vec<(PartitionId, Vec<u64>)>,
) {
    if live.queue.config().dead_letter_exchange.is_none() {
        for (partition, offsets) in partitions {
            let mut marks = Marks::default();
            offsets.into_iter().for_each(|offset| marks.push(offset, Settlement::Reject));
            live.settle_partition(partition, marks.take());
        }
        return;
    }
    let reason = match reason {
        DeadReason::Rejected => Reason::Rejected,
        DeadReason::DeliveryLimit => Reason::DeliveryLimit,
    };
    gateway.lifecycle.dead_letter(&live.queue, live.holder(), partitions, reason).await;
}
