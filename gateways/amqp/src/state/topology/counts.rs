//! How many messages a queue has, as the core counts them.

use std::collections::HashMap;
use std::sync::Arc;

use core_rpc::{Core, LeaseError, PartitionId, PeekRequest, TopicId};

use super::{Queue, Topology};
use crate::errors::Refusal;

/// The messages of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// That can be handed out.
    pub ready: u64,
    /// That were handed out and are not acknowledged.
    pub unacknowledged: u64,
    /// That ever came.
    pub published_total: u64,
    /// That were ever acknowledged.
    pub acknowledged_total: u64,
}

impl Counts {
    pub fn total(&self) -> u64 {
        self.ready + self.unacknowledged
    }
}

/// What a queue takes on the disk, and whether it has a map of what is settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSize {
    pub bytes: u64,
}

/// Partitions that one call asks for.
const PARTITIONS_AT_ONCE: usize = 4096;

impl<C: Core> Topology<C> {
    /// The messages of one queue.
    pub async fn counts(&self, queue: &Arc<Queue>) -> Result<Counts, Refusal> {
        let counts = self.counts_of(std::slice::from_ref(queue)).await?;
        Ok(counts.get(&queue.topic).copied().unwrap_or_default())
    }

    /// The messages of many queues. Of one that is gone meanwhile there are none.
    pub async fn counts_of(&self, queues: &[Arc<Queue>]) -> Result<HashMap<TopicId, Counts>, Refusal> {
        let mut counts: HashMap<TopicId, Counts> = HashMap::with_capacity(queues.len());
        // A group is of one namespace.
        let mut namespaces: HashMap<Arc<str>, (Arc<Queue>, Vec<PartitionId>)> = HashMap::new();
        let mut without_map = Vec::new();
        for queue in queues {
            if queue.is_stream() {
                without_map.extend(queue.partitions());
                continue;
            }
            let of = namespaces.entry(queue.namespace.clone()).or_insert_with(|| (queue.clone(), Vec::new()));
            of.1.extend(queue.partitions());
        }
        for (queue, partitions) in namespaces.values() {
            for partitions in partitions.chunks(PARTITIONS_AT_ONCE) {
                let peek = PeekRequest { group: queue.group(), partitions: Some(partitions.to_vec()), ranges_max: 0 };
                let views = match self.core().peek(peek).await {
                    Ok(views) => views,
                    Err(LeaseError::UnknownPartition) => continue,
                    Err(error) => return Err(error.into()),
                };
                for (partition, view) in views {
                    let Some(view) = view else {
                        without_map.push(partition);
                        continue;
                    };
                    let counts = counts.entry(partition.topic).or_default();
                    counts.ready += view.available + view.end.saturating_sub(view.next);
                    counts.unacknowledged += view.leased;
                    counts.published_total += view.end;
                    counts.acknowledged_total += view.accepted_total;
                }
            }
        }
        for partitions in without_map.chunks(PARTITIONS_AT_ONCE) {
            let states = self.core().inspect(partitions.to_vec()).await;
            for (partition, state) in partitions.iter().zip(states) {
                if let Ok(state) = state {
                    let messages = state.bounds.end_offset.saturating_sub(state.bounds.start_offset);
                    let counts = counts.entry(partition.topic).or_default();
                    counts.ready += messages;
                    counts.published_total += state.bounds.end_offset;
                }
            }
        }
        Ok(counts)
    }

    /// What many queues take on the disk.
    pub async fn sizes_of(&self, queues: &[Arc<Queue>]) -> HashMap<TopicId, QueueSize> {
        let mut sizes: HashMap<TopicId, QueueSize> = HashMap::with_capacity(queues.len());
        let partitions: Vec<PartitionId> = queues.iter().flat_map(|queue| queue.partitions()).collect();
        for partitions in partitions.chunks(PARTITIONS_AT_ONCE) {
            let states = self.core().inspect(partitions.to_vec()).await;
            for (partition, state) in partitions.iter().zip(states) {
                if let Ok(state) = state {
                    sizes.entry(partition.topic).or_default().bytes += state.size_bytes;
                }
            }
        }
        sizes
    }
}
