//! Lease maps: which messages a group has settled and who holds which (contract: [`core_rpc::lease`]).
//!
//! A map ([`map`], pure) lives in its partition's shard. Acquiring changes it in place and is never written
//! ([`acquire`]). Everything that ends a lease, be it a settle, a release, a session's end or the clock, goes through the
//! shard's writer ([`staged`]): the ranges are locked, an entry says what they become ([`record`]), and when that is
//! kept it is done. So the journal has these changes in the order in which they happened. What ended without anybody
//! waiting for it is written, but not synced for.
//!
//! What is delayed keeps its place in the map, which knows when the next of it is due; while somebody waits for it, so does
//! the shard's writer, which then makes it available and wakes them. After a restart the maps know it from their snapshots
//! and the journal, or read it again in the batches' headers.

pub mod acquire;
pub mod ahead;
pub mod map;
pub mod record;
pub mod runs;
pub mod staged;
pub mod verbs;

#[cfg(test)]
mod tests;

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use core_rpc::{GroupName, PartitionId, TopicId};
use parking_lot::{Mutex, MutexGuard};

use crate::clock::Clock;
use crate::wait::Waiter;
use ahead::Ahead;
use map::LeaseMap;
use record::{LeaseImage, SeekBody, SettleBody};

/// All lease maps of one shard.
#[derive(Default)]
pub struct Leases {
    /// The shard's number.
    shard: u32,
    by_group: Mutex<HashMap<GroupName, HashMap<PartitionId, Arc<LeaseSlot>>>>,
    /// When the writer has to look at a map, soonest first. Some are out of date: then it finds nothing.
    deadlines: Mutex<BinaryHeap<Reverse<Deadline>>>,
}

/// The place of one map.
pub struct LeaseSlot {
    pub group: GroupName,
    pub partition: PartitionId,
    /// The number of its shard.
    pub shard: u32,
    state: Mutex<SlotState>,
    /// Held while somebody acquires: the next one finds what is left.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
pub struct SlotState {
    pub map: LeaseMap,
    /// The map is forgotten, or its topic is gone.
    pub removed: bool,
    /// The shard has ended: nothing more is leased.
    pub ended: bool,
    /// What was read for this map last and is not leased yet.
    ahead: Option<Ahead>,
    /// When the writer is to look for what was delayed, by the clock's [`Clock::elapsed`].
    timer: Option<Duration>,
    /// With the slot of its request that this map is.
    waiting: Vec<(Arc<Waiter>, u32)>,
}

struct Deadline {
    at: Duration,
    slot: Weak<LeaseSlot>,
}

/// Messages that fall due sooner after each other than this do so together.
const DELAY_STEP: Duration = Duration::from_millis(5);

/// When a time of day is, by the clock's [`Clock::elapsed`].
fn due_at(until_ms: i64, clock: &dyn Clock) -> Duration {
    let wait_ms = until_ms.saturating_sub(clock.now_ms()).max(0);
    clock.elapsed().saturating_add(Duration::from_millis(wait_ms as u64))
}

impl Leases {
    pub fn new(shard: u32) -> Leases {
        Leases { shard, ..Leases::default() }
    }

    pub fn get(&self, group: &GroupName, partition: PartitionId) -> Option<Arc<LeaseSlot>> {
        self.by_group.lock().get(group)?.get(&partition).cloned()
    }

    /// Does what a seek says, once it is kept. Returns the floor.
    pub fn seek(&self, partition: PartitionId, body: &SeekBody) -> u64 {
        let slot = self.slot(&body.group, partition, |slot| {
            slot.lock().map.reset(body.floor);
        });
        let mut state = slot.lock();
        if !body.if_absent {
            state.map.reset(body.floor);
            state.wake();
        }
        state.map.floor()
    }

    fn slot(&self, group: &GroupName, partition: PartitionId, begin: impl FnOnce(&LeaseSlot)) -> Arc<LeaseSlot> {
        let mut by_group = self.by_group.lock();
        if let Some(slot) = by_group.get(group).and_then(|maps| maps.get(&partition)) {
            return slot.clone();
        }
        let maps = by_group.entry(group.clone()).or_default();
        let new = || {
            let (state, turn) = (Mutex::default(), tokio::sync::Mutex::default());
            let slot = Arc::new(LeaseSlot { group: group.clone(), partition, shard: self.shard, state, turn });
            begin(&slot);
            slot
        };
        maps.entry(partition).or_insert_with(new).clone()
    }

    /// Replays a settle.
    pub fn settle(&self, partition: PartitionId, body: &SettleBody) {
        let slot = self.slot(&body.group, partition, |_| {});
        let mut state = slot.lock();
        body.marks.iter().for_each(|marked| state.map.mark(marked));
        state.map.add_totals(body.accepted, body.rejected);
        state.map.apply(&map::Settling::default());
        state.map.raise_floor(body.floor);
    }

    pub fn forget(&self, group: &GroupName, partition: PartitionId) {
        let mut by_group = self.by_group.lock();
        let Some(maps) = by_group.get_mut(group) else { return };
        let removed = maps.remove(&partition);
        if maps.is_empty() {
            by_group.remove(group);
        }
        drop(by_group);
        removed.iter().for_each(|slot| slot.remove());
    }

    /// Forgets all maps on a topic.
    pub fn forget_topic(&self, topic: TopicId) {
        let mut removed = Vec::new();
        self.by_group.lock().retain(|_, maps| {
            removed.extend(maps.extract_if(|partition, _| partition.topic == topic).map(|(_, slot)| slot));
            !maps.is_empty()
        });
        removed.iter().for_each(|slot| slot.remove());
    }

