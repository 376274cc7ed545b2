//! Records in the core's meta: `kafka/transaction/<namespace>/<transactional id>`, written only over the version that
//! was decided on.

use std::sync::Arc;

use core_rpc::{Core, MetaCondition, MetaEntry, MetaError, MetaPut, key_part};

use super::Transactions;
use super::slot::{Loaded, Slot};
use crate::state::transactions::error::TransactionError;
use crate::state::transactions::record::TransactionRecord;

/// The prefix of the records of a namespace; what ends it does not stand in the namespace.
pub(super) fn prefix(namespace: &str) -> String {
    format!("kafka/transaction/{}/", key_part(namespace))
}

impl<C: Core> Transactions<C> {
    pub(super) fn key(&self, id: &str) -> String {
        format!("{}{id}", self.shared.prefix)
    }

    /// Loads all records; returns the revision that they are of.
    pub(super) async fn load_all(&self, now_ms: i64) -> Result<u64, MetaError> {
        let list = self.shared.core.meta_list(self.shared.prefix.clone()).await?;
        let count = list.entries.len();
        for entry in list.entries {
            self.learn(&entry, now_ms).await;
        }
        if count > 0 {
            tracing::info!(count, "loaded the transactional ids");
        }
        Ok(list.revision)
    }

    /// An entry as it is stored; what is older than what is known already is left. The timer looks at a decision that
    /// is to be carried out from `look_from_ms` on.
    pub(super) async fn learn(&self, entry: &MetaEntry, look_from_ms: i64) {
        let Some(id) = entry.key.strip_prefix(&self.shared.prefix) else { return };
        let slot = self.slot(id);
        let mut loaded = slot.state.lock().await;
        if loaded.version.is_none_or(|known| known < entry.version) {
            loaded.look_from_ms = look_from_ms;
            // What cannot be read is refused when somebody asks for it.
            if self.adopt(&slot, &mut loaded, Some(entry)).is_ok() {
                self.schedule(&slot, &mut loaded);
            }
        }
    }

    /// Reads the record anew.
    pub(super) async fn read(&self, slot: &Slot, loaded: &mut Loaded) -> Result<(), TransactionError> {
        match self.shared.core.meta_get(self.key(&slot.id)).await {
            Ok(entry) => self.adopt(slot, loaded, entry.as_ref()),
            Err(error) => {
                tracing::warn!(transaction = %slot.id, %error, "cannot load the transactional id");
                Err(TransactionError::CoordinatorNotAvailable)
            }
        }
    }

    /// The stored entry is this one, or there is none.
    pub(super) fn adopt(
        &self,
        slot: &Slot,
        loaded: &mut Loaded,
        entry: Option<&MetaEntry>,
    ) -> Result<(), TransactionError> {
        let version = entry.map(|entry| entry.version);
        // Of this version more may be known than is stored.
        if loaded.record.is_none() || version != loaded.version {
            let record = entry.map(|entry| TransactionRecord::decode(&entry.value)).transpose();
            let record = record.map_err(|error| {
                tracing::error!(transaction = %slot.id, %error, "the transactional id is not served");
                TransactionError::CoordinatorNotAvailable
            })?;
            loaded.version = version;
            self.set(slot, loaded, record.map(Arc::new));
        }
        loaded.is_known = true;
        Ok(())
    }

    /// Stores the record over the version that is known. False: somebody else has stored another, which is known now.
    pub(super) async fn store(
        &self,
        slot: &Slot,
        loaded: &mut Loaded,
        record: Arc<TransactionRecord>,
    ) -> Result<bool, TransactionError> {
        let value = record.encode().map_err(|error| {
            tracing::error!(transaction = %slot.id, %error, "the record cannot be written");
            TransactionError::CoordinatorNotAvailable
        })?;
        let condition = loaded.version.map_or(MetaCondition::Absent, MetaCondition::Version);
        let put = MetaPut { key: self.key(&slot.id), value, condition, session: None };
        // Until there is an answer nobody knows; nor if this future is dropped.
        loaded.is_known = false;
        match self.shared.core.meta_put(put).await {
            Ok(version) => {
                loaded.version = Some(version);
                loaded.is_known = true;
                self.set(slot, loaded, Some(record));
                Ok(true)
            }
            Err(MetaError::Conflict(entry)) => self.adopt(slot, loaded, entry.as_ref()).map(|()| false),
            Err(MetaError::TooLarge) => Err(TransactionError::RecordTooLarge),
            Err(error) => {
                tracing::warn!(transaction = %slot.id, %error, "cannot store the transactional id");
                Err(TransactionError::CoordinatorNotAvailable)
            }
        }
    }

    /// Forgets the id, unless somebody has used it meanwhile.
    pub(super) async fn unstore(&self, slot: &Slot, loaded: &mut Loaded) -> Result<(), TransactionError> {
        let Some(version) = loaded.version else { return Ok(()) };
        loaded.is_known = false;
        match self.shared.core.meta_delete(self.key(&slot.id), MetaCondition::Version(version)).await {
            Ok(()) => {
                self.shared.journal.transaction(&slot.id, None);
                self.adopt(slot, loaded, None)
            }
            Err(MetaError::Conflict(entry)) => self.adopt(slot, loaded, entry.as_ref()),
            Err(_) => Err(TransactionError::CoordinatorNotAvailable),
        }
    }
}
