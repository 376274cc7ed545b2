//! Carries out a decision: the core ends the transaction wherever it is open, in one call that may be repeated.

use std::sync::Arc;

use core_rpc::{Core, TransactionEnd};

use super::Transactions;
use super::slot::{Loaded, Slot};
use crate::now_ms;
use crate::state::transactions::error::TransactionError;
use crate::translate::marker;

/// How long a completed record may wait for its store.
const STORE_COMPLETED_AFTER_MS: i64 = 1_000;

/// When a decision is tried again that the core could not carry out.
const FINISH_AGAIN_AFTER_MS: i64 = 500;

impl<C: Core> Transactions<C> {
    /// Carries out the record's decision, if it has one, which must have been stored or read just now. An error: the core could not; it will be tried again.
    pub(super) async fn finish(&self, slot: &Slot, loaded: &mut Loaded) -> Result<(), TransactionError> {
        let Some(record) = loaded.record.clone() else { return Ok(()) };
        let Some(outcome) = record.outcome() else { return Ok(()) };
        let end = TransactionEnd {
            producer_id: record.producer_id,
            epoch: record.epoch,
            ended_epoch_max: record.ending_epoch,
            // Of the record that is the decision: later decisions are stored with higher versions.
            decision: loaded.version,
            outcome,
            marker: marker::end_marker(record.producer(), outcome, now_ms()),
        };
        match self.shared.core.transaction_end(end).await {
            Ok(_) => {}
            // Somebody ended it with a higher epoch: a tool that aborts what hangs.
            Err(error @ core_rpc::TransactionError::ProducerFenced) => {
                tracing::warn!(transaction = %slot.id, %error, "the transaction was ended by somebody else");
            }
            // This gateway was held up; what it knows is outdated.
            Err(core_rpc::TransactionError::Outdated) => {
                loaded.is_known = false;
                return Err(TransactionError::Concurrent);
            }
            Err(error) => {
                tracing::warn!(transaction = %slot.id, %error, "cannot end the transaction yet");
                loaded.look_from_ms = now_ms() + FINISH_AGAIN_AFTER_MS;
                return Err(TransactionError::Concurrent);
            }
        }
        let completed = record.completed(now_ms()).map(Arc::new);
        self.shared.journal.transaction(&slot.id, completed.as_deref());
        self.set(slot, loaded, completed);
        loaded.store_at_ms = Some(now_ms() + STORE_COMPLETED_AFTER_MS);
        Ok(())
    }
}
