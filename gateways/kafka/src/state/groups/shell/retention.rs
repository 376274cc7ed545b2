//! Offsets do not stay for ever: those of a group without members, and of topics that a group no longer reads, go
//! some days after they were last of use. A group left without offsets and members goes too.

use std::collections::{BTreeSet, HashMap};

use core_rpc::{Core, Cursor, CursorError, PartitionId, Topic, TopicId};

use super::Groups;
use super::coordinated::Coordinated;
use super::lifetime;
use crate::now_ms;
use crate::state::groups::describe::OffsetAge;
use crate::state::groups::error::GroupError;

impl<C: Core> Groups<C> {
    /// Sweeps now and then, for ever.
    pub(super) async fn run_retention(&self) {
        loop {
            tokio::time::sleep(self.shared.config.offsets_retention_check).await;
            if let Err(error) = self.sweep(now_ms()).await {
                tracing::warn!(%error, "cannot look for expired offsets");
            }
        }
    }

    /// Removes what has expired at `now_ms`.
    pub(super) async fn sweep(&self, now_ms: i64) -> Result<(), GroupError> {
        let unavailable = |_| GroupError::CoordinatorNotAvailable;
        let mut ids: BTreeSet<String> =
            self.shared.core.groups(self.shared.namespace.clone()).await.map_err(unavailable)?.into_iter().collect();
        ids.extend(self.shared.slots.iter().map(|entry| entry.key().clone()));
        let topic_names = self.topic_names().await?;
        for id in ids.into_iter().filter(|id| self.coordinates(id)) {
            // One group that cannot be swept must not keep the others.
            if let Err(error) = self.sweep_group(&id, &topic_names, now_ms).await {
                tracing::warn!(group = id, %error, "cannot remove expired offsets");
            }
        }
        Ok(())
    }

    async fn topic_names(&self) -> Result<HashMap<TopicId, String>, GroupError> {
        let prefix = Topic::key_prefix(&self.shared.namespace);
        let list = self.shared.core.meta_list(prefix).await.map_err(|_| GroupError::CoordinatorNotAvailable)?;
        let topics = list.entries.iter().filter_map(Topic::from_entry);
        Ok(topics.map(|topic| (topic.id, topic.name)).collect())
    }

    async fn sweep_group(&self, id: &str, names: &HashMap<TopicId, String>, now_ms: i64) -> Result<(), GroupError> {
        let slot = self.slot(id);
        let result = async {
            let _alone = slot.offsets.write().await;
            let mut locked = self.lock(&slot).await?;
            let Some(loaded) = locked.as_mut() else { return Ok(()) };
            let committed = self.shared.core.cursors(self.name(id)).await.map_err(unavailable)?;
            let cursors: Vec<_> =
                committed.into_iter().filter_map(|(id, committed)| Some((id, committed.cursor?))).collect();
            let count = cursors.len();
            let retention_ms = i64::try_from(self.shared.config.offsets_retention.as_millis()).unwrap_or(i64::MAX);
            let expired = expired(&loaded.group, cursors, names, now_ms, retention_ms);
            let (expired_count, all_expired) = (expired.len(), expired.len() == count);
            if expired_count > 0 {
                self.shared.core.forget(self.name(id), Some(expired.clone())).await.map_err(unavailable)?;
                expired.iter().for_each(|partition| self.shared.journal.offset(id, *partition, None));
                tracing::info!(group = id, count = expired_count, "removed expired offsets");
            }
            if all_expired && loaded.group.is_idle() {
                match self.unstore(id, loaded).await {
                    Ok(()) | Err(GroupError::NotCoordinator) => *locked = None,
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }
        .await;
        self.remove_if_vacant(slot);
        result
    }
}

fn unavailable(_: CursorError) -> GroupError {
    GroupError::CoordinatorNotAvailable
}

/// The offsets that were last of use longer ago than `retention_ms`, or past the moment that their commit named.
fn expired(
    group: &Coordinated,
    cursors: Vec<(PartitionId, Cursor)>,
    names: &HashMap<TopicId, String>,
    now_ms: i64,
    retention_ms: i64,
) -> Vec<PartitionId> {
    let Some(age) = group.offsets_age_from() else { return Vec::new() };
    let is_expired = |(partition, cursor): &(PartitionId, Cursor)| {
        let since_ms = match age {
            OffsetAge::SinceCommit => cursor.time_ms,
            OffsetAge::Since(at_ms) => at_ms,
        };
        let (named_ms, _) = lifetime::read(&cursor.metadata);
        let expires_at_ms = named_ms.unwrap_or(since_ms.saturating_add(retention_ms));
        // A topic without a name is deleted; nobody reads it.
        let is_read = names.get(&partition.topic).is_some_and(|name| group.is_subscribed_to(name));
        !is_read && expires_at_ms <= now_ms
    };
    cursors.into_iter().filter(is_expired).map(|(partition, _)| partition).collect()
}
