//! Tests of the assignors.

use std::collections::BTreeSet;
use std::sync::Arc;

use core_rpc::PartitionId;
use proptest::prelude::*;

use super::*;

/// A group: topics with partitions, members with subscriptions and what they had.
#[derive(Clone, Debug)]
struct Case {
    topics: BTreeMap<TopicId, u32>,
    members: Vec<(MemberId, Vec<TopicId>, Partitions)>,
}

impl Case {
    fn new(topics: &[u32], subscriptions: &[&[u128]]) -> Self {
        let topics = topics.iter().zip(1..).map(|(count, id)| (TopicId(id), *count)).collect();
        let members = subscriptions.iter().zip(1..).map(|(topics, number): (_, u32)| {
            let topics = topics.iter().map(|id| TopicId(*id)).collect();
            (Arc::from(format!("m{number:03}")), topics, Partitions::default())
        });
        Case { topics, members: members.collect() }
    }

    fn assign(&self, assignor: Assignor) -> Vec<Partitions> {
        let candidates: Vec<Candidate> = self
            .members
            .iter()
            .map(|(id, topics, before)| Candidate { id, instance_id: None, topics, before })
            .collect();
        super::assign(assignor, &candidates, &self.topics)
    }

    fn with_targets(mut self, targets: Vec<Partitions>) -> Self {
        self.members.iter_mut().zip(targets).for_each(|(member, target)| member.2 = target);
        self
    }

    /// Each partition of a topic that is read has exactly one owner, who reads it.
    fn check_complete(&self, targets: &[Partitions]) {
        let mut owned = BTreeSet::new();
        for ((id, topics, _), target) in self.members.iter().zip(targets) {
            for partition in target.iter() {
                assert!(topics.contains(&partition.topic), "{id} does not read {partition:?}");
                assert!(partition.index < self.topics[&partition.topic]);
                assert!(owned.insert(partition), "{partition:?} has two owners");
            }
        }
        let read: BTreeSet<TopicId> = self.members.iter().flat_map(|(_, topics, _)| topics.iter().copied()).collect();
        let all = read.iter().filter_map(|topic| self.topics.get(topic)).map(|count| *count as usize).sum::<usize>();
        assert_eq!(owned.len(), all);
    }

    /// No single move would make it more even.
    fn check_balanced(&self, targets: &[Partitions]) {
        for ((from, _, _), source) in self.members.iter().zip(targets) {
            for partition in source.iter() {
                for ((to, topics, _), target) in self.members.iter().zip(targets) {
                    let is_better = topics.contains(&partition.topic) && target.len() + 1 < source.len();
                    assert!(!is_better, "{partition:?} could move from {from} to {to}");
                }
            }
        }
    }
}

fn moved(before: &[Partitions], after: &[Partitions]) -> usize {
    before.iter().zip(after).map(|(before, after)| before.difference(after).len()).sum()
}

fn indexes(partitions: &Partitions, topic: u128) -> Vec<u32> {
    partitions.iter().filter(|partition| partition.topic == TopicId(topic)).map(|partition| partition.index).collect()
}

#[test]
fn range_cuts_every_topic_and_keeps_equal_topics_together() {
    let case = Case::new(&[5, 5, 1], &[&[1, 2, 3], &[1, 2, 3]]);
    let targets = case.assign(Assignor::Range);
    case.check_complete(&targets);
    assert_eq!(indexes(&targets[0], 1), [0, 1, 2]);
    assert_eq!(indexes(&targets[0], 2), [0, 1, 2]);
    assert_eq!(indexes(&targets[1], 1), [3, 4]);
    assert_eq!(indexes(&targets[0], 3), [0]);
}

#[test]
fn static_members_keep_their_range_under_another_id() {
    let topics = [TopicId(1)];
    let before = Partitions::default();
    let ids: Vec<MemberId> = ["x", "a", "b"].map(Arc::from).to_vec();
    let candidate = |id: usize, instance_id| Candidate { id: &ids[id], instance_id, topics: &topics, before: &before };
    let sizes = BTreeMap::from([(TopicId(1), 4)]);
    let one = assign(Assignor::Range, &[candidate(1, Some("i")), candidate(2, None)], &sizes);
    let other = assign(Assignor::Range, &[candidate(2, None), candidate(0, Some("i"))], &sizes);
    assert_eq!((&one[0], &one[1]), (&other[1], &other[0]));
}

