//! Cursors of groups.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use core_rpc::{CommitAnswer, CommitRequest, Committed, Cursor, CursorError, GroupName, PartitionId};

use crate::engine::Engine;
use crate::pack::entry::CursorBody;
use crate::partition::Partition;
use crate::shard::{Answer, Command};
use crate::wait::Answers;

impl Engine {
    /// Commits cursors durably. They are in the writers' queues when this returns; the future only waits for the answer.
    pub fn commit(&self, request: CommitRequest) -> impl Future<Output = CommitAnswer> + Send + 'static {
        let slots = request.cursors.len();
        let mut answers = vec![Err(CursorError::Unavailable); slots];
        let mut accepted = Vec::with_capacity(slots);
        for (slot, (id, cursor)) in request.cursors.into_iter().enumerate() {
            match self.inner.partition(id) {
                Some(partition) => accepted.push((slot as u32, partition, cursor)),
                None => answers[slot] = Err(CursorError::UnknownPartition),
            }
        }
        let (answers, receiver) = Answers::new(answers, accepted.len());
        let command = |(slot, partition, cursor): (u32, Arc<Partition>, Cursor)| {
            let body = CursorBody { group: request.group.clone(), generation: request.generation, cursor };
            let answer = Answer { answers: answers.clone(), slot };
            (partition.shard, Command::Commit { partition, body, transaction: request.transaction, answer })
        };
        self.inner.push(accepted.into_iter().map(command).collect());
        drop(answers);
        async move { receiver.await.unwrap_or_else(|_| vec![Err(CursorError::Unavailable); slots]) }
    }

    /// The cursors of a group on these partitions, in order.
    pub fn committed(&self, group: &GroupName, partitions: &[PartitionId]) -> Result<Vec<Committed>, CursorError> {
        let cursor = |id: &PartitionId| {
            let partition = self.inner.partition(*id).ok_or(CursorError::UnknownPartition)?;
            let cursors = self.inner.shards[partition.shard as usize].cursors.lock();
            Ok(cursors.committed(group, *id))
        };
        partitions.iter().map(cursor).collect()
    }

    /// All cursors of a group, and where it has only pending ones, by partition.
    pub fn cursors(&self, group: &GroupName) -> Vec<(PartitionId, Committed)> {
        let mut cursors: Vec<_> =
            self.inner.shards.iter().flat_map(|shard| shard.cursors.lock().of_group(group)).collect();
        cursors.sort_unstable_by_key(|(partition, _)| *partition);
        cursors
    }

    /// The groups of a namespace that have a cursor, by name.
    pub fn groups(&self, namespace: &str) -> Vec<String> {
        let mut names = BTreeSet::new();
        self.inner.shards.iter().for_each(|shard| shard.cursors.lock().groups(namespace, &mut names));
        names.into_iter().collect()
    }

    /// Removes a group's cursors on these partitions, or all (None), durably. Those it does not have are no error.
    pub async fn forget(&self, group: GroupName, partitions: Option<Vec<PartitionId>>) -> Result<(), CursorError> {
        let partitions =
            partitions.unwrap_or_else(|| self.cursors(&group).into_iter().map(|(partition, _)| partition).collect());
        let known: Vec<_> = partitions.iter().filter_map(|id| self.inner.partition(*id)).collect();
        let (answers, receiver) = Answers::new(vec![Err(CursorError::Unavailable); known.len()], known.len());
        let command = |(slot, partition): (usize, &Arc<Partition>)| {
            let answer = Answer { answers: answers.clone(), slot: slot as u32 };
            (partition.shard, Command::Forget { partition: partition.id, group: group.clone(), answer })
        };
        self.inner.push(known.iter().enumerate().map(command).collect());
        drop(answers);
        let answers = receiver.await.map_err(|_| CursorError::Unavailable)?;
        answers.into_iter().collect()
    }
}
