//! Queues with limits: a publisher asks for room before it appends, one at a time for each queue, so that the limit is exact.
//!
//! ```text
//! let mut admission = lifecycle.admit(&queue, &body_sizes).await;     // waits for its turn
//! append what admission.admits(i) says yes to
//! lifecycle.appended(admission).await;                                // drops the oldest that are too many
//! lifecycle.refused(&queue, messages).await;                          // of those with a no: dead-lettered where that is asked for
//! ```
//! What waits in the queue the core says: messages that are neither settled nor handed out. What this gateway's consumers have
//! places for is not counted, because they are about to get it. Other gateways ask for themselves: with several of them a
//! limit can be passed by what they publish at the same moment, and the next publish brings it down again.

use std::sync::Arc;

use codec_record::amqp_message::MessageView;
use core_rpc::{
    AcquireMode, AcquireRequest, Core, DiscardRequest, Isolation, Lease, LeaseView, OffsetAt, PartitionId, PeekRequest,
    RangeState, SeekTo,
};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::post::Post;
use super::ready::Sizes;
use super::room::{Limits, Ready};
use super::{Lifecycle, Reason, drops_oldest, read};
use crate::state::topology::{Overflow, Queue};

/// So many ranges of a lease map are looked at: all that there can be.
const RANGES_MAX: u32 = core_rpc::LEASE_RANGES_MAX as u32;

/// The most messages that are dropped at once.
const DROP_MESSAGES_MAX: u32 = 1000;
const DROP_BYTES_MAX: u32 = 8 << 20;

/// What is known of a limited queue; whoever has it is the only one that publishes there.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Of each partition, where there is a limit on bytes.
    sizes: Vec<Sizes>,
}

/// A publisher's turn at a limited queue.
#[derive(Debug)]
pub struct Admission {
    admitted: Vec<bool>,
    turn: Option<(Arc<Queue>, OwnedMutexGuard<Room>)>,
}

impl Admission {
    /// Whether the message of this position may be appended.
    pub fn admits(&self, position: usize) -> bool {
        self.admitted.get(position).copied().unwrap_or(true)
    }

    pub fn admits_all(&self) -> bool {
        self.admitted.iter().all(|admitted| *admitted)
    }
}

pub(super) fn limits(queue: &Queue) -> Option<Limits> {
    let config = queue.config();
    let is_limited = config.is_limited();
    is_limited.then(|| Limits { messages: config.max_length, bytes: config.max_length_bytes })
}

impl<C: Core> Lifecycle<C> {
    /// Asks for room for messages with bodies of these sizes; waits until it is the caller's turn. A queue without limits has
    /// room at once.
    pub async fn admit(&self, queue: &Arc<Queue>, bodies: &[u64]) -> Admission {
        let Some(limits) = limits(queue) else { return Admission { admitted: Vec::new(), turn: None } };
        let mut room = self.room(queue).lock_owned().await;
        let admitted = match queue.config().overflow {
            Overflow::DropHead => Vec::new(),
            Overflow::RejectPublish | Overflow::RejectPublishDlx => {
                let ready = self.ready(queue, &limits, &mut room).await;
                ready.map_or_else(Vec::new, |(ready, _)| limits.admit(ready, bodies.iter().copied()))
            }
        };
        Admission { admitted, turn: Some((queue.clone(), room)) }
    }

    /// What was admitted is appended, or was refused by the core: the next may have its turn, when what is too much is gone.
    pub async fn appended(&self, admission: Admission) {
        let Some((queue, mut room)) = admission.turn else { return };
        if queue.config().overflow == Overflow::DropHead {
            self.drop_oldest(&queue, &mut room).await;
        }
    }

    /// Messages that a full queue refused are dead-lettered, where it says so (`reject-publish-dlx`).
    pub async fn refused(&self, queue: &Arc<Queue>, messages: Vec<MessageView>) {
        if queue.config().overflow != Overflow::RejectPublishDlx {
            return;
        }
        let mut post = Post::default();
        for message in &messages {
            if self.address(&mut post, queue, message, Reason::MaxLength).await.is_err() {
                tracing::warn!(queue = %queue.name(), "a refused message was not dead-lettered");
            }
        }
        let (appends, sent) = post.finish();
        if appends.is_empty() {
            return;
        }
        let appended = self.shared.core.append(core_rpc::AppendRequest { appends }).await;
        for error in appended.into_iter().filter_map(Result::err) {
            tracing::warn!(queue = %queue.name(), %error, "a refused message was not dead-lettered");
        }
        sent.iter().for_each(|sent| self.arrived(sent));
    }

