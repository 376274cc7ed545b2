//! What a connection publishes in one read round, on its way to the core: for each queue one batch of many messages.
//!
//! ```text
//! publishes  ─► slots     a batch each, for one partition, or for several that get the very same messages (fanout)
//!            └► segments  runs of publishes of one channel that went into the same slots: what is confirmed together
//! ```
//! A queue's messages stand in its slots in the order in which they were published, and the slots are appended in theirs.
//! Where a queue gets some messages alone and others with its like, it has a slot for each.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codec_record::Batch;
use codec_record::amqp_message::{MessageParts, Writer};
use core_rpc::PartitionId;

use crate::state::lifecycle::Piece;
use crate::state::topology::Queue;

/// Where messages go.
#[derive(Clone, Debug)]
pub struct Target {
    pub queue: Arc<Queue>,
    pub partition: PartitionId,
    /// Asks for room first (see `Lifecycle::admit`).
    pub is_limited: bool,
}

/// Where messages of one route and priority go, and their slots in the round that is being gathered.
#[derive(Debug)]
pub struct Way {
    pub targets: Arc<[Target]>,
    slots: Vec<u32>,
    /// Until the round's epoch is another.
    epoch: u64,
}

impl Way {
    pub fn new(targets: Arc<[Target]>) -> Way {
        Way { targets, slots: Vec::new(), epoch: 0 }
    }
}

/// A batch to be, and where it goes.
#[derive(Debug)]
pub struct Slot {
    pub targets: Arc<[Target]>,
    writer: Writer,
    /// When the first of its messages expires by itself, ms since the Unix epoch.
    pub expires_ms: Option<i64>,
    /// The sizes of the bodies, where a target is limited.
    pub bodies: Vec<u64>,
    /// A message that is held back, instead of a batch.
    pub held: Option<Held>,
}

/// A message that a delayed exchange holds back.
#[derive(Debug)]
pub struct Held {
    pub vhost: Arc<str>,
    pub piece: Piece,
    /// Ms since the Unix epoch.
    pub due_ms: i64,
}

impl Slot {
    fn new(targets: Arc<[Target]>) -> Slot {
        Slot { targets, writer: Writer::new(), expires_ms: None, bodies: Vec::new(), held: None }
    }

    /// Its messages arrive now, whenever they were published.
    pub fn arrive_at(&mut self, time_ms: i64) {
        self.expires_ms = self.writer.arrive_at(time_ms);
    }

    /// The batch, if there is one.
    pub fn take_batch(&mut self) -> Option<Batch> {
        self.writer.take()
    }
}

/// A run of publishes of one channel that share a fate.
#[derive(Clone, Debug)]
pub struct Segment {
    pub channel: u16,
    /// The channel's life: its number may be used again.
    pub life: u64,
    /// The number of the first; 0: they are not confirmed.
    pub first: u64,
    pub count: u32,
    /// In the round's parts.
    pub parts: Range<u32>,
}

/// The place of a segment's first message in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub slot: u32,
    pub position: u32,
}

/// Who publishes: the channel, its life, and the publish's number (0: not confirmed).
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub channel: u16,
    pub life: u64,
    pub number: u64,
}

/// What is gathered.
#[derive(Debug, Default)]
pub struct Round {
    pub slots: Vec<Slot>,
    pub segments: Vec<Segment>,
    pub parts: Vec<Part>,
    /// The slot in which a partition's last message stands.
    last: HashMap<PartitionId, u32>,
    /// Changes when a way's slots are to be looked up again. Never 0, never again what it was, and never another round's: a way
    /// may be used in several (a transaction has its own).
    epoch: u64,
    /// Of all messages, as they are stored.
    pub bytes: usize,
    /// Something is to be asked for before it is appended.
    pub is_slow: bool,
}