#[test]
fn a_newcomer_takes_only_what_makes_it_even() {
    let case = Case::new(&[9], &[&[1], &[1]]);
    let before = case.assign(Assignor::Uniform);
    let mut case = Case::new(&[9], &[&[1], &[1], &[1]]).with_targets(before.clone());
    case.members[2].2 = Partitions::default();
    let after = case.assign(Assignor::Uniform);
    case.check_complete(&after);
    assert_eq!(after.iter().map(Partitions::len).collect::<Vec<_>>(), [3, 3, 3]);
    assert_eq!(moved(&before, &after[..2]), 3);
}

#[test]
fn a_thousand_members_with_a_thousand_partitions_take_a_moment() {
    let everything: &[u128] = &[1];
    let case = Case::new(&[1_000], &[everything; 1_000]);
    let targets = case.assign(Assignor::Uniform);
    assert!(targets.iter().all(|target| target.len() == 1));
    let mixed: Vec<&[u128]> = (0..1_000).map(|index| if index % 2 == 0 { &[1, 2][..] } else { &[2][..] }).collect();
    let case = Case::new(&[500, 500], &mixed);
    let targets = case.assign(Assignor::Uniform);
    case.check_complete(&targets);
    case.check_balanced(&targets);
}

fn cases(same: bool) -> impl Strategy<Value = Case> {
    let topics = prop::collection::vec(0u32..12, 1..5);
    let members = prop::collection::vec(prop::collection::btree_set(1u128..=4, 1..4), 1..8);
    (topics, members, prop::collection::vec((1u128..=4, 0u32..14, 0usize..9), 0..40)).prop_map(move |parts| {
        let (topics, mut members, had) = parts;
        if same {
            let first = members[0].clone();
            members.fill(first);
        }
        let count = topics.len() as u128;
        let lists: Vec<Vec<u128>> =
            members.into_iter().map(|topics| topics.into_iter().filter(|topic| *topic <= count).collect()).collect();
        let mut case = Case::new(&topics, &lists.iter().map(Vec::as_slice).collect::<Vec<_>>());
        // Whatever they had before, also of topics that are gone; no partition twice.
        let mut seen = BTreeSet::new();
        for (topic, index, member) in had {
            let partition = PartitionId { topic: TopicId(topic), index };
            if member < case.members.len() && seen.insert(partition) {
                case.members[member].2.insert(partition);
            }
        }
        case
    })
}

proptest! {
    #[test]
    fn every_assignor_gives_every_partition_to_one_reader(case in prop_oneof![cases(true), cases(false)]) {
        for assignor in Assignor::ALL {
            let targets = case.assign(assignor);
            case.check_complete(&targets);
        }
    }

    #[test]
    fn uniform_is_even_and_stays_as_it_is(case in prop_oneof![cases(true), cases(false)]) {
        let targets = case.assign(Assignor::Uniform);
        case.check_balanced(&targets);
        let again = case.with_targets(targets.clone()).assign(Assignor::Uniform);
        prop_assert_eq!(again, targets);
    }

    #[test]
    fn uniform_of_equals_differs_by_one_and_moves_no_more_than_it_must(case in cases(true)) {
        let targets = case.assign(Assignor::Uniform);
        let sizes: Vec<usize> = targets.iter().map(Partitions::len).collect();
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        prop_assert!(most - least <= 1);
        // Who had no more than the least lost nothing that he may still read.
        for ((_, topics, before), target) in case.members.iter().zip(&targets) {
            let exists = |partition: &PartitionId| {
                topics.contains(&partition.topic) && partition.index < case.topics[&partition.topic]
            };
            let valid: Partitions = before.iter().filter(exists).collect();
            if valid.len() <= *least {
                prop_assert!(valid.is_subset_of(target));
            }
        }
    }
}