    /// Whether a queue takes one more message beside those that `post` has for it: one that refuses publishes refuses dead
    /// letters too.
    pub(super) async fn has_room(&self, queue: &Arc<Queue>, post: &Post, body_bytes: u64) -> bool {
        let Some(limits) = limits(queue) else { return true };
        if queue.config().overflow == Overflow::DropHead {
            return true;
        }
        // Without a turn: who waited for one while holding another could wait for ever.
        let ready = self.ready(queue, &limits, &mut Room::default()).await;
        let bodies = post.bodies_for(queue).chain([body_bytes]);
        ready.is_none_or(|(ready, _)| limits.admit(ready, bodies).last() == Some(&true))
    }

    /// Something was put into a queue by other ways than a publish: what is too much is dropped.
    pub(super) async fn make_room(&self, queue: &Arc<Queue>) {
        if drops_oldest(queue) {
            let turn = self.turn(queue).await;
            self.make_room_in(queue, turn).await;
        }
    }

    /// Waits for a turn at a limited queue.
    pub(super) async fn turn(&self, queue: &Queue) -> OwnedMutexGuard<Room> {
        self.room(queue).lock_owned().await
    }

    /// Drops what is too much.
    pub(super) async fn make_room_in(&self, queue: &Arc<Queue>, mut turn: OwnedMutexGuard<Room>) {
        if drops_oldest(queue) {
            self.drop_oldest(queue, &mut turn).await;
        }
    }

    fn room(&self, queue: &Queue) -> Arc<Mutex<Room>> {
        self.shared.rooms.entry(queue.topic()).or_default().clone()
    }

    async fn drop_oldest(&self, queue: &Arc<Queue>, room: &mut Room) {
        let Some(limits) = limits(queue) else { return };
        let Some((ready, oldest)) = self.ready(queue, &limits, room).await else { return };
        let excess = limits.excess(ready, oldest.bodies(room));
        if excess > 0 {
            self.drop_ready(queue, excess).await;
        }
    }

    /// Drops the oldest of what is ready.
    pub(super) async fn drop_ready(&self, queue: &Arc<Queue>, messages: u64) {
        if queue.config().dead_letter_exchange.is_none() {
            self.discard(queue, messages).await;
        } else {
            self.drop_to_dead_letters(queue, messages).await;
        }
    }

    /// What is too much, oldest first, when these ranges (first, before end) come back. None: nothing, or nobody knows.
    pub(super) async fn excess_with(
        &self,
        queue: &Queue,
        back: &[(PartitionId, Vec<(u64, u64)>)],
    ) -> Option<Vec<Spot>> {
        let limits = limits(queue)?;
        let mut room = Room::default();
        let (_, mut oldest) = self.ready_with(queue, &limits, &mut room, back).await?;
        let partitions = queue.partitions();
        let returned = |partition: PartitionId, offset: u64| {
            let of = back.iter().filter(|(other, _)| *other == partition).flat_map(|(_, ranges)| ranges);
            of.clone().any(|(first, end)| (*first..*end).contains(&offset))
        };
        oldest.add(&partitions, back);
        let excess = limits.excess(oldest.ready(&room), oldest.bodies(&room)) as usize;
        if excess == 0 {
            return None;
        }
        let spots = oldest.spots(&partitions).take(excess);
        Some(
            spots
                .map(|(partition, offset)| Spot { partition, offset, is_returned: returned(partition, offset) })
                .collect(),
        )
    }

    async fn discard(&self, queue: &Queue, mut excess: u64) {
        // The head of a queue with priorities is what is of the highest.
        for partition in queue.partitions().into_iter().rev() {
            let request = DiscardRequest {
                group: queue.group(),
                partition,
                start: SeekTo::At(OffsetAt::Earliest),
                messages_max: excess,
            };
            match self.shared.core.discard(request).await {
                Ok(dropped) => excess = excess.saturating_sub(dropped),
                Err(error) => tracing::warn!(queue = %queue.name(), %error, "the oldest messages were not dropped"),
            }
            if excess == 0 {
                return;
            }
        }
    }

    async fn drop_to_dead_letters(&self, queue: &Arc<Queue>, mut excess: u64) {
        let holder = self.holder();
        while excess > 0 {
            let mut taken = 0;
            for partition in queue.partitions().into_iter().rev() {
                let wanted = u32::try_from(excess - taken).unwrap_or(u32::MAX).min(DROP_MESSAGES_MAX);
                let offsets = self.take(queue, partition, &holder, wanted).await;
                taken += offsets.len() as u64;
                self.dead_letter(queue, &holder, vec![(partition, offsets)], Reason::MaxLength).await;
                if taken == excess {
                    return;
                }
            }
            if taken == 0 {
                return;
            }
            excess -= taken;
        }
    }

