//! Offsets of a group: who may commit and delete them. The core keeps them.

use core_rpc::{
    CommitAnswer, CommitRequest, Committed, Core, Cursor, CursorError, GroupName, PartitionId, TransactionProducer,
};

use super::Groups;
use super::coordinated::Coordinated;
use super::lifetime;
use super::slot::Slot;
use crate::now_ms;
use crate::state::consumer_groups::Committing;
use crate::state::groups::error::GroupError;

/// Who commits.
#[derive(Clone, Copy, Debug)]
pub struct Committer<'a> {
    pub member_id: &'a str,
    pub instance_id: Option<&'a str>,
    /// Or the member's epoch. Negative: a client without membership.
    pub generation: i32,
    /// The offsets are part of this producer's transaction.
    pub transaction: Option<TransactionProducer>,
}

/// An offset to commit.
#[derive(Clone, Debug)]
pub struct Commit {
    pub partition: PartitionId,
    /// Negative ones mean something to some clients.
    pub offset: i64,
    /// -1: the client did not say.
    pub leader_epoch: i32,
    pub metadata: String,
    /// How long it is kept when the group does not read the topic, from now on; none: as long as others.
    pub retention_ms: Option<i64>,
}

impl<C: Core> Groups<C> {
    pub(super) fn name(&self, group: &str) -> GroupName {
        GroupName { namespace: self.shared.namespace.clone(), group: group.to_owned() }
    }

    /// Commits offsets durably; one result for each, in order.
    pub async fn commit(
        &self,
        group: &str,
        committer: Committer<'_>,
        commits: Vec<Commit>,
    ) -> Result<CommitAnswer, GroupError> {
        let slot = self.slot(group);
        let answer = self.commit_in(&slot, committer, commits).await;
        self.remove_if_vacant(slot);
        answer
    }

    async fn commit_in(
        &self,
        slot: &Slot,
        committer: Committer<'_>,
        commits: Vec<Commit>,
    ) -> Result<CommitAnswer, GroupError> {
        let Committer { member_id, instance_id, generation, transaction } = committer;
        let group = slot.id.as_str();
        let _offsets_stay = slot.offsets.read().await;
        let (checked, is_vacant) = self
            .with_group(group, |loaded, now_ms| {
                let checked = match &mut loaded.group {
                    Coordinated::Classic(group) => match transaction {
                        None => group.check_commit(member_id, instance_id, generation, now_ms),
                        Some(_) => group.check_transactional_commit(member_id, instance_id, generation, now_ms),
                    },
                    // Producers of old clients do not say for which member they commit.
                    Coordinated::Consumer(_) if transaction.is_some() && generation < 0 && member_id.is_empty() => {
                        Ok(())
                    }
                    Coordinated::Consumer(group) => {
                        group.check_commit(Committing { member_id: Some(member_id), epoch: generation })
                    }
                };
                ((checked, loaded.is_vacant()), Vec::new())
            })
            .await?;
        if checked.is_err() && is_vacant && !self.has_offsets(group).await? {
            return Err(GroupError::GroupNotFound);
        }
        checked?;
        self.check_sure_owner(group)?;
        let time_ms = now_ms();
        let cursors = commits.into_iter().map(|commit| {
            let Commit { partition, offset, leader_epoch: epoch, metadata, retention_ms } = commit;
            let expires_at_ms = retention_ms.map(|retention_ms| time_ms.saturating_add(retention_ms));
            let metadata = lifetime::kept(expires_at_ms, metadata);
            // The core does not read it either; `as i64` gives the client's again.
            (partition, Cursor { offset: offset as u64, epoch, metadata, time_ms })
        });
        let request = CommitRequest {
            group: self.name(group),
            // A member of an older generation that was slow must not overwrite what its successor has committed.
            generation: u64::try_from(generation).ok(),
            transaction,
            cursors: cursors.collect(),
        };
        let cursors = request.cursors.clone();
        let results = self.shared.core.commit(request).await;
        for ((partition, cursor), result) in cursors.iter().zip(&results) {
            if result.is_ok() {
                self.shared.journal.offset(group, *partition, Some(cursor));
            }
        }
        Ok(results)
    }

    /// What is committed on these partitions, in order.
    pub async fn committed(&self, group: &str, partitions: Vec<PartitionId>) -> Result<Vec<Committed>, CursorError> {
        let committed = self.shared.core.committed(self.name(group), partitions).await?;
        Ok(committed.into_iter().map(in_its_words).collect())
    }

