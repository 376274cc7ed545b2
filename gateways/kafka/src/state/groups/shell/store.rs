//! Groups' records in the core's meta: `group/<namespace>/<group>`, written only over the version that was read.

use bytes::Bytes;
use core_rpc::{Core, MetaCondition, MetaEntry, MetaError, MetaPut};

use super::Groups;
use super::coordinated::{Coordinated, Record};
use super::slot::Loaded;
use crate::state::consumer_groups::{CONSUMER_RECORD_VERSION, ConsumerGroup, ConsumerGroupRecord};
use crate::state::groups::error::{GroupError, StoreError};
use crate::state::groups::group::Group;
use crate::state::groups::record::{GroupRecord, RecordError};

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
            Ok(None) => Ok(Loaded::new(self.new_group(id), None)),
            Err(error) => {
                tracing::warn!(group = id, %error, "cannot load the group");
                Err(GroupError::CoordinatorNotAvailable)
            }
        }
    }

    fn restore(&self, id: &str, entry: &MetaEntry) -> Result<Loaded, GroupError> {
        match self.decode(id, Some(&entry.value)) {
            Ok(group) => Ok(Loaded::new(group, Some((entry.version, entry.value.clone())))),
            Err(error) => {
                tracing::error!(group = id, %error, "the group is not served");
                Err(GroupError::CoordinatorNotAvailable)
            }
        }
    }

    /// The group of a record, of whichever kind it is; a new one where there is no record.
    pub(super) fn decode(&self, id: &str, value: Option<&Bytes>) -> Result<Coordinated, RecordError> {
        let Some(value) = value else { return Ok(self.new_group(id)) };
        let now_ms = self.shared.clock.now_ms();
        if value.first() == Some(&CONSUMER_RECORD_VERSION) {
            let record = ConsumerGroupRecord::decode(value)?;
            let settings = self.consumer_settings();
            let group = ConsumerGroup::restore(id.to_owned(), record, &settings, now_ms);
            return Ok(Coordinated::Consumer(Box::new(group)));
        }
        let group = Group::restore(id.to_owned(), self.shared.config, GroupRecord::decode(value)?, now_ms);
        Ok(Coordinated::Classic(Box::new(group)))
    }

    /// A group that nobody has joined yet: of the classic protocol, until somebody does by the other.
    pub(super) fn new_group(&self, id: &str) -> Coordinated {
        let group = Group::new(id.to_owned(), self.shared.config, self.shared.clock.now_ms());
        Coordinated::Classic(Box::new(group))
    }

    pub(super) async fn store(&self, id: &str, loaded: &mut Loaded, record: &Record) -> Result<(), StoreError> {
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
                    loaded.stored = Some(value);
                    loaded.attempted = None;
                    // The newer protocol's records have no readers yet.
                    if let Record::Classic(record) = record {
                        self.shared.journal.group(id, Some(record));
                    }
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
                    loaded.stored = None;
                    loaded.attempted = None;
                    self.shared.journal.group(id, None);
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
            loaded.stored = Some(entry.value.clone());
            loaded.attempted = None;
            true
        }
        _ => false,
    }
}
