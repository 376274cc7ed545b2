//! The cursors of the groups on a shard's partitions, and those that wait for their transaction's end.

use std::collections::{BTreeSet, HashMap, HashSet};

use core_rpc::{Committed, Cursor, GroupName, Outcome, PartitionId, TopicId, TransactionProducer};
use serde::{Deserialize, Serialize};

use crate::pack::entry::{CursorBody, PendingBody};

/// All cursors of one shard. Holds what is durable only.
#[derive(Debug, Default)]
pub struct Cursors {
    by_group: HashMap<GroupName, HashMap<PartitionId, Place>>,
    /// Where a producer has pending cursors.
    pending: HashMap<i64, HashSet<(GroupName, PartitionId)>>,
}

/// What a group has on a partition: at least one of the two.
#[derive(Debug, Default)]
struct Place {
    kept: Option<Kept>,
    /// In the order in which they were committed, one for each producer.
    pending: Vec<Pending>,
}

/// A cursor and what fences it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub cursor: Cursor,
    /// The highest generation that committed here.
    pub generation: Option<u64>,
}

/// A cursor that waits for its transaction's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub producer: TransactionProducer,
    pub kept: Kept,
    pub time_ms: i64,
    /// Another cursor was committed here since: this one comes too late, whatever becomes of its transaction.
    pub superseded: bool,
}

impl Cursors {
    pub fn get(&self, group: &GroupName, partition: PartitionId) -> Option<&Kept> {
        self.by_group.get(group)?.get(&partition)?.kept.as_ref()
    }

    /// The highest generation that committed here, in a transaction or not.
    pub fn generation(&self, group: &GroupName, partition: PartitionId) -> Option<u64> {
        let place = self.by_group.get(group)?.get(&partition)?;
        let pending = place.pending.iter().map(|pending| pending.kept.generation).max().flatten();
        place.kept.as_ref().and_then(|kept| kept.generation).max(pending)
    }

    pub fn committed(&self, group: &GroupName, partition: PartitionId) -> Committed {
        let place = self.by_group.get(group).and_then(|places| places.get(&partition));
        place.map_or_else(Committed::default, Place::committed)
    }

    /// Keeps a cursor; a commit without a generation leaves the fence as it is.
    pub fn commit(&mut self, partition: PartitionId, body: CursorBody) {
        let place = self.by_group.entry(body.group).or_default().entry(partition).or_default();
        place.pending.iter_mut().for_each(|pending| pending.superseded = true);
        place.keep(Kept { cursor: body.cursor, generation: body.generation });
    }

    /// Keeps a cursor until its transaction ends, in place of the producer's last one here.
    pub fn commit_pending(&mut self, partition: PartitionId, body: PendingBody) {
        let PendingBody { producer, cursor, time_ms } = body;
        let kept = Kept { cursor: cursor.cursor, generation: cursor.generation };
        self.restore_pending(cursor.group, partition, Pending { producer, kept, time_ms, superseded: false });
    }

    /// Commits or drops the pending cursors of a producer, of epochs up to this.
    pub fn end(&mut self, producer_id: i64, epoch_max: i16, outcome: Outcome) {
        let mut later = HashSet::new();
        for (group, partition) in self.pending.remove(&producer_id).into_iter().flatten() {
            let Some(places) = self.by_group.get_mut(&group) else { continue };
            let Some(place) = places.get_mut(&partition) else { continue };
            let Some(at) = place.pending.iter().position(|pending| pending.producer.id == producer_id) else {
                continue;
            };
            if place.pending[at].producer.epoch > epoch_max {
                later.insert((group, partition));
                continue;
            }
            let pending = place.pending.remove(at);
            if outcome == Outcome::Commit && !pending.superseded {
                // What others committed in their transactions before it must not come after it.
                place.pending[..at].iter_mut().for_each(|pending| pending.superseded = true);
                place.keep(pending.kept);
            }
            self.drop_vacant(&group, partition);
        }
        if !later.is_empty() {
            self.pending.insert(producer_id, later);
        }
    }

