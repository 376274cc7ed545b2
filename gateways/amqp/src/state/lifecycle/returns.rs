//! Messages that are given back to their queues: what of them is over, or is more than the queue may hold, goes. As in RabbitMQ, where
//! a requeue looks for both.
//!
//! ```text
//! to be given back ─► Returns::trim: what would be too many goes first (`trims`)
//! given back ─► Returns::note ─┬─► the queue's head is looked at, if something there may be over (`heads`)
//!                              └─► a queue with a limit is crowded, until its oldest are dropped: by a task, or by
//!                                  whoever asks for the queue before that (Lifecycle::relieved)
//! ```

use std::sync::Arc;

use core_rpc::{Core, TopicId};
use dashmap::DashMap;
use tokio::sync::mpsc;

use super::trims::{Ranges, Trimmer, Trims};
use super::{Lifecycle, rooms};
use crate::state::topology::{Overflow, Queue};

/// Told of queues into which messages were given back. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Returns {
    sender: mpsc::UnboundedSender<Returned>,
    crowded: Arc<Crowded>,
    trims: Arc<dyn Trims>,
}

#[derive(Debug)]
struct Returned {
    queue: Arc<Queue>,
    may_be_over: bool,
    is_crowded: bool,
}

/// Queues that may have more than they may, and how often messages were given back to them meanwhile.
#[derive(Debug, Default)]
pub(super) struct Crowded {
    times: DashMap<TopicId, u64>,
}

impl Crowded {
    /// Returns whether it was none before.
    fn note(&self, topic: TopicId) -> bool {
        let mut times = self.times.entry(topic).or_insert(0);
        *times += 1;
        *times == 1
    }

    fn times(&self, topic: TopicId) -> Option<u64> {
        self.times.get(&topic).map(|times| *times)
    }

    /// So often it was looked at. Returns whether that was all.
    fn relieved(&self, topic: TopicId, times: u64) -> bool {
        self.times.remove_if(&topic, |_, noted| *noted == times).is_some() || self.times(topic).is_none()
    }

    pub(super) fn forget(&self, topic: TopicId) {
        self.times.remove(&topic);
    }
}

/// Whether a queue drops its oldest messages when it has too many.
pub fn drops_oldest(queue: &Queue) -> bool {
    rooms::limits(queue).is_some() && queue.config().overflow == Overflow::DropHead
}

impl std::fmt::Debug for Returns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Returns").field("crowded", &self.crowded).finish_non_exhaustive()
    }
}

impl Returns {
    /// Has those dropped that would be too many when they come back to a queue that drops its oldest; what is left is to be settled.
    pub async fn trim(&self, queue: &Arc<Queue>, holder: &str, ranges: Vec<Ranges>) -> Vec<Ranges> {
        self.trims.trim(queue, holder, ranges).await
    }

    /// Messages were given back to a queue, of which some may be over, and of which some may be too many. From here on a queue is known to be crowded.
    pub fn note(&self, queue: &Arc<Queue>, may_be_over: bool, may_be_too_many: bool) {
        let is_crowded = may_be_too_many && self.crowded.note(queue.topic());
        if may_be_over || is_crowded {
            // Nobody listens when the gateway ends.
            let _ = self.sender.send(Returned { queue: queue.clone(), may_be_over, is_crowded });
        }
    }
}

impl<C: Core> Lifecycle<C> {
    /// Where it is told what is given back; looked at until the gateway stops.
    pub fn returns(&self) -> Returns {
        let (sender, returned) = mpsc::unbounded_channel();
        tokio::spawn(self.clone().follow_returns(returned));
        let trims = Arc::new(Trimmer(Arc::downgrade(&self.shared)));
        Returns { sender, crowded: self.shared.crowded.clone(), trims }
    }

    async fn follow_returns(self, mut returned: mpsc::UnboundedReceiver<Returned>) {
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                returned = returned.recv() => match returned {
                    Some(returned) => self.look_at(returned),
                    None => return,
                },
            }
        }
    }

    /// Messages were given back to a queue otherwise (see [`Returns::note`]).
    pub fn returned(&self, queue: &Arc<Queue>) {
        let is_crowded = drops_oldest(queue) && self.shared.crowded.note(queue.topic());
        self.look_at(Returned { queue: queue.clone(), may_be_over: true, is_crowded });
    }

    fn look_at(&self, returned: Returned) {
        let Returned { queue, may_be_over, is_crowded } = returned;
        if may_be_over {
            self.look_at_head(&queue);
        }
        if is_crowded {
            let lifecycle = self.clone();
            tokio::spawn(async move { while !lifecycle.relieve(&queue).await {} });
        }
    }

    /// Waits until what was given back to a queue, and is more than it may have, is gone.
    pub async fn relieved(&self, queue: &Arc<Queue>) {
        if self.shared.crowded.times(queue.topic()).is_some() {
            self.relieve(queue).await;
        }
    }

    /// Drops what a queue has too many. True: nothing was given back meanwhile.
    async fn relieve(&self, queue: &Arc<Queue>) -> bool {
        let turn = self.turn(queue).await;
        // Under its turn: who waits for one finds done what was noted before.
        let Some(times) = self.shared.crowded.times(queue.topic()) else { return true };
        self.make_room_in(queue, turn).await;
        self.shared.crowded.relieved(queue.topic(), times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_meanwhile_is_looked_at_again() {
        let (crowded, topic) = (Crowded::default(), TopicId(7));
        assert!(crowded.note(topic), "the first");
        let times = crowded.times(topic).unwrap();
        assert!(!crowded.note(topic));
        assert!(!crowded.relieved(topic, times));
        assert!(crowded.relieved(topic, crowded.times(topic).unwrap()));
        assert!(crowded.relieved(topic, 1), "somebody else did");
        assert!(crowded.note(topic));
        crowded.forget(topic);
        assert_eq!(crowded.times(topic), None);
    }
}
