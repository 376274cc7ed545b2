//! Range: each topic is cut into as many ranges as it has subscribers.

use std::collections::BTreeMap;

use core_rpc::{PartitionId, TopicId};

use super::Candidate;
use crate::state::consumer_groups::partitions::Partitions;

/// Static members come first, by their instance ids, so that a restart moves nothing; then the others by their ids.
pub(super) fn assign(candidates: &[Candidate], topics: &BTreeMap<TopicId, u32>) -> Vec<Partitions> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|&index| {
        let candidate = &candidates[index];
        (candidate.instance_id.is_none(), candidate.instance_id, candidate.id)
    });
    let mut targets = vec![Partitions::default(); candidates.len()];
    for (&topic, &partitions) in topics {
        let reads = |index: &usize| candidates[*index].topics.binary_search(&topic).is_ok();
        let readers: Vec<usize> = order.iter().copied().filter(reads).collect();
        let Some((share, extras)) = u32::try_from(readers.len())
            .ok()
            .and_then(|count| Some((partitions.checked_div(count)?, partitions.checked_rem(count)?)))
        else {
            continue;
        };
        let mut next = 0;
        for (position, reader) in readers.into_iter().enumerate() {
            // What cannot be divided goes to the first ones, one each.
            let length = share + u32::from(position < extras as usize);
            targets[reader].extend((next..next + length).map(|index| PartitionId { topic, index }));
            next += length;
        }
    }
    targets
}
