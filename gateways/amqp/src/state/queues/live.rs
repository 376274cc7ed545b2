//! A queue as this gateway serves it: who consumes here, and what is on its way to be settled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use core_rpc::{GroupName, PartitionId, SessionId, SettleRange, TopicId};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Held;
use super::consumer::Consumer;
use super::dealer::{Dealer, Mode};
use super::settler::{Pending, Settler};
use crate::state::topology::{Queue, QueueType};

/// A queue while this gateway has consumers of it, or messages of it out.
#[derive(Debug)]
pub struct LiveQueue {
    pub topic: TopicId,
    pub queue: Arc<Queue>,
    /// By their numbers.
    pub partitions: Vec<PartitionId>,
    pub dealing: Mutex<Dealing>,
    /// There may be places for messages again.
    wake: Arc<Notify>,
    /// Somebody came or went.
    pub changed: Notify,
    /// It was deleted, or the core's session under which its messages were held has ended.
    over: AtomicBool,
    pending: Arc<Pending>,
    settler: Settler,
}

#[derive(Debug)]
pub struct Dealing {
    pub dealer: Dealer<Arc<Consumer>>,
    /// Whether a dispatcher runs. It ends, under the lock, when nobody is left.
    pub dispatched: bool,
}

impl Dealing {
    /// How many messages can be dealt now. If none, the dispatcher is woken when some can.
    pub fn demand(&self) -> u32 {
        self.dealer.entitled().map(|consumer| consumer.demand()).fold(0, u32::saturating_add)
    }
}

impl LiveQueue {
    pub fn new(queue: Arc<Queue>, held: Held, settler: Settler) -> LiveQueue {
        let config = queue.config();
        let mode = match config.single_active_consumer {
            true => Mode::SingleActive { takes_over: config.queue_type == QueueType::Quorum },
            false => Mode::All,
        };
        LiveQueue {
            topic: queue.topic,
            partitions: (0..queue.partition_count).map(|index| queue.partition(index)).collect(),
            dealing: Mutex::new(Dealing { dealer: Dealer::new(mode), dispatched: false }),
            wake: Arc::default(),
            changed: Notify::new(),
            over: AtomicBool::new(false),
            pending: Pending::new(queue.clone(), held),
            settler,
            queue,
        }
    }

    pub fn group(&self) -> &GroupName {
        &self.pending.group
    }

    /// Under which name its messages are held.
    pub fn holder(&self) -> &Arc<str> {
        &self.pending.held.holder
    }

    /// Under which session its messages are held.
    pub fn session(&self) -> SessionId {
        self.pending.held.session
    }

    /// The dispatcher is to look again.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    pub fn waker(&self) -> &Arc<Notify> {
        &self.wake
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub fn set_over(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.changed.notify_one();
        self.wake();
    }

    /// A message was handed out that expires by itself: when it is given back, somebody is to look whether it is over.
    pub fn note_mortal(&self) {
        self.pending.note_mortal();
    }

    /// Has ranges of a partition settled, soon.
    pub fn settle(&self, partition: u32, ranges: Vec<SettleRange>) {
        match self.partitions.get(partition as usize) {
            Some(partition) => self.settle_partition(*partition, ranges),
            None => debug_assert!(false, "a delivery names a partition that its queue has not"),
        }
    }

    /// Waits until all is settled that was handed over before.
    pub async fn settled(&self) {
        self.settler.settled().await;
    }

    /// As [`LiveQueue::settle`], by the partition itself.
    pub fn settle_partition(&self, partition: PartitionId, ranges: Vec<SettleRange>) {
        // What is read of a stream stays there.
        if self.queue.is_stream() {
            return;
        }
        self.settler.push(&self.pending, partition, ranges);
    }

    /// How many consumers there are at this gateway.
    pub fn consumers(&self) -> usize {
        self.dealing.lock().dealer.len()
    }
}