/// An epoch that no round of this process has had.
fn next_epoch() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl Round {
    pub fn new() -> Round {
        Round { epoch: next_epoch(), ..Round::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The round, and an empty one in its place.
    pub fn take(&mut self) -> Round {
        std::mem::replace(self, Round::new())
    }

    /// Adds a message.
    pub fn put(&mut self, origin: Origin, way: &mut Way, message: &MessageParts<'_>) {
        if way.epoch != self.epoch {
            self.find_slots(way);
        }
        let is_next = self.continues(origin, &way.slots);
        if !is_next {
            self.begin_segment(origin, &way.slots);
        }
        for slot in &way.slots {
            let slot = &mut self.slots[*slot as usize];
            let before = slot.writer.bytes();
            slot.writer.append_parts(message);
            self.bytes += (slot.writer.bytes() - before) * slot.targets.len();
            if let Some(expires_ms) = message.expires_ms {
                slot.expires_ms = Some(slot.expires_ms.map_or(expires_ms, |first| first.min(expires_ms)));
            }
            if slot.targets.iter().any(|target| target.is_limited) {
                slot.bodies.push(message.body.len() as u64);
                self.is_slow = true;
            }
        }
    }

    /// Adds a message that is held back.
    pub fn hold(&mut self, origin: Origin, held: Held) {
        self.bytes += held.piece.body.len() + held.piece.properties.raw().len();
        self.is_slow = true;
        let mut slot = Slot::new(Arc::new([]));
        slot.held = Some(held);
        self.slots.push(slot);
        let at = self.slots.len() as u32 - 1;
        self.begin_segment(origin, &[at]);
    }

    /// Notes a publish that goes nowhere, and is confirmed in its turn.
    pub fn put_nowhere(&mut self, origin: Origin) {
        if !self.continues(origin, &[]) {
            self.begin_segment(origin, &[]);
        }
    }

    /// Lengthens the last segment, if the publish belongs to it.
    fn continues(&mut self, origin: Origin, slots: &[u32]) -> bool {
        let Some(last) = self.segments.last_mut() else { return false };
        let parts = &self.parts[last.parts.start as usize..last.parts.end as usize];
        let same = last.channel == origin.channel
            && last.life == origin.life
            && (last.first == 0) == (origin.number == 0)
            && parts.len() == slots.len()
            && parts.iter().zip(slots).all(|(part, slot)| part.slot == *slot);
        if same {
            last.count += 1;
        }
        same
    }

    fn begin_segment(&mut self, origin: Origin, slots: &[u32]) {
        let start = self.parts.len() as u32;
        for slot in slots {
            self.parts.push(Part { slot: *slot, position: self.slots[*slot as usize].writer.count() });
        }
        let Origin { channel, life, number } = origin;
        let parts = start..self.parts.len() as u32;
        self.segments.push(Segment { channel, life, first: number, count: 1, parts });
    }

    fn find_slots(&mut self, way: &mut Way) {
        way.slots.clear();
        let targets = &way.targets;
        let lasts = |round: &Round, target: &Target| round.last.get(&target.partition).copied();
        if let [target] = &targets[..] {
            let slot = self.slot_alone(target, Some(targets));
            way.slots.push(slot);
        } else if targets.iter().all(|target| lasts(self, target).is_none()) && !targets.iter().any(|t| t.is_limited) {
            let slot = self.add_slot(targets.clone());
            way.slots.push(slot);
        } else {
            // All have the same last slot, and that has no others; or else each for itself.
            let shared = lasts(self, &targets[0]).filter(|slot| {
                let slot_targets = &self.slots[*slot as usize].targets;
                slot_targets.len() == targets.len()
                    && slot_targets.iter().zip(targets.iter()).all(|(one, other)| one.partition == other.partition)
                    && targets.iter().all(|target| lasts(self, target) == Some(*slot))
            });
            match shared {
                Some(slot) => way.slots.push(slot),
                None => {
                    for target in targets.iter() {
                        let slot = self.slot_alone(target, None);
                        way.slots.push(slot);
                    }
                }
            }
        }
        // What is found now holds until the next change.
        way.epoch = self.epoch;
    }

    /// The slot in which messages for this partition alone are gathered.
    fn slot_alone(&mut self, target: &Target, targets: Option<&Arc<[Target]>>) -> u32 {
        match self.last.get(&target.partition) {
            Some(slot) if self.slots[*slot as usize].targets.len() == 1 => *slot,
            _ => self.add_slot(targets.cloned().unwrap_or_else(|| Arc::new([target.clone()]))),
        }
    }

    fn add_slot(&mut self, targets: Arc<[Target]>) -> u32 {
        let at = self.slots.len() as u32;
        for target in targets.iter() {
            if self.last.insert(target.partition, at).is_some() {
                // Ways that found the former slot must look again.
                self.epoch = next_epoch();
            }
        }
        self.slots.push(Slot::new(targets));
        at
    }
}
