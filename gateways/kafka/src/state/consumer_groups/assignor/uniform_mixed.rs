//! Uniform where members read different topics: as even as the subscriptions allow.

use std::collections::BTreeMap;

use core_rpc::{PartitionId, TopicId};

use super::Candidate;
use crate::state::consumer_groups::partitions::Partitions;

/// Members keep what they had; what is free goes to whoever has least; then partitions move from those who have more
/// to those who have at least two less, until there is no such move.
pub(super) fn assign(candidates: &[Candidate], topics: &BTreeMap<TopicId, u32>) -> Vec<Partitions> {
    let readers = readers(candidates);
    let mut taken = Partitions::default();
    let mut targets: Vec<Partitions> = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let is_kept = |partition: &PartitionId| {
            candidate.topics.binary_search(&partition.topic).is_ok()
                && topics.get(&partition.topic).is_some_and(|count| partition.index < *count)
                && !taken.contains(*partition)
        };
        let kept: Partitions = candidate.before.iter().filter(is_kept).collect();
        taken.extend(kept.iter());
        targets.push(kept);
    }
    let mut loads: Vec<usize> = targets.iter().map(Partitions::len).collect();

    // Topics with few readers first: later ones can make up for them.
    let mut order: Vec<(usize, TopicId)> = readers.iter().map(|(topic, readers)| (readers.len(), *topic)).collect();
    order.sort_unstable();
    for &(_, topic) in &order {
        for index in 0..topics.get(&topic).copied().unwrap_or(0) {
            let partition = PartitionId { topic, index };
            if taken.contains(partition) {
                continue;
            }
            if let Some(&least) = readers[&topic].iter().min_by_key(|reader| loads[**reader]) {
                targets[least].insert(partition);
                loads[least] += 1;
            }
        }
    }
    level(&readers, &mut targets, &mut loads);
    targets
}

/// Who reads what: positions in `candidates`.
fn readers(candidates: &[Candidate]) -> BTreeMap<TopicId, Vec<usize>> {
    let mut readers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
    for (position, candidate) in candidates.iter().enumerate() {
        for topic in candidate.topics {
            readers.entry(*topic).or_default().push(position);
        }
    }
    readers
}

/// Each move makes the sum of the loads' squares smaller, so it ends.
fn level(readers: &BTreeMap<TopicId, Vec<usize>>, targets: &mut [Partitions], loads: &mut [usize]) {
    loop {
        let mut moved = false;
        let mut heaviest_first: Vec<usize> = (0..targets.len()).collect();
        heaviest_first.sort_by_key(|position| std::cmp::Reverse(loads[*position]));
        for from in heaviest_first {
            let partitions: Vec<PartitionId> = targets[from].iter().collect();
            // From the end, so that what was had longest stays.
            for partition in partitions.into_iter().rev() {
                let least =
                    readers.get(&partition.topic).and_then(|readers| readers.iter().min_by_key(|to| loads[**to]));
                let Some(&to) = least.filter(|to| loads[**to] + 1 < loads[from]) else { continue };
                targets[from].remove(partition);
                targets[to].insert(partition);
                loads[from] -= 1;
                loads[to] += 1;
                moved = true;
            }
        }
        if !moved {
            return;
        }
    }
}
