//! Groups' records in the core's meta: `group/<namespace>/<group>`, written only over the version that was read.

use bytes::Bytes;
use core_rpc::{Core, MetaCondition, MetaEntry, MetaError, MetaPut};

use super::Groups;
use super::slot::Loaded;
use crate::state::groups::error::{GroupError, StoreError};
use crate::state::groups::group::Group;
use crate::state::groups::record::GroupRecord;

impl<C: Core> Groups<C> {
    fn prefix(&self) -> String {
        format!("group/{}/", self.shared.namespace)
    }

    pub(super) fn key(&self, group: &str) -> String {
        self.prefix() + group
    }

    /// Loads what is stored of the groups that are this gateway's, but not loaded yet.
    pub(super) async fn load_all(&self) -> Result<(), MetaError> {
        let prefix = self.prefix();
        let list = self.shared.core.meta_list(prefix.clone()).await?;
        let mut count = 0;
        for entry in list.entries {
            let Some(id) = entry.key.strip_prefix(&prefix).map(str::to_owned) else { continue };
            if !self.coordinates(&id) {
                continue;
            }
            // What cannot be read is refused when somebody asks for it.
            let Ok(mut loaded) = self.restore(&id, &entry) else { continue };
            let slot = self.slot(&id);
            // Somebody asked for it already, or it was ours before: then it is loaded, and newer than the list.
            if let Ok(mut state) = slot.state.try_lock()
                && state.is_none()
            {
                self.schedule(&slot, &mut loaded);
                *state = Some(loaded);
                count += 1;
            }
        }
        tracing::info!(count, "loaded groups");
        Ok(())
    }

    /// A group as it is stored; a new one if it is not.
    pub(super) async fn load(&self, id: &str) -> Result<Loaded, GroupError> {
        match self.shared.core.meta_get(self.key(id)).await {
            Ok(Some(entry)) => self.restore(id, &entry),
            Ok(None) => {
                let group = Group::new(id.to_owned(), self.shared.config, self.shared.clock.now_ms());
                Ok(Loaded::new(group, None))
            }
            Err(error) => {
                tracing::warn!(group = id, %error, "cannot load the group");
                Err(GroupError::CoordinatorNotAvailable)
            }
        }
    }

    fn restore(&self, id: &str, entry: &MetaEntry) -> Result<Loaded, GroupError> {
        match GroupRecord::decode(&entry.value) {
            Ok(record) => {
                let now_ms = self.shared.clock.now_ms();
                let group = Group::restore(id.to_owned(), self.shared.config, record, now_ms);
                Ok(Loaded::new(group, Some(entry.version)))
            }
            Err(error) => {
                tracing::error!(group = id, %error, "the group is not served");
                Err(GroupError::CoordinatorNotAvailable)
            }
        }
    }

    pub(super) async fn store(&self, id: &str, loaded: &mut Loaded, record: &GroupRecord) -> Result<(), StoreError> {
        let value = record.encode().map_err(|error| {
            tracing::error!(group = id, %error, "the group's record cannot be written");
            StoreError::Unavailable
        })?;
        loop {
            let put = MetaPut {
                key: self.key(id),
                value: value.clone(),
                condition: loaded.version.map_or(MetaCondition::Absent, MetaCondition::Version),
                session: None,
            };
            match self.shared.core.meta_put(put).await {
                Ok(version) => {
                    loaded.version = Some(version);
                    loaded.attempted = None;
                    return Ok(());
                }
                Err(MetaError::Conflict(entry)) => match adopt(loaded, entry.as_ref()) {
                    true => continue,
                    false => return Err(StoreError::Superseded),
                },
                Err(error @ MetaError::TooLarge) => {
                    tracing::error!(group = id, %error, "the group has too many members or too much metadata");
                    return Err(StoreError::TooLarge);
                }
                Err(error) => {
                    tracing::warn!(group = id, %error, "cannot store the group");
                    loaded.attempted = Some(value);
                    return Err(StoreError::Unavailable);
                }
            }
        }
    }

    /// Deletes the record, if there is one.
    pub(super) async fn unstore(&self, id: &str, loaded: &mut Loaded) -> Result<(), GroupError> {
        loop {
            let condition = match (loaded.version, &loaded.attempted) {
                (Some(version), _) => MetaCondition::Version(version),
                // It may have been written when its storing failed.
                (None, Some(_)) => MetaCondition::Always,
                (None, None) => return Ok(()),
            };
            match self.shared.core.meta_delete(self.key(id), condition).await {
                Ok(()) => {
                    loaded.version = None;
                    loaded.attempted = None;
                    return Ok(());
                }
                Err(MetaError::Conflict(entry)) => match adopt(loaded, entry.as_ref()) {
                    true => continue,
                    false => return Err(GroupError::NotCoordinator),
                },
                Err(_) => return Err(GroupError::CoordinatorNotAvailable),
            }
        }
    }
}

/// Whether the entry in the way is our own: one whose storing was reported as failed.
fn adopt(loaded: &mut Loaded, entry: Option<&MetaEntry>) -> bool {
    let own: Option<&Bytes> = loaded.attempted.as_ref();
    match entry {
        Some(entry) if own == Some(&entry.value) => {
            loaded.version = Some(entry.version);
            loaded.attempted = None;
            true
        }
        _ => false,
    }
}
