//! The cursors of the groups on a shard's partitions.

use std::collections::{BTreeSet, HashMap};

use core_rpc::{Committed, Cursor, GroupName, PartitionId, TopicId};
use serde::{Deserialize, Serialize};

use crate::pack::entry::CursorBody;

/// All cursors of one shard. Holds what is durable only.
#[derive(Debug, Default)]
pub struct Cursors {
    by_group: HashMap<GroupName, HashMap<PartitionId, Kept>>,
}

/// A cursor and what fences it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub cursor: Cursor,
    /// The highest generation that committed here.
    pub generation: Option<u64>,
}

impl Cursors {
    pub fn get(&self, group: &GroupName, partition: PartitionId) -> Option<&Kept> {
        self.by_group.get(group)?.get(&partition)
    }

    /// Keeps a cursor; a commit without a generation leaves the fence as it is.
    pub fn commit(&mut self, partition: PartitionId, body: CursorBody) {
        let cursors = self.by_group.entry(body.group).or_default();
        let before = cursors.get(&partition).and_then(|kept| kept.generation);
        cursors.insert(partition, Kept { cursor: body.cursor, generation: body.generation.max(before) });
    }

    pub fn forget(&mut self, group: &GroupName, partition: PartitionId) {
        if let Some(cursors) = self.by_group.get_mut(group) {
            cursors.remove(&partition);
            if cursors.is_empty() {
                self.by_group.remove(group);
            }
        }
    }

    /// Forgets all cursors on a topic.
    pub fn forget_topic(&mut self, topic: TopicId) {
        self.by_group.retain(|_, cursors| {
            cursors.retain(|partition, _| partition.topic != topic);
            !cursors.is_empty()
        });
    }

    pub fn of_group(&self, group: &GroupName) -> Vec<(PartitionId, Committed)> {
        let cursors = self.by_group.get(group).into_iter().flatten();
        cursors
            .map(|(partition, kept)| (*partition, Committed { cursor: Some(kept.cursor.clone()), pending: false }))
            .collect()
    }

    /// Adds the names of a namespace's groups.
    pub fn groups(&self, namespace: &str, names: &mut BTreeSet<String>) {
        let groups = self.by_group.keys().filter(|group| group.namespace == namespace);
        names.extend(groups.map(|group| group.group.clone()));
    }

    /// For a snapshot, in order.
    pub fn entries(&self) -> Vec<(GroupName, PartitionId, Kept)> {
        let mut entries: Vec<_> = (self.by_group.iter())
            .flat_map(|(group, cursors)| cursors.iter().map(|(at, kept)| (group.clone(), *at, kept.clone())))
            .collect();
        entries.sort_unstable_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        entries
    }

    /// Puts back an entry of a snapshot.
    pub fn restore(&mut self, group: GroupName, partition: PartitionId, kept: Kept) {
        self.by_group.entry(group).or_default().insert(partition, kept);
    }
}
