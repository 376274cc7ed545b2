//! What a channel has delivered and its client has not settled, by delivery tag. Pure.
//!
//! Tags rise by one with every delivery, and are settled more or less in order: the entries lie in a queue by rising
//! tag, a settled one in the middle is only marked and goes when those before it have, or when such marks are the
//! greater part. So a message that is never acknowledged does not keep what comes behind it in memory.

use std::collections::VecDeque;

/// Marks are swept out from this many on, so that short queues are left alone.
const SWEEP_FROM: usize = 64;

/// A message at a client. 40 bytes: a prefetch of 65,535 on a thousand channels is a matter of gigabytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub tag: u64,
    pub offset: u64,
    /// From where it came: the channel's number for a consumer, or for a queue that was asked with basic.get.
    pub source: u32,
    /// Of the queue: its priority.
    pub partition: u32,
    /// How often the message was returned before this delivery.
    pub failures: u32,
    /// When it was delivered, seconds on the gateway's steady clock.
    pub delivered_s: u32,
    live: bool,
}

/// A tag that the channel never gave, or whose message is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown delivery tag {0}")]
pub struct UnknownTag(pub u64);

#[derive(Debug, Default)]
pub struct Unacked {
    /// By rising tag. The first is live.
    entries: VecDeque<Delivered>,
    live: usize,
    last_tag: u64,
}

impl Unacked {
    /// The tag for a delivery that needs no acknowledgement.
    pub fn next_tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    /// Keeps a delivery; returns its tag.
    pub fn deliver(&mut self, source: u32, partition: u32, offset: u64, failures: u32, now_s: u32) -> u64 {
        let tag = self.next_tag();
        self.entries.push_back(Delivered { tag, offset, source, partition, failures, delivered_s: now_s, live: true });
        self.live += 1;
        tag
    }

    /// How many messages the client has.
    pub fn len(&self) -> usize {
        self.live
    }

    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Takes out what a client settles, oldest first: with `multiple` all up to the tag (0: all there is). As RabbitMQ
    /// does, `multiple` up to a tag that is not there is an error too, and then nothing is taken.
    pub fn settle(&mut self, tag: u64, multiple: bool, mut taken: impl FnMut(&Delivered)) -> Result<(), UnknownTag> {
        if multiple && tag == 0 {
            self.drain(taken);
            return Ok(());
        }
        // The usual case first: the oldest is settled.
        let at = match self.entries.front() {
            Some(front) if front.tag == tag => 0,
            _ => self.entries.binary_search_by_key(&tag, |entry| entry.tag).map_err(|_| UnknownTag(tag))?,
        };
        if !self.entries[at].live {
            return Err(UnknownTag(tag));
        }
        if multiple {
            for entry in self.entries.drain(..=at).filter(|entry| entry.live) {
                self.live -= 1;
                taken(&entry);
            }
        } else {
            taken(&self.entries[at]);
            self.live -= 1;
            self.entries[at].live = false;
        }
        self.tidy();
        Ok(())
    }

    /// Takes out everything, oldest first: the channel closes, or recovers.
    pub fn drain(&mut self, mut taken: impl FnMut(&Delivered)) {
        self.entries.drain(..).filter(|entry| entry.live).for_each(|entry| taken(&entry));
        self.live = 0;
        self.give_back();
    }

    /// Puts back what was taken out, as if it had not been: a transaction is rolled back.
    pub fn restore(&mut self, taken: Vec<Delivered>) {
        for entry in taken {
            let entry = Delivered { live: true, ..entry };
            match self.entries.binary_search_by_key(&entry.tag, |entry| entry.tag) {
                Ok(at) if self.entries[at].live => continue,
                Ok(at) => self.entries[at] = entry,
                Err(at) => self.entries.insert(at, entry),
            }
            self.live += 1;
        }
    }

