//! Which groups are this gateway's: each is coordinated by one live gateway, and moves when gateways come and go.
//!
//! The one that loses a group answers whoever waits in it with NOT_COORDINATOR and forgets it; the one that gets it
//! reads its record and gives its members a fresh session. Two gateways may think for a moment that a group is theirs.
//! Then the record's version decides: the second writer is refused, and gives the group up.

use std::sync::Arc;

use core_rpc::Core;
use gateway_runtime::Members;
use tokio::sync::watch;

use super::slot::Slot;
use super::{Groups, RETRY_AFTER};
use crate::state::brokers::CoordinatorKey;
use crate::state::groups::error::GroupError;

impl<C: Core> Groups<C> {
    /// Whether this gateway coordinates a group.
    pub fn coordinates(&self, group: &str) -> bool {
        self.shared.brokers.coordinates(CoordinatorKey::Group(group))
    }

    /// Refuses what is another gateway's.
    pub(super) fn check_owner(&self, group: &str) -> Result<(), GroupError> {
        if self.coordinates(group) { Ok(()) } else { Err(GroupError::NotCoordinator) }
    }

    /// Refuses also what may be another gateway's by now: for writes that no version fences.
    pub(super) fn check_sure_owner(&self, group: &str) -> Result<(), GroupError> {
        self.check_owner(group)?;
        // The core was out of reach for so long that it may have taken us for dead. Clients ask again.
        if self.shared.brokers.is_sure() { Ok(()) } else { Err(GroupError::CoordinatorNotAvailable) }
    }

    /// Gives up and takes over groups as gateways come and go, for ever.
    pub(super) async fn run_ownership(&self, mut changes: watch::Receiver<Members>) {
        while changes.changed().await.is_ok() {
            changes.borrow_and_update();
            self.give_up_others().await;
            while let Err(error) = self.load_all().await {
                tracing::warn!(%error, "cannot read the groups that are this gateway's now");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
        // The membership has ended, as everything here is about to.
        std::future::pending().await
    }

    async fn give_up_others(&self) {
        let slots: Vec<Arc<Slot>> = self.shared.slots.iter().map(|entry| entry.value().clone()).collect();
        for slot in slots {
            if self.coordinates(&slot.id) {
                continue;
            }
            // A record that is being stored just now is waited for: it was ours to write, and is fenced if it was not.
            let mut locked = slot.state.lock().await;
            if let Some(mut loaded) = locked.take() {
                let effects = loaded.group.unload();
                loaded.answer(effects);
                loaded.parked.clear();
                tracing::info!(group = slot.id, "the group is another gateway's now");
            }
            drop(locked);
            self.remove_if_vacant(slot);
        }
    }
}