    pub fn of_group(&self, group: &GroupName) -> Vec<Arc<LeaseSlot>> {
        self.by_group.lock().get(group).into_iter().flat_map(|maps| maps.values().cloned()).collect()
    }

    pub fn all(&self) -> Vec<Arc<LeaseSlot>> {
        self.by_group.lock().values().flat_map(|maps| maps.values().cloned()).collect()
    }

    /// Adds the names of a namespace's groups that have a map.
    pub fn groups(&self, namespace: &str, names: &mut BTreeSet<String>) {
        let by_group = self.by_group.lock();
        let groups = by_group.keys().filter(|group| group.namespace == namespace);
        names.extend(groups.map(|group| group.group.clone()));
    }

    /// For a snapshot, in order.
    pub fn entries(&self) -> Vec<(GroupName, PartitionId, LeaseImage)> {
        let of = |slot: &Arc<LeaseSlot>| (slot.group.clone(), slot.partition, slot.lock().map.snapshot());
        let mut entries: Vec<_> = self.all().iter().map(of).collect();
        entries.sort_unstable_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        entries
    }

    /// Nothing more is leased. Returns of each map before where messages may be out that a snapshot does not count.
    pub fn end(&self) -> Vec<(GroupName, PartitionId, u64)> {
        let end = |slot: &Arc<LeaseSlot>| {
            let mut state = slot.lock();
            state.ended = true;
            (slot.group.clone(), slot.partition, state.map.uncounted_at_end())
        };
        self.all().iter().map(end).collect()
    }

    /// Puts back an entry of a snapshot.
    pub fn restore(&self, group: &GroupName, partition: PartitionId, image: LeaseImage) {
        let slot = self.slot(group, partition, |_| {});
        slot.lock().map = LeaseMap::restore(image);
    }

    /// Has a map looked at when the clock says `at`. True: sooner than anything else, so the writer must be woken.
    pub fn expire_at(&self, at: Duration, slot: &Arc<LeaseSlot>) -> bool {
        let mut deadlines = self.deadlines.lock();
        let soonest = deadlines.peek().is_none_or(|Reverse(first)| at < first.at);
        deadlines.push(Reverse(Deadline { at, slot: Arc::downgrade(slot) }));
        soonest
    }

    /// Has what is delayed in a map looked at when it is due. True: the writer must be woken.
    pub fn watch_delays(&self, slot: &Arc<LeaseSlot>, clock: &dyn Clock) -> bool {
        let mut state = slot.lock();
        let Some(soonest_ms) = state.map.soonest_ms() else { return false };
        let at = due_at(soonest_ms, clock);
        if state.timer.is_some_and(|timer| timer <= at.saturating_add(DELAY_STEP)) {
            return false;
        }
        state.timer = Some(at);
        self.expire_at(at, slot)
    }

    /// Makes available what was delayed until now, if it is time to look, and has the rest looked at later.
    pub fn mature(&self, slot: &Arc<LeaseSlot>, clock: &dyn Clock) {
        let (now, now_ms) = (clock.elapsed(), clock.now_ms());
        let mut state = slot.lock();
        if state.timer.is_none_or(|timer| timer > now) {
            return;
        }
        if state.map.mature(now_ms) {
            state.wake();
        }
        // Should the time of day have been set back, it is not due yet.
        let next =
            state.map.soonest_ms().map(|soonest_ms| due_at(soonest_ms, clock).max(now.saturating_add(DELAY_STEP)));
        state.timer = next;
        if let Some(at) = next {
            self.expire_at(at, slot);
        }
    }

    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.lock().peek().map(|Reverse(first)| first.at)
    }

    /// Takes out the maps that are due, each once.
    pub fn take_due(&self, now: Duration) -> Vec<Arc<LeaseSlot>> {
        let mut due: Vec<Arc<LeaseSlot>> = Vec::new();
        let mut known = HashSet::new();
        let mut deadlines = self.deadlines.lock();
        while let Some(Reverse(first)) = deadlines.peek()
            && first.at <= now
        {
            let slot = deadlines.pop().and_then(|Reverse(first)| first.slot.upgrade());
            due.extend(slot.filter(|slot| known.insert(Arc::as_ptr(slot))));
        }
        due
    }
}

impl LeaseSlot {
    pub fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock()
    }

    /// Registers a waiter: it is woken when something may be acquired that could not before.
    fn wait(&self, waiter: &Arc<Waiter>, slot: u32) {
        let mut state = self.lock();
        if state.removed {
            waiter.wake(slot);
        }
        state.waiting.push((waiter.clone(), slot));
    }

    fn unwait(&self, waiter: &Arc<Waiter>) {
        self.lock().waiting.retain(|(other, _)| !Arc::ptr_eq(other, waiter));
    }

    fn remove(&self) {
        let mut state = self.lock();
        state.removed = true;
        state.ahead = None;
        state.wake();
    }
}

impl SlotState {
    pub fn wake(&self) {
        self.waiting.iter().for_each(|(waiter, slot)| waiter.wake(*slot));
    }
}

impl PartialEq for Deadline {
    fn eq(&self, other: &Deadline) -> bool {
        self.at == other.at
    }
}

impl Eq for Deadline {}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Deadline) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Deadline {
    fn cmp(&self, other: &Deadline) -> Ordering {
        self.at.cmp(&other.at)
    }
}
