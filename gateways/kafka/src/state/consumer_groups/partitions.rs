//! A set of partitions.

use std::collections::{BTreeMap, BTreeSet};

use core_rpc::{PartitionId, TopicId};

/// Partitions by topic. A topic without partitions is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partitions {
    topics: BTreeMap<TopicId, BTreeSet<u32>>,
}

impl Partitions {
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub fn len(&self) -> usize {
        self.topics.values().map(BTreeSet::len).sum()
    }

    pub fn contains(&self, partition: PartitionId) -> bool {
        self.topics.get(&partition.topic).is_some_and(|indexes| indexes.contains(&partition.index))
    }

    pub fn insert(&mut self, partition: PartitionId) {
        self.topics.entry(partition.topic).or_default().insert(partition.index);
    }

    pub fn remove(&mut self, partition: PartitionId) {
        if let Some(indexes) = self.topics.get_mut(&partition.topic) {
            indexes.remove(&partition.index);
            if indexes.is_empty() {
                self.topics.remove(&partition.topic);
            }
        }
    }

    /// Sorted by topic, then index.
    pub fn iter(&self) -> impl Iterator<Item = PartitionId> + '_ {
        let of_topic = |(topic, indexes): (&TopicId, &'_ BTreeSet<u32>)| {
            let topic = *topic;
            indexes.iter().map(move |index| PartitionId { topic, index: *index }).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of_topic)
    }

    pub fn by_topic(&self) -> impl Iterator<Item = (TopicId, &BTreeSet<u32>)> {
        self.topics.iter().map(|(topic, indexes)| (*topic, indexes))
    }

    /// Those that are in `other` too.
    pub fn intersection(&self, other: &Partitions) -> Partitions {
        self.iter().filter(|partition| other.contains(*partition)).collect()
    }

    /// Those that are not in `other`.
    pub fn difference(&self, other: &Partitions) -> Partitions {
        self.iter().filter(|partition| !other.contains(*partition)).collect()
    }

    pub fn is_subset_of(&self, other: &Partitions) -> bool {
        self.iter().all(|partition| other.contains(partition))
    }
}

impl FromIterator<PartitionId> for Partitions {
    fn from_iter<I: IntoIterator<Item = PartitionId>>(partitions: I) -> Self {
        let mut all = Partitions::default();
        all.extend(partitions);
        all
    }
}

impl Extend<PartitionId> for Partitions {
    fn extend<I: IntoIterator<Item = PartitionId>>(&mut self, partitions: I) {
        partitions.into_iter().for_each(|partition| self.insert(partition));
    }
}