    /// Takes the oldest messages that nobody has, at most so many. Empty: there are none, or the core cannot say.
    pub(super) async fn take(&self, queue: &Queue, partition: PartitionId, holder: &str, messages: u32) -> Vec<u64> {
        let session = self.shared.lease_session.id();
        let request = AcquireRequest {
            group: queue.group(),
            partitions: vec![partition],
            holder: holder.to_owned(),
            lease: Lease::Session(session),
            mode: AcquireMode::Strict,
            credit_messages: messages,
            credit_bytes: DROP_BYTES_MAX,
            bytes_min: 0,
            window_messages: u64::MAX,
            acquisitions_max: None,
            start: SeekTo::At(OffsetAt::Earliest),
            isolation: Isolation::Committed,
            wait: std::time::Duration::ZERO,
        };
        match self.shared.core.acquire(request).await.pop() {
            Some(Ok(acquired)) => acquired.ranges.iter().flat_map(|range| range.first..=range.last).collect(),
            Some(Err(error)) => {
                tracing::debug!(queue = %queue.name(), %error, "cannot take the oldest messages");
                self.shared.lease_session.doubt(session, error);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// What waits in a queue, and where; less what consumers here are about to get. None: the core cannot say.
    async fn ready(&self, queue: &Queue, limits: &Limits, room: &mut Room) -> Option<(Ready, Oldest)> {
        self.ready_with(queue, limits, room, &[]).await
    }

    /// As [`Lifecycle::ready`]; the sizes of what is about to come back are learned, too.
    async fn ready_with(
        &self,
        queue: &Queue,
        limits: &Limits,
        room: &mut Room,
        back: &[(PartitionId, Vec<(u64, u64)>)],
    ) -> Option<(Ready, Oldest)> {
        let partitions = queue.partitions();
        let waiting = self.waiting_in(queue, &partitions).await?;
        if limits.bytes.is_some() {
            room.sizes.resize_with(partitions.len(), Sizes::default);
            for ((partition, waiting), sizes) in partitions.iter().zip(&waiting).zip(&mut room.sizes) {
                let back = back.iter().filter(|(other, _)| other == partition).flat_map(|(_, ranges)| ranges);
                let end = waiting.ready.last().into_iter().chain(back).map(|(_, end)| *end).max();
                self.learn(*partition, waiting.floor, end, sizes).await?;
            }
        }
        let ranges = waiting.into_iter().map(|waiting| waiting.ready).collect();
        let mut oldest = Oldest { ranges, with_sizes: limits.bytes.is_some() };
        oldest.skip(self.shared.demand(queue.topic()));
        Some((oldest.ready(room), oldest))
    }

    /// What waits in each partition.
    async fn waiting_in(&self, queue: &Queue, partitions: &[PartitionId]) -> Option<Vec<Waiting>> {
        let ranges_max = RANGES_MAX;
        let request = PeekRequest { group: queue.group(), partitions: Some(partitions.to_vec()), ranges_max };
        let views = self.shared.core.peek(request).await.ok()?;
        let mut all = Vec::with_capacity(views.len());
        for (partition, view) in views {
            all.push(match view {
                Some(view) => Waiting { floor: view.floor, ready: ready_of(&view) },
                // Nobody has asked for anything yet.
                None => {
                    let bounds = self.shared.core.inspect(vec![partition]).await.pop()?.ok()?.bounds;
                    Waiting { floor: bounds.start_offset, ready: vec![(bounds.start_offset, bounds.end_offset)] }
                }
            });
        }
        Some(all)
    }

    /// Reads the sizes that are not known yet, up to `end`. Those of what is handed out are kept: it may come back.
    async fn learn(&self, partition: PartitionId, floor: u64, end: Option<u64>, sizes: &mut Sizes) -> Option<()> {
        let Some(end) = end else { return Some(()) };
        sizes.forget_before(floor);
        while sizes.next() < end {
            let batches = read::from(&self.shared.core, partition, sizes.next()).await.ok()?;
            let Some(last) = batches.last() else { break };
            for stored in batches.iter().flat_map(|batch| read::messages(batch, "")) {
                // What is missing in between was dropped by the log.
                while sizes.next() < stored.offset {
                    sizes.push(0);
                }
                if sizes.next() == stored.offset {
                    sizes.push(stored.message.body.len() as u64);
                }
            }
            while sizes.next() < last.header.next_offset() {
                sizes.push(0);
            }
        }
        Some(())
    }
}

/// The ready ranges of a map, rising: before `next` what is available, behind it everything.
pub(super) fn ready_of(view: &LeaseView) -> Vec<(u64, u64)> {
    let available = view.ranges.iter().filter(|range| range.state == RangeState::Available);
    let mut ranges: Vec<(u64, u64)> = available.map(|range| (range.first, range.last + 1)).collect();
    if view.next < view.end {
        ranges.push((view.next, view.end));
    }
    ranges
}

/// A message that is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub partition: PartitionId,
    pub offset: u64,
    /// It is about to come back; else it is ready.
    pub is_returned: bool,
}

/// What waits in a partition.
struct Waiting {
    /// All before is settled.
    floor: u64,
    /// What is ready (first, before end), rising.
    ready: Vec<(u64, u64)>,
}

/// Where the ready messages of a queue are, by partition.
struct Oldest {
    ranges: Vec<Vec<(u64, u64)>>,
    with_sizes: bool,
}

impl Oldest {
    fn ready(&self, room: &Room) -> Ready {
        let messages = self.ranges.iter().flatten().map(|(first, end)| end - first).sum();
        let of = |(at, ranges): (usize, &Vec<(u64, u64)>)| -> u64 {
            ranges.iter().map(|(first, end)| room.sizes[at].bytes(*first, *end)).sum()
        };
        let bytes = if self.with_sizes { self.ranges.iter().enumerate().map(of).sum() } else { 0 };
        Ready { messages, bytes }
    }

    /// Leaves out the first so many.
    fn skip(&mut self, mut messages: u64) {
        for ranges in self.ranges.iter_mut().rev() {
            for range in ranges.iter_mut() {
                let skipped = messages.min(range.1 - range.0);
                range.0 += skipped;
                messages -= skipped;
            }
            ranges.retain(|range| range.0 < range.1);
        }
    }

    /// With these ranges, which are not among them.
    fn add(&mut self, partitions: &[PartitionId], back: &[(PartitionId, Vec<(u64, u64)>)]) {
        for (partition, ranges) in back {
            let Some(at) = partitions.iter().position(|other| other == partition) else { continue };
            self.ranges[at].extend_from_slice(ranges);
            self.ranges[at].sort_unstable();
        }
    }

    /// Where they are, in the order of [`Oldest::bodies`].
    fn spots<'a>(&'a self, partitions: &'a [PartitionId]) -> impl Iterator<Item = (PartitionId, u64)> + 'a {
        let of = |(partition, ranges): (&'a PartitionId, &'a Vec<(u64, u64)>)| {
            ranges.iter().flat_map(move |(first, end)| (*first..*end).map(move |offset| (*partition, offset)))
        };
        partitions.iter().zip(&self.ranges).rev().flat_map(of)
    }

    /// The sizes of the bodies, oldest first, the highest priority first.
    fn bodies<'a>(&'a self, room: &'a Room) -> impl Iterator<Item = u64> + 'a {
        let size = |at: usize, offset: u64| match self.with_sizes {
            true => room.sizes[at].bytes(offset, offset + 1),
            false => 0,
        };
        let of = move |(at, ranges): (usize, &'a Vec<(u64, u64)>)| {
            ranges.iter().flat_map(move |(first, end)| (*first..*end).map(move |offset| size(at, offset)))
        };
        self.ranges.iter().enumerate().rev().flat_map(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_get_the_oldest_first() {
        let mut sizes = Sizes::new(0);
        (1..=10).for_each(|bytes| sizes.push(bytes));
        let room = Room { sizes: vec![sizes.clone(), sizes] };
        let mut oldest = Oldest { ranges: vec![vec![(0, 2), (5, 7)], vec![(8, 10)]], with_sizes: true };
        assert_eq!(oldest.ready(&room), Ready { messages: 6, bytes: 1 + 2 + 6 + 7 + 9 + 10 });
        assert_eq!(oldest.bodies(&room).collect::<Vec<_>>(), [9, 10, 1, 2, 6, 7]);
        oldest.skip(3);
        assert_eq!(oldest.bodies(&room).collect::<Vec<_>>(), [2, 6, 7]);
        let partitions = [0, 1].map(|index| PartitionId { topic: core_rpc::TopicId(1), index });
        oldest.add(&partitions, &[(partitions[0], vec![(0, 1), (3, 4)])]);
        assert_eq!(oldest.bodies(&room).collect::<Vec<_>>(), [1, 2, 4, 6, 7]);
        let spots: Vec<u64> = oldest.spots(&partitions).map(|(_, offset)| offset).collect();
        assert_eq!(spots, [0, 1, 3, 5, 6]);
        oldest.skip(9);
        assert_eq!(oldest.ready(&room), Ready::default());
    }
}
