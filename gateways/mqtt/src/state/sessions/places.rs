//! References: messages that wait for a session without their bytes, in 16 bytes for one or for many.
//!
//! ```text
//! partition (24 bits, an index into the gateway's table) │ identifiers (20, an index) │ retain (1) │ QoS (2) │ messages - 1 (17) │ offset (64)
//! ```
//! Messages that lie one behind the other and are wanted alike are one reference. So what waits of a filter that takes a whole topic is
//! a position and a length, however much it is, and nothing has to know that the filter does: whoever is left out (the client's
//! own, another QoS) ends a reference, and the next begins one.

use std::collections::HashMap;

use codec_mqtt::QoS;
use core_rpc::PartitionId;
use parking_lot::RwLock;

use super::delivery::{Place, SubscriptionIds};

/// Where messages lie that wait, and how they are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    packed: u64,
    /// Of the first.
    pub offset: u64,
}

const COUNT_BITS: u32 = 17;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const RETAIN: u64 = 1 << (COUNT_BITS + 2);
const IDS_SHIFT: u32 = COUNT_BITS + 3;
const IDS_BITS: u32 = 20;
const PARTITION_SHIFT: u32 = IDS_SHIFT + IDS_BITS;
const PARTITIONS_MAX: u32 = 1 << (64 - PARTITION_SHIFT);

/// The most messages of one reference.
const COUNT_MAX: u64 = COUNT_MASK + 1;

impl Reference {
    /// The index of its subscription identifiers ([`IdTable`]).
    pub fn ids(self) -> u32 {
        (self.packed >> IDS_SHIFT) as u32 & ((1 << IDS_BITS) - 1)
    }

    pub fn qos(self) -> QoS {
        QoS::of((self.packed >> COUNT_BITS) as u8 & 3).unwrap_or_default()
    }

    pub fn retain(self) -> bool {
        self.packed & RETAIN != 0
    }

    /// How many messages it stands for, at least one.
    pub fn count(self) -> u64 {
        (self.packed & COUNT_MASK) + 1
    }

    /// This and the next as one, where they are.
    pub fn joined(self, next: Reference) -> Option<Reference> {
        let count = self.count() + next.count();
        let is_next = self.packed & !COUNT_MASK == next.packed & !COUNT_MASK
            && self.offset.checked_add(self.count()) == Some(next.offset)
            && count <= COUNT_MAX;
        is_next.then(|| self.with_count(count))
    }

    /// The first of so many messages, of which each is the next: as few references as can be.
    pub fn repeated(self, messages: u64) -> impl Iterator<Item = Reference> {
        let starts = (0..messages).step_by(COUNT_MAX as usize);
        starts.map(move |start| Reference {
            offset: self.offset.saturating_add(start),
            ..self.with_count((messages - start).min(COUNT_MAX))
        })
    }

    /// Without its first messages. None: nothing is left.
    pub fn without(self, first: u64) -> Option<Reference> {
        let left = self.count().checked_sub(first).filter(|left| *left > 0)?;
        Some(Reference { offset: self.offset + first, ..self.with_count(left) })
    }

    /// `count`: 1 to [`COUNT_MAX`].
    fn with_count(self, count: u64) -> Reference {
        Reference { packed: self.packed & !COUNT_MASK | (count - 1) & COUNT_MASK, ..self }
    }
}

/// The partitions that references of this gateway name.
#[derive(Debug, Default)]
pub struct Places {
    state: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_index: Vec<PartitionId>,
    by_id: HashMap<PartitionId, u32>,
}

impl Places {
    /// One message. None: this gateway has seen more partitions than references can tell apart.
    pub fn reference(&self, place: Place, qos: QoS, retain: bool, ids: u32) -> Option<Reference> {
        let partition = u64::from(self.index(place.partition)?) << PARTITION_SHIFT;
        let how = (qos as u64) << COUNT_BITS | if retain { RETAIN } else { 0 } | u64::from(ids) << IDS_SHIFT;
        Some(Reference { packed: partition | how, offset: place.offset })
    }

