//! Uniform where all members read the same topics: everybody gets the same number of partitions, give or take one.

use std::collections::BTreeMap;

use core_rpc::{PartitionId, TopicId};

use super::Candidate;
use crate::state::consumer_groups::partitions::Partitions;

/// Members keep what they had up to their share; what is left goes to those below theirs.
pub(super) fn assign(candidates: &[Candidate], topics: &BTreeMap<TopicId, u32>) -> Vec<Partitions> {
    let Some(first) = candidates.first() else { return Vec::new() };
    let exists = |partition: &PartitionId| {
        first.topics.binary_search(&partition.topic).is_ok()
            && topics.get(&partition.topic).is_some_and(|count| partition.index < *count)
    };
    let read = first.topics.iter().filter_map(|topic| Some((*topic, *topics.get(topic)?)));
    let read: Vec<(TopicId, u32)> = read.collect();
    let total: usize = read.iter().map(|(_, count)| *count as usize).sum();
    let share = total / candidates.len();
    // So many members have one more than the share.
    let mut extras = total % candidates.len();

    let mut taken = Partitions::default();
    let mut targets = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let kept: Vec<PartitionId> =
            candidate.before.iter().filter(|partition| exists(partition) && !taken.contains(*partition)).collect();
        let has_extra = kept.len() > share && extras > 0;
        extras -= usize::from(has_extra);
        let kept: Partitions = kept.into_iter().take(share + usize::from(has_extra)).collect();
        taken.extend(kept.iter());
        targets.push(kept);
    }

    let all = read.iter().flat_map(|&(topic, count)| (0..count).map(move |index| PartitionId { topic, index }));
    let mut left = all.filter(|partition| !taken.contains(*partition));
    for target in &mut targets {
        let missing = share.saturating_sub(target.len());
        target.extend(left.by_ref().take(missing));
    }
    // Now all have their share, and what is left is for those without an extra.
    for target in targets.iter_mut().filter(|target| target.len() == share) {
        target.extend(left.by_ref().take(1));
    }
    debug_assert_eq!(left.next(), None);
    targets
}
