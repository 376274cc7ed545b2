//! One timer for all transactional ids: when each wants to be looked at, and a task that waits for the first.

use std::sync::Arc;

use core_rpc::Core;
use tokio::time::{Duration, Instant};

use super::Transactions;
use super::slot::{Loaded, Slot};
use crate::now_ms;
use crate::state::transactions::ask::Ask;
use crate::state::transactions::state::TransactionState;

/// When a gateway that is not the coordinator looks again whether it has become so, for what is overdue.
const COORDINATOR_AGAIN_AFTER_MS: i64 = 2_000;

/// After what time the clock is looked at again, at the latest.
const WAIT_MS_MAX: u64 = 60 * 60 * 1000;

impl<C: Core> Transactions<C> {
    /// When something is to be done about the record if nobody asks, ms since the Unix epoch.
    fn deadline_ms(&self, loaded: &Loaded) -> Option<i64> {
        let record = loaded.record.as_ref()?;
        let at_ms = match record.state {
            TransactionState::PrepareCommit | TransactionState::PrepareAbort => i64::MIN,
            // Abandoned is what is older than the time-out.
            TransactionState::Ongoing => record.timeout_at_ms()?.saturating_add(1),
            _ => match loaded.store_at_ms {
                Some(at_ms) => return Some(at_ms),
                None => record.updated_ms.saturating_add(self.shared.config.id_expiration_ms()).saturating_add(1),
            },
        };
        Some(at_ms.max(loaded.look_from_ms))
    }

    /// Makes sure that the slot is looked at when its next deadline comes. A later one than is in the heap already is left
    /// to the look that comes first.
    pub(super) fn schedule(&self, slot: &Arc<Slot>, loaded: &mut Loaded) {
        let Some(at_ms) = self.deadline_ms(loaded) else { return };
        if loaded.timer_at_ms.is_some_and(|known_ms| known_ms <= at_ms) {
            return;
        }
        loaded.timer_at_ms = Some(at_ms);
        self.shared.deadlines.add(at_ms, slot);
    }

    /// Looks at slots when their deadlines come, for ever.
    pub(super) async fn run_timer(&self) {
        loop {
            let instant_of = |at_ms: i64| {
                let left_ms = u64::try_from(at_ms.saturating_sub(now_ms())).unwrap_or_default();
                // A clock that is set may come back to it sooner; and no instant is that far away.
                (left_ms > 0).then(|| Instant::now() + Duration::from_millis(left_ms.min(WAIT_MS_MAX)))
            };
            self.fire(self.shared.deadlines.due(instant_of).await);
        }
    }

    /// A task does it, since the core may be slow, and others are due as well.
    fn fire(&self, slot: Arc<Slot>) {
        let transactions = self.clone();
        tokio::spawn(async move {
            let mut loaded = slot.state.lock().await;
            loaded.timer_at_ms = None;
            if transactions.deadline_ms(&loaded).is_some_and(|at_ms| at_ms <= now_ms()) {
                transactions.look(&slot, &mut loaded).await;
            }
            transactions.schedule(&slot, &mut loaded);
            drop(loaded);
            transactions.remove_if_vacant(slot);
        });
    }

    /// Does what is due. Whatever fails is tried again.
    async fn look(&self, slot: &Slot, loaded: &mut Loaded) {
        let Some(record) = loaded.record.clone() else { return };
        // Who completed it stores it, whoever the coordinator is now.
        if loaded.store_at_ms.is_some() {
            loaded.store_at_ms = None;
            if let Err(error) = self.store(slot, loaded, record).await {
                tracing::debug!(transaction = %slot.id, %error, "cannot store a completed transaction");
            }
            return;
        }
        // Long enough for whatever is done now; every deadline but the last has passed.
        loaded.look_from_ms = now_ms() + COORDINATOR_AGAIN_AFTER_MS;
        if !self.coordinates(&slot.id) {
            return;
        }
        let result = match record.state {
            TransactionState::PrepareCommit | TransactionState::PrepareAbort => match self.read(slot, loaded).await {
                Ok(()) => self.finish(slot, loaded).await,
                Err(error) => Err(error),
            },
            TransactionState::Ongoing => {
                tracing::info!(transaction = %slot.id, "the transaction is aborted, its time is up");
                self.decide(slot, loaded, &Ask::AbortAbandoned).await.map(drop)
            }
            _ => {
                tracing::debug!(transaction = %slot.id, "the transactional id has expired");
                self.unstore(slot, loaded).await
            }
        };
        if let Err(error) = result {
            tracing::debug!(transaction = %slot.id, %error, "will be tried again");
        }
    }
}
