//! A slot holds one transactional id: its lock, its record, and what is known of the stored one.

use std::sync::Arc;

use core_rpc::Core;
use parking_lot::RwLock;
use tokio::sync::Mutex;

use super::{Open, Transactions};
use crate::state::transactions::ask::{Ask, Change};
use crate::state::transactions::error::TransactionError;
use crate::state::transactions::record::TransactionRecord;
use crate::state::transactions::state::TransactionState;

/// Attempts at one question, at most: most of them were overtaken by another gateway's.
const ATTEMPTS_MAX: usize = 16;

pub(super) struct Slot {
    pub(super) id: Arc<str>,
    pub(super) state: Mutex<Loaded>,
    /// The record as it was last seen, for those who only look.
    pub(super) seen: RwLock<Option<Arc<TransactionRecord>>>,
}

#[derive(Default)]
pub(super) struct Loaded {
    /// None: there is none, if `is_known`.
    pub(super) record: Option<Arc<TransactionRecord>>,
    /// Of the stored record.
    pub(super) version: Option<u64>,
    /// Whether there is a reason to believe that the stored record is this one. Not after a failed store.
    pub(super) is_known: bool,
    /// The record is Complete…, the stored one still Prepare…: from it the same would come again, so the store can wait for
    /// the next change. When to store it all the same, ms since the Unix epoch.
    pub(super) store_at_ms: Option<i64>,
    /// Before that the timer need not look at it again, ms since the Unix epoch.
    pub(super) look_from_ms: i64,
    /// The earliest entry in the timer for this slot.
    pub(super) timer_at_ms: Option<i64>,
}

impl Slot {
    pub(super) fn new(id: &str) -> Self {
        Slot { id: id.into(), state: Mutex::default(), seen: RwLock::default() }
    }
}

impl<C: Core> Transactions<C> {
    pub(super) fn slot(&self, id: &str) -> Arc<Slot> {
        // Most lookups find it, and then the name need not be copied.
        if let Some(slot) = self.shared.slots.get(id) {
            return slot.clone();
        }
        self.shared.slots.entry(id.to_owned()).or_insert_with(|| Arc::new(Slot::new(id))).clone()
    }

    /// Forgets a slot of an id that does not exist, so that names asked for once cost no memory.
    pub(super) fn remove_if_vacant(&self, slot: Arc<Slot>) {
        self.shared.slots.remove_if(&*slot.id, |_, kept| {
            // The map's and ours: nobody else has it, and under the map's lock nobody can get it.
            Arc::ptr_eq(kept, &slot)
                && Arc::strong_count(kept) == 2
                && kept.state.try_lock().is_ok_and(|loaded| loaded.record.is_none())
        });
    }

    /// The record is this from now on, as far as this gateway knows.
    pub(super) fn set(&self, slot: &Slot, loaded: &mut Loaded, record: Option<Arc<TransactionRecord>>) {
        let is_open = |record: &Arc<TransactionRecord>| record.state == TransactionState::Ongoing;
        if let Some(before) = loaded.record.as_ref().filter(|record| is_open(record)) {
            let is_other = record.as_ref().is_none_or(|now| !is_open(now) || now.producer_id != before.producer_id);
            if is_other {
                self.shared.open.remove_if(&before.producer_id, |_, open| open.id == slot.id);
            }
        }
        if let Some(now) = record.as_ref().filter(|record| is_open(record)) {
            let open = Open { id: slot.id.clone(), record: now.clone() };
            self.shared.open.insert(now.producer_id, open);
        }
        *slot.seen.write() = record.clone();
        loaded.record = record;
        loaded.store_at_ms = None;
    }

    /// Asks, and does all that follows from the answer. Returns the record that answers the question.
    pub(super) async fn decide(
        &self,
        slot: &Slot,
        loaded: &mut Loaded,
        ask: &Ask,
    ) -> Result<Arc<TransactionRecord>, TransactionError> {
        let (mut is_fresh, mut fresh_id) = (false, None);
        for _ in 0..ATTEMPTS_MAX {
            if !loaded.is_known {
                self.read(slot, loaded).await?;
                is_fresh = true;
            }
            if loaded.record.as_ref().is_some_and(|record| record.outcome().is_some()) {
                // Carrying out an outdated decision would be refused by the core.
                if !is_fresh {
                    loaded.is_known = false;
                    continue;
                }
                self.finish(slot, loaded).await?;
            }
            let decided = ask.decide(loaded.record.as_deref(), fresh_id, &self.shared.config, crate::now_ms());
            let next = match decided {
                // Only a store proves that the record was the latest.
                Ok(Change::Keep) | Err(_) if !is_fresh => {
                    loaded.is_known = false;
                    continue;
                }
                Err(error) => {
                    if error == TransactionError::InvalidState {
                        tracing::info!(transaction = %slot.id, ?ask, record = ?loaded.record, "not in this state");
                    }
                    return Err(error);
                }
                Ok(Change::Keep) => return loaded.record.clone().ok_or(TransactionError::UnknownId),
                Ok(Change::NeedsProducerId) => {
                    let id = self.shared.producer_ids.next().await;
                    fresh_id = Some(id.map_err(|_| TransactionError::CoordinatorNotAvailable)?);
                    continue;
                }
                Ok(Change::Store(next)) => Arc::new(next),
            };
            if !self.store(slot, loaded, next.clone()).await? {
                is_fresh = true;
                continue;
            }
            self.shared.journal.transaction(&slot.id, Some(&next));
            if next.outcome().is_none() {
                return Ok(next);
            }
            match (self.finish(slot, loaded).await, ask) {
                // The way is free: now it gets its epoch.
                (Ok(()), Ask::Init { .. }) => {}
                (Err(error), Ask::Init { .. }) => return Err(error),
                // The decision stands, whether the core can be told of it now or later.
                _ => return next.completed(next.updated_ms).map(Arc::new).ok_or(TransactionError::InvalidState),
            }
        }
        Err(TransactionError::Concurrent)
    }
}