    /// Forgets a group's cursor on a partition, and the pending ones.
    pub fn forget(&mut self, group: &GroupName, partition: PartitionId) {
        let place = self.by_group.get_mut(group).and_then(|places| places.get_mut(&partition));
        let Some(place) = place.map(std::mem::take) else { return };
        for pending in place.pending {
            self.unlist(pending.producer.id, group, partition);
        }
        self.drop_vacant(group, partition);
    }

    /// Forgets all cursors on a topic.
    pub fn forget_topic(&mut self, topic: TopicId) {
        self.by_group.retain(|_, places| {
            places.retain(|partition, _| partition.topic != topic);
            !places.is_empty()
        });
        self.pending.retain(|_, places| {
            places.retain(|(_, partition)| partition.topic != topic);
            !places.is_empty()
        });
    }

    pub fn of_group(&self, group: &GroupName) -> Vec<(PartitionId, Committed)> {
        let places = self.by_group.get(group).into_iter().flatten();
        places.map(|(partition, place)| (*partition, place.committed())).collect()
    }

    /// Adds the names of a namespace's groups.
    pub fn groups(&self, namespace: &str, names: &mut BTreeSet<String>) {
        let groups = self.by_group.keys().filter(|group| group.namespace == namespace);
        names.extend(groups.map(|group| group.group.clone()));
    }

    /// Where each group goes on, in no order.
    pub fn offsets(&self) -> Vec<(GroupName, PartitionId, u64)> {
        let offset = |(group, at, place): (&GroupName, &PartitionId, &Place)| {
            Some((group.clone(), *at, place.kept.as_ref()?.cursor.offset))
        };
        self.places().filter_map(offset).collect()
    }

    /// For a snapshot, in order.
    pub fn entries(&self) -> Vec<(GroupName, PartitionId, Kept)> {
        let kept =
            |(group, at, place): (&GroupName, &PartitionId, &Place)| Some((group.clone(), *at, place.kept.clone()?));
        let mut entries: Vec<_> = self.places().filter_map(kept).collect();
        entries.sort_unstable_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        entries
    }

    /// For a snapshot, those of a place in their order.
    pub fn pending_entries(&self) -> Vec<(GroupName, PartitionId, Pending)> {
        let mut entries: Vec<_> = (self.places())
            .flat_map(|(group, at, place)| place.pending.iter().map(|pending| (group.clone(), *at, pending.clone())))
            .collect();
        entries.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        entries
    }

    fn places(&self) -> impl Iterator<Item = (&GroupName, &PartitionId, &Place)> {
        self.by_group.iter().flat_map(|(group, places)| places.iter().map(move |(at, place)| (group, at, place)))
    }

    /// Puts back an entry of a snapshot.
    pub fn restore(&mut self, group: GroupName, partition: PartitionId, kept: Kept) {
        self.by_group.entry(group).or_default().entry(partition).or_default().kept = Some(kept);
    }

    /// Puts back a pending entry of a snapshot, behind those of its place.
    pub fn restore_pending(&mut self, group: GroupName, partition: PartitionId, pending: Pending) {
        self.pending.entry(pending.producer.id).or_default().insert((group.clone(), partition));
        let place = self.by_group.entry(group).or_default().entry(partition).or_default();
        place.pending.retain(|other| other.producer.id != pending.producer.id);
        place.pending.push(pending);
    }

    fn unlist(&mut self, producer_id: i64, group: &GroupName, partition: PartitionId) {
        if let Some(places) = self.pending.get_mut(&producer_id) {
            places.remove(&(group.clone(), partition));
            if places.is_empty() {
                self.pending.remove(&producer_id);
            }
        }
    }

    fn drop_vacant(&mut self, group: &GroupName, partition: PartitionId) {
        let Some(places) = self.by_group.get_mut(group) else { return };
        if places.get(&partition).is_some_and(|place| place.kept.is_none() && place.pending.is_empty()) {
            places.remove(&partition);
        }
        if places.is_empty() {
            self.by_group.remove(group);
        }
    }
}