    /// Of the first message.
    pub fn place(&self, reference: Reference) -> Place {
        let index = (reference.packed >> PARTITION_SHIFT) as usize;
        // Every reference was made here, and nothing is ever taken out.
        Place { partition: self.state.read().by_index[index], offset: reference.offset }
    }

    fn index(&self, partition: PartitionId) -> Option<u32> {
        if let Some(&index) = self.state.read().by_id.get(&partition) {
            return Some(index);
        }
        let mut state = self.state.write();
        if let Some(&index) = state.by_id.get(&partition) {
            return Some(index);
        }
        let next = u32::try_from(state.by_index.len()).ok().filter(|next| *next < PARTITIONS_MAX)?;
        state.by_id.insert(partition, next);
        state.by_index.push(partition);
        Some(next)
    }
}

/// The lists of subscription identifiers that a session's references have. A client uses few.
#[derive(Debug, Default)]
pub struct IdTable {
    lists: Vec<SubscriptionIds>,
    by_list: HashMap<SubscriptionIds, u32>,
}

/// So many lists a reference can tell apart, but for none; what is more goes without identifiers.
const LISTS_MAX: usize = (1 << IDS_BITS) - 1;

impl IdTable {
    /// 0 is none.
    pub fn index(&mut self, ids: &SubscriptionIds) -> u32 {
        if *ids == SubscriptionIds::None {
            return 0;
        }
        if let Some(&index) = self.by_list.get(ids) {
            return index;
        }
        if self.lists.len() >= LISTS_MAX {
            return 0;
        }
        self.lists.push(ids.clone());
        let index = self.lists.len() as u32;
        self.by_list.insert(ids.clone(), index);
        index
    }

    pub fn list(&self, index: u32) -> SubscriptionIds {
        match index {
            0 => SubscriptionIds::None,
            more => self.lists.get(more as usize - 1).cloned().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use core_rpc::TopicId;

    use super::*;

    #[test]
    fn messages_that_lie_behind_each_other_are_one_reference() {
        let places = Places::default();
        let partition = |index| PartitionId { topic: TopicId(9), index };
        let one = |index, offset, qos, ids| {
            places.reference(Place { partition: partition(index), offset }, qos, true, ids).unwrap()
        };
        let first = one(1, 40, QoS::ExactlyOnce, 77);
        assert_eq!((first.qos(), first.retain(), first.ids(), first.count()), (QoS::ExactlyOnce, true, 77, 1));
        assert_eq!(places.place(first), Place { partition: partition(1), offset: 40 });
        let both = first.joined(one(1, 41, QoS::ExactlyOnce, 77)).unwrap();
        assert_eq!((both.offset, both.count(), both.qos(), both.ids()), (40, 2, QoS::ExactlyOnce, 77));
        for other in [
            one(1, 43, QoS::ExactlyOnce, 77),
            one(1, 42, QoS::AtLeastOnce, 77),
            one(1, 42, QoS::ExactlyOnce, 78),
            one(2, 42, QoS::ExactlyOnce, 77),
        ] {
            assert_eq!(both.joined(other), None);
        }
        assert_eq!(both.without(1).unwrap(), one(1, 41, QoS::ExactlyOnce, 77));
        assert_eq!(both.without(2), None);
        // A million, and none is lost where one reference is full.
        let mut all = vec![one(0, 0, QoS::AtLeastOnce, 0)];
        for offset in 1..1_000_000 {
            let next = one(0, offset, QoS::AtLeastOnce, 0);
            match all.last().and_then(|last| last.joined(next)) {
                Some(joined) => *all.last_mut().unwrap() = joined,
                None => all.push(next),
            }
        }
        assert_eq!((all.len(), size_of_val(&all[..])), (8, 128));
        assert_eq!(all.iter().map(|one| one.count()).sum::<u64>(), 1_000_000);
        assert_eq!(one(0, 0, QoS::AtLeastOnce, 0).repeated(1_000_000).collect::<Vec<_>>(), all);
    }
}