    /// All committed offsets of a group, and where there are only some of an open transaction.
    pub async fn all_with_pending(&self, group: &str) -> Result<Vec<(PartitionId, Committed)>, CursorError> {
        let cursors = self.shared.core.cursors(self.name(group)).await?;
        Ok(cursors.into_iter().map(|(id, committed)| (id, in_its_words(committed))).collect())
    }

    /// All committed offsets of a group.
    pub async fn all_committed(&self, group: &str) -> Result<Vec<(PartitionId, Cursor)>, CursorError> {
        let committed = self.all_with_pending(group).await?;
        Ok(committed.into_iter().filter_map(|(id, committed)| Some((id, committed.cursor?))).collect())
    }

    /// Deletes offsets of topics that the group does not read (any more): for each topic its partitions or why not.
    pub async fn delete_offsets(
        &self,
        group: &str,
        topics: &[(String, Vec<PartitionId>)],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let slot = self.slot(group);
        let results = self.delete_offsets_in(&slot, topics).await;
        self.remove_if_vacant(slot);
        results
    }

    async fn delete_offsets_in(
        &self,
        slot: &Slot,
        topics: &[(String, Vec<PartitionId>)],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let group = slot.id.as_str();
        let _alone = slot.offsets.write().await;
        let (checked, is_vacant, subscribed) = self
            .with_group(group, |loaded, _| {
                let subscribed: Vec<bool> =
                    topics.iter().map(|(name, _)| loaded.group.is_subscribed_to(name)).collect();
                ((loaded.group.check_offset_delete(), loaded.is_vacant(), subscribed), Vec::new())
            })
            .await?;
        checked?;
        if is_vacant && !self.has_offsets(group).await? {
            return Err(GroupError::GroupNotFound);
        }
        let unread = topics.iter().zip(&subscribed).filter(|(_, subscribed)| !**subscribed);
        let partitions: Vec<PartitionId> = unread.flat_map(|((_, partitions), _)| partitions.iter().copied()).collect();
        if !partitions.is_empty() {
            let forgotten = self.shared.core.forget(self.name(group), Some(partitions.clone())).await;
            forgotten.map_err(|_| GroupError::CoordinatorNotAvailable)?;
            partitions.iter().for_each(|partition| self.shared.journal.offset(group, *partition, None));
        }
        let result_of = |subscribed| if subscribed { Err(GroupError::SubscribedToTopic) } else { Ok(()) };
        Ok(subscribed.into_iter().map(result_of).collect())
    }

    pub(super) async fn has_offsets(&self, group: &str) -> Result<bool, GroupError> {
        let cursors = self.all_committed(group).await;
        cursors.map(|cursors| !cursors.is_empty()).map_err(|_| GroupError::CoordinatorNotAvailable)
    }

    /// Removes all of an Empty group's offsets and its record.
    pub async fn delete(&self, group: &str) -> Result<(), GroupError> {
        let (groups, id) = (self.clone(), group.to_owned());
        // In a task of its own: a connection that ends meanwhile must not leave half of the group.
        let deleting = tokio::spawn(async move { groups.delete_now(&id).await });
        deleting.await.unwrap_or(Err(GroupError::CoordinatorNotAvailable))
    }

    async fn delete_now(&self, group: &str) -> Result<(), GroupError> {
        let slot = self.slot(group);
        let result = async {
            let _alone = slot.offsets.write().await;
            let mut locked = self.lock(&slot).await?;
            let loaded = locked.as_mut().ok_or(GroupError::CoordinatorNotAvailable)?;
            loaded.group.check_delete()?;
            if loaded.is_vacant() && !self.has_offsets(group).await? {
                return Err(GroupError::GroupNotFound);
            }
            let cursors = self.all_committed(group).await.map_err(|_| GroupError::CoordinatorNotAvailable)?;
            // Offsets first: with the record gone, what is left of them would look like a group of its own.
            let forgotten = self.shared.core.forget(self.name(group), None).await;
            forgotten.map_err(|_| GroupError::CoordinatorNotAvailable)?;
            cursors.iter().for_each(|(partition, _)| self.shared.journal.offset(group, *partition, None));
            let unstored = self.unstore(group, loaded).await;
            if unstored.is_ok() || unstored == Err(GroupError::NotCoordinator) {
                debug_assert!(loaded.group.is_idle());
                // Read anew when somebody asks; ids given out to members that have not joined yet are void.
                *locked = None;
            }
            unstored
        }
        .await;
        self.remove_if_vacant(slot);
        result
    }
}

/// With the words that the client gave it.
fn in_its_words(mut committed: Committed) -> Committed {
    if let Some(cursor) = &mut committed.cursor {
        let (_, words) = lifetime::read(&cursor.metadata);
        if words.len() < cursor.metadata.len() {
            cursor.metadata = words.to_owned();
        }
    }
    committed
}
