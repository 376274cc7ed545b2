//! Messages that leave their queue without having been delivered well: to its dead letter exchange, or to nowhere.

use std::sync::Arc;
use std::time::Duration;

use core_rpc::{Core, PartitionId, Settlement};
use gateway_runtime::Marks;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::live::LiveQueue;
use crate::Gateway;
use crate::state::channel::{Dead, DeadReason};
use crate::state::lifecycle::Reason;

/// How long a request waits for dead letters that its client has caused before it. RabbitMQ promises nothing there, but is fast.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Settles all of it, in a task of its own: nobody waits.
pub fn send_dead<C: Core>(gateway: &Arc<Gateway<C>>, dead: Vec<Dead>) {
    if dead.is_empty() {
        return;
    }
    let gateway = gateway.clone();
    tokio::spawn(async move { send_all(&gateway, dead).await });
}

async fn send_all<C: Core>(gateway: &Gateway<C>, dead: Vec<Dead>) {
    for Dead { live, reason, partitions } in dead {
        dead_letter(gateway, &live, reason, partitions).await;
    }
}

/// The dead letters that the client of one connection causes: they arrive in the order in which they were rejected. While some
/// are on their way, others gather. Cheap to clone; every clone is the same.
#[derive(Clone, Debug, Default)]
pub struct DeadLetters {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Rounds that are over.
    done: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Dead>,
    is_sending: bool,
    /// Rounds that were begun.
    begun: u64,
}

impl DeadLetters {
    /// Sends them behind those before. Nobody waits, but for [`DeadLetters::reached`].
    pub fn send<C: Core>(&self, gateway: &Arc<Gateway<C>>, dead: Vec<Dead>) {
        let is_sending = {
            let mut state = self.shared.state.lock();
            dead.into_iter().for_each(|dead| gather(&mut state.waiting, dead));
            std::mem::replace(&mut state.is_sending, true)
        };
        if !is_sending {
            tokio::spawn(self.clone().run(gateway.clone()));
        }
    }

    /// The round with which all is sent that was handed over before.
    pub fn round(&self) -> u64 {
        let state = self.shared.state.lock();
        state.begun + u64::from(!state.waiting.is_empty())
    }

    /// Waits until a round is over, but not long.
    pub async fn reached(&self, round: u64) {
        let mut done = self.shared.done.subscribe();
        let reached = async { done.wait_for(|done| *done >= round).await.is_ok() };
        let _ = tokio::time::timeout(WAIT_MAX, reached).await;
    }

    async fn run<C: Core>(self, gateway: Arc<Gateway<C>>) {
        loop {
            let (round, waiting) = {
                let mut state = self.shared.state.lock();
                if state.waiting.is_empty() {
                    state.is_sending = false;
                    return;
                }
                state.begun += 1;
                (state.begun, std::mem::take(&mut state.waiting))
            };
            send_all(&gateway, waiting).await;
            self.shared.done.send_replace(round);
        }
    }
}

/// Adds what died to what waits: to the last of it where it is the same queue's, and further on.
fn gather(waiting: &mut Vec<Dead>, dead: Dead) {
    if let Some(last) = waiting.last_mut()
        && last.reason == dead.reason
        && Arc::ptr_eq(&last.live, &dead.live)
        && let ([(partition, offsets)], [(other, further)]) = (&mut last.partitions[..], &dead.partitions[..])
        && partition == other
        && offsets.last() < further.first()
    {
        offsets.extend_from_slice(further);
        return;
    }
    waiting.push(dead);
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