impl Place {
    fn committed(&self) -> Committed {
        let cursor = self.kept.as_ref().map(|kept| kept.cursor.clone());
        Committed { cursor, pending: !self.pending.is_empty() }
    }

    fn keep(&mut self, kept: Kept) {
        let before = self.kept.as_ref().and_then(|kept| kept.generation);
        self.kept = Some(Kept { generation: kept.generation.max(before), ..kept });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: PartitionId = PartitionId { topic: TopicId(1), index: 0 };

    fn group() -> GroupName {
        GroupName { namespace: "n".to_owned(), group: "g".to_owned() }
    }

    fn body(offset: u64) -> CursorBody {
        let cursor = Cursor { offset, epoch: -1, metadata: String::new(), time_ms: 0 };
        CursorBody { group: group(), generation: None, cursor }
    }

    fn pending(producer: i64, epoch: i16, offset: u64) -> PendingBody {
        PendingBody { producer: TransactionProducer { id: producer, epoch }, cursor: body(offset), time_ms: 1 }
    }

    fn seen(cursors: &Cursors) -> (Option<u64>, bool) {
        let committed = cursors.committed(&group(), AT);
        (committed.cursor.map(|cursor| cursor.offset), committed.pending)
    }

    #[test]
    fn pending_cursors_wait_for_their_end() {
        let mut cursors = Cursors::default();
        cursors.commit_pending(AT, pending(1, 0, 10));
        assert_eq!(seen(&cursors), (None, true));
        cursors.commit_pending(AT, pending(1, 0, 11));
        cursors.end(2, 0, Outcome::Commit);
        assert_eq!(seen(&cursors), (None, true));
        cursors.end(1, 0, Outcome::Commit);
        assert_eq!(seen(&cursors), (Some(11), false));
        cursors.commit_pending(AT, pending(1, 1, 12));
        cursors.end(1, 0, Outcome::Commit);
        assert_eq!(seen(&cursors), (Some(11), true), "of a later epoch");
        cursors.end(1, 2, Outcome::Abort);
        assert_eq!(seen(&cursors), (Some(11), false));
        assert!(cursors.pending.is_empty());
    }

    #[test]
    fn the_last_to_commit_wins_not_the_last_to_end() {
        let mut cursors = Cursors::default();
        cursors.commit_pending(AT, pending(1, 0, 10));
        cursors.commit(AT, body(20));
        cursors.commit_pending(AT, pending(2, 0, 30));
        cursors.commit_pending(AT, pending(3, 0, 40));
        // As after a restart.
        let mut again = Cursors::default();
        cursors.entries().into_iter().for_each(|(group, at, kept)| again.restore(group, at, kept));
        cursors.pending_entries().into_iter().for_each(|(group, at, kept)| again.restore_pending(group, at, kept));
        for mut cursors in [cursors, again] {
            cursors.end(1, 0, Outcome::Commit);
            assert_eq!(seen(&cursors), (Some(20), true));
            cursors.end(3, 0, Outcome::Commit);
            assert_eq!(seen(&cursors), (Some(40), true));
            cursors.end(2, 0, Outcome::Commit);
            assert_eq!(seen(&cursors), (Some(40), false));
        }
    }

    #[test]
    fn forgetting_forgets_what_is_pending() {
        let mut cursors = Cursors::default();
        cursors.commit_pending(AT, pending(1, 0, 10));
        assert_eq!(cursors.of_group(&group()).len(), 1);
        cursors.forget(&group(), AT);
        assert!(cursors.by_group.is_empty() && cursors.pending.is_empty());
        cursors.commit_pending(AT, pending(1, 0, 10));
        cursors.forget_topic(AT.topic);
        assert!(cursors.by_group.is_empty() && cursors.pending.is_empty());
        cursors.end(1, 0, Outcome::Commit);
        assert_eq!(seen(&cursors), (None, false));
    }
}
