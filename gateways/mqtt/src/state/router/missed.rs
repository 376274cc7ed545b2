//! What sessions that come from the log have missed of one topic, and who of them wants which names.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Adopted, routed_filter};
use crate::state::sessions::{Session, SessionKey, Wish};
use crate::state::trie::Trie;

/// Sessions that get what they missed, each from these offsets on.
pub(super) struct Missed {
    pub sessions: Vec<Adopted>,
}

/// What is to be read again.
pub(super) struct Reading {
    /// Of those that have missed something.
    trie: Trie<SessionKey, (Arc<Session>, Wish)>,
    begins: HashMap<(SessionKey, u32), u64>,
    /// Of each partition: where to begin, and where the tail is. Nothing is to be read where they are the same.
    pub from: Vec<u64>,
    pub to: Vec<u64>,
}

impl Reading {
    /// `may_match`: whether a filter may find something in the topic.
    ///
    /// Most sessions have missed nothing in most topics: with a hundred thousand filters, and hundreds of topics that some of them may
    /// match, it takes half a minute to go through all for each.
    pub fn new(sessions: &[Adopted], to: Vec<u64>, may_match: impl Fn(&str) -> bool) -> Reading {
        let (mut trie, mut begins, mut from) = (Trie::default(), HashMap::new(), to.clone());
        for (session, positions) in sessions {
            let mut has_missed = false;
            for (index, (from, to)) in from.iter_mut().zip(&to).enumerate() {
                let known = positions.iter().find(|(partition, _)| partition.index as usize == index);
                let begin = known.map_or(0, |(_, offset)| *offset);
                begins.insert((session.key, index as u32), begin);
                has_missed |= begin < *to;
                *from = begin.min(*from);
            }
            if !has_missed {
                continue;
            }
            for (filter, subscribed) in session.subscriptions() {
                if let Some(filter) = routed_filter(&filter).filter(|filter| may_match(filter)) {
                    trie.insert(filter, session.key, (session.clone(), subscribed.wish));
                }
            }
        }
        Reading { trie, begins, from, to }
    }

    /// Which of the sessions have missed a message, and how they want it.
    pub fn wishes(&self, name: &str, partition: u32, offset: u64) -> Vec<(Arc<Session>, Vec<Wish>)> {
        let mut wishes: HashMap<SessionKey, (Arc<Session>, Vec<Wish>)> = HashMap::new();
        self.trie.matches(name, &mut |key, (session, wish): &(Arc<Session>, Wish)| {
            if self.begins.get(&(*key, partition)).is_some_and(|begin| *begin <= offset) {
                wishes.entry(*key).or_insert_with(|| (session.clone(), Vec::new())).1.push(*wish);
            }
        });
        wishes.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use codec_mqtt::{QoS, Text};
    use core_rpc::{PartitionId, TopicId};

    use super::*;
    use crate::state::sessions::{Limits, Subscribed};

    fn adopted(key: u64, filters: &[&str], positions: &[u64]) -> Adopted {
        let limits = Limits { here_messages_max: 4, here_bytes_max: 1 << 20, there_messages_max: 6 };
        let session = Session::new(SessionKey(key), Text::new("client").unwrap(), 9, Arc::default(), limits);
        let wish = Wish { qos: QoS::AtLeastOnce, no_local: false, retain_as_published: false, subscription_id: None };
        for filter in filters {
            session.subscribe(Text::new(*filter).unwrap(), Subscribed { wish });
        }
        let partition = |index: usize| PartitionId { topic: TopicId(1), index: index as u32 };
        let positions = positions.iter().enumerate().map(|(index, offset)| (partition(index), *offset)).collect();
        (Arc::new(session), positions)
    }

    #[test]
    fn only_filters_of_who_has_missed_something_are_gone_through() {
        let sessions = [
            adopted(1, &["a/+", "b/+", "+/x"], &[10, 20]),
            adopted(2, &["a/x"], &[10, 15]),
            // It has never been at the second partition.
            adopted(3, &["$share/g/a/x", "a/#", "c/x"], &[10]),
        ];
        let may_match = |filter: &str| filter.starts_with(['a', '+', '#']);
        let reading = Reading::new(&sessions, vec![10, 20], may_match);
        assert_eq!((reading.from.as_slice(), reading.to.as_slice()), (&[10, 0][..], &[10, 20][..]));
        assert_eq!(reading.trie.len(), 2);
        let keys = |name: &str, partition, offset| {
            let mut keys: Vec<_> = reading.wishes(name, partition, offset).iter().map(|(one, _)| one.key.0).collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!((keys("a/x", 1, 14), keys("a/x", 1, 15), keys("a/y", 1, 15)), (vec![3], vec![2, 3], vec![3]));
        assert_eq!((keys("a/x", 0, 9), keys("c/x", 1, 5)), (vec![], vec![]));
        let none = Reading::new(&sessions[..1], vec![10, 20], may_match);
        assert!(none.trie.is_empty() && none.from == none.to);
    }
}
