//! What waits for a session without its bytes: references in order, counted in messages. Pure.

use std::collections::VecDeque;

use super::places::Reference;

#[derive(Debug, Default)]
pub struct Backlog {
    references: VecDeque<Reference>,
    messages: usize,
}

impl Backlog {
    /// How many messages.
    pub fn len(&self) -> usize {
        self.messages
    }

    /// What that takes, bytes.
    pub fn bytes(&self) -> usize {
        self.references.len() * size_of::<Reference>()
    }

    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = Reference> {
        self.references.iter().copied()
    }

    /// The last messages, in order.
    pub fn last(&self, messages: usize) -> impl Iterator<Item = Reference> {
        let (mut from, mut left) = (self.references.len(), messages as u64);
        let mut surplus = 0;
        while left > 0 && from > 0 {
            from -= 1;
            let count = self.references[from].count();
            surplus = count.saturating_sub(left);
            left = left.saturating_sub(count);
        }
        let last = self.references.range(from..).copied().enumerate();
        last.filter_map(move |(index, reference)| reference.without(if index == 0 { surplus } else { 0 }))
    }

    pub fn push_back(&mut self, reference: Reference) {
        self.messages += reference.count() as usize;
        match self.references.back_mut().and_then(|last| Some((last.joined(reference)?, last))) {
            Some((joined, last)) => *last = joined,
            None => self.references.push_back(reference),
        }
    }

    pub fn push_front(&mut self, reference: Reference) {
        self.messages += reference.count() as usize;
        match self.references.front_mut().and_then(|first| Some((reference.joined(*first)?, first))) {
            Some((joined, first)) => *first = joined,
            None => self.references.push_front(reference),
        }
    }

    /// Takes out the first messages.
    pub fn drop_front(&mut self, messages: usize) {
        let mut left = messages.min(self.messages);
        self.messages -= left;
        while let Some(first) = self.references.front_mut() {
            match first.without(left as u64) {
                Some(rest) => {
                    *first = rest;
                    return;
                }
                None => left -= first.count() as usize,
            }
            self.references.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use codec_mqtt::QoS;
    use core_rpc::{PartitionId, TopicId};

    use super::*;
    use crate::state::sessions::{Place, Places};

    #[test]
    fn what_is_taken_is_the_first() {
        let places = Places::default();
        let one = |offset| {
            let place = Place { partition: PartitionId { topic: TopicId(1), index: 0 }, offset };
            places.reference(place, QoS::AtLeastOnce, false, 0).unwrap()
        };
        let mut backlog = Backlog::default();
        [3, 4, 5, 9, 10].into_iter().for_each(|offset| backlog.push_back(one(offset)));
        [2, 1, 20].into_iter().for_each(|offset| backlog.push_front(one(offset)));
        let all =
            |backlog: &Backlog| -> Vec<(u64, u64)> { backlog.iter().map(|one| (one.offset, one.count())).collect() };
        assert_eq!((backlog.len(), all(&backlog)), (8, vec![(20, 1), (1, 5), (9, 2)]));
        backlog.drop_front(0);
        backlog.drop_front(3);
        assert_eq!((backlog.len(), all(&backlog)), (5, vec![(3, 3), (9, 2)]));
        let last = |backlog: &Backlog, messages| -> Vec<(u64, u64)> {
            backlog.last(messages).map(|one| (one.offset, one.count())).collect()
        };
        assert_eq!((last(&backlog, 0), last(&backlog, 1)), (vec![], vec![(10, 1)]));
        assert_eq!((last(&backlog, 2), last(&backlog, 4)), (vec![(9, 2)], vec![(4, 2), (9, 2)]));
        assert_eq!(last(&backlog, 99), all(&backlog));
        backlog.drop_front(3);
        assert_eq!((backlog.len(), all(&backlog)), (2, vec![(9, 2)]));
        backlog.drop_front(99);
        assert!(backlog.is_empty() && all(&backlog).is_empty());
    }
}