    /// What the client has, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Delivered> {
        self.entries.iter().filter(|entry| entry.live)
    }

    fn tidy(&mut self) {
        while self.entries.front().is_some_and(|entry| !entry.live) {
            self.entries.pop_front();
        }
        let marks = self.entries.len() - self.live;
        if marks >= SWEEP_FROM && marks > self.live {
            self.entries.retain(|entry| entry.live);
            self.give_back();
        }
    }

    /// Gives memory back that a burst needed.
    fn give_back(&mut self) {
        if self.entries.capacity() > 4 * self.entries.len().max(SWEEP_FROM) {
            self.entries.shrink_to(2 * self.entries.len().max(SWEEP_FROM / 2));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn settle(unacked: &mut Unacked, tag: u64, multiple: bool) -> Result<Vec<u64>, UnknownTag> {
        let mut offsets = Vec::new();
        unacked.settle(tag, multiple, |entry| offsets.push(entry.offset)).map(|()| offsets)
    }

    #[test]
    fn a_tag_is_settled_once() {
        let mut unacked = Unacked::default();
        for offset in 10..15 {
            unacked.deliver(0, 0, offset, 0, 0);
        }
        assert_eq!(settle(&mut unacked, 3, false), Ok(vec![12]));
        assert_eq!(settle(&mut unacked, 3, false), Err(UnknownTag(3)));
        assert_eq!(settle(&mut unacked, 3, true), Err(UnknownTag(3)));
        assert_eq!(settle(&mut unacked, 4, true), Ok(vec![10, 11, 13]));
        assert_eq!(settle(&mut unacked, 6, false), Err(UnknownTag(6)));
        assert_eq!(settle(&mut unacked, 0, false), Err(UnknownTag(0)));
        assert_eq!(settle(&mut unacked, 0, true), Ok(vec![14]));
        assert_eq!(settle(&mut unacked, 0, true), Ok(Vec::new()));
        assert!(unacked.is_empty());
    }

    #[test]
    fn tags_without_acknowledgement_are_unknown() {
        let mut unacked = Unacked::default();
        assert_eq!(unacked.next_tag(), 1);
        assert_eq!(unacked.deliver(0, 0, 7, 0, 0), 2);
        assert_eq!(settle(&mut unacked, 1, false), Err(UnknownTag(1)));
        assert_eq!(settle(&mut unacked, 2, false), Ok(vec![7]));
    }

    #[test]
    fn what_is_put_back_is_where_it_was() {
        let mut unacked = Unacked::default();
        for offset in 10..15 {
            unacked.deliver(0, 0, offset, 0, 0);
        }
        let mut taken = Vec::new();
        unacked.settle(2, true, |entry| taken.push(*entry)).unwrap();
        unacked.settle(4, false, |entry| taken.push(*entry)).unwrap();
        unacked.restore(taken.clone());
        unacked.restore(taken);
        assert_eq!(unacked.len(), 5);
        assert_eq!(settle(&mut unacked, 4, true), Ok(vec![10, 11, 12, 13]));
    }

    #[test]
    fn one_old_message_keeps_no_memory() {
        let mut unacked = Unacked::default();
        unacked.deliver(0, 0, 0, 0, 0);
        for offset in 1..100_000 {
            let tag = unacked.deliver(0, 0, offset, 0, 0);
            assert_eq!(settle(&mut unacked, tag, false), Ok(vec![offset]));
        }
        assert!(unacked.entries.capacity() < 1024, "{}", unacked.entries.capacity());
        assert_eq!(unacked.len(), 1);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Deliver,
        DeliverWithoutAck,
        Settle { tag: u64, multiple: bool },
        Drain,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => Just(Step::Deliver),
            1 => Just(Step::DeliverWithoutAck),
            6 => (0u64..300, prop::bool::weighted(0.2)).prop_map(|(tag, multiple)| Step::Settle { tag, multiple }),
            1 => Just(Step::Drain),
        ]
    }

    proptest! {
        #[test]
        fn as_a_map_from_tags_would_do(steps in prop::collection::vec(step(), 0..400)) {
            let mut unacked = Unacked::default();
            let mut model: BTreeMap<u64, u64> = BTreeMap::new();
            for (offset, step) in steps.into_iter().enumerate() {
                let offset = offset as u64;
                match step {
                    Step::Deliver => drop(model.insert(unacked.deliver(1, 0, offset, 0, 0), offset)),
                    Step::DeliverWithoutAck => {
                        unacked.next_tag();
                    }
                    Step::Settle { tag, multiple } => {
                        let expected = if multiple && tag == 0 {
                            Ok(std::mem::take(&mut model).into_values().collect())
                        } else if !model.contains_key(&tag) {
                            Err(UnknownTag(tag))
                        } else if multiple {
                            let rest = model.split_off(&(tag + 1));
                            Ok(std::mem::replace(&mut model, rest).into_values().collect())
                        } else {
                            Ok(model.remove(&tag).into_iter().collect())
                        };
                        prop_assert_eq!(settle(&mut unacked, tag, multiple), expected);
                    }
                    Step::Drain => {
                        let mut offsets = Vec::new();
                        unacked.drain(|entry| offsets.push(entry.offset));
                        prop_assert_eq!(offsets, std::mem::take(&mut model).into_values().collect::<Vec<_>>());
                    }
                }
                prop_assert_eq!(unacked.len(), model.len());
                let left: Vec<(u64, u64)> = unacked.iter().map(|entry| (entry.tag, entry.offset)).collect();
                prop_assert_eq!(left, model.iter().map(|(tag, offset)| (*tag, *offset)).collect::<Vec<_>>());
            }
        }
    }
}
