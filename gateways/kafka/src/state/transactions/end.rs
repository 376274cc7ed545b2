//! The end of a transaction: decided by its producer, by a new producer, or because its time is up.

use core_rpc::Outcome;

use super::ask::{Change, ProducerEpoch};
use super::error::TransactionError;
use super::record::{NO_EPOCH, NO_ID, TransactionRecord};
use super::state::TransactionState;

/// Whether the producer cannot be given a higher epoch. The highest is kept back, so that it can still be fenced.
pub(super) fn is_exhausted(epoch: i16) -> bool {
    epoch >= i16::MAX - 1
}

pub(super) fn end(
    record: &TransactionRecord,
    producer: ProducerEpoch,
    outcome: Outcome,
    raise: bool,
    fresh_id: Option<i64>,
    now_ms: i64,
) -> Result<Change, TransactionError> {
    let asked_again = raise && was_raised_from(record, producer);
    if record.producer_id != producer.id && !asked_again {
        return Err(TransactionError::InvalidProducerIdMapping);
    }
    if record.epoch != producer.epoch && !asked_again {
        return Err(TransactionError::ProducerFenced);
    }
    match record.state {
        // A raised epoch is first used after the end: in it, what is being ended is not this producer's to end.
        TransactionState::PrepareCommit | TransactionState::PrepareAbort if raise && !asked_again => {
            Err(TransactionError::ProducerFenced)
        }
        TransactionState::PrepareCommit | TransactionState::PrepareAbort => match record.outcome() == Some(outcome) {
            true => Err(TransactionError::Concurrent),
            false => Err(TransactionError::InvalidState),
        },
        TransactionState::Ongoing => prepare(record, outcome, raise, fresh_id, now_ms),
        TransactionState::CompleteCommit | TransactionState::CompleteAbort if asked_again || !raise => {
            match record.state == TransactionState::complete(outcome) {
                true => Ok(Change::Keep),
                false => Err(TransactionError::InvalidState),
            }
        }
        // Nothing was appended. An abort still raises the epoch: the client may have sent what has not arrived yet.
        TransactionState::Empty | TransactionState::CompleteCommit | TransactionState::CompleteAbort => {
            match raise && outcome == Outcome::Abort {
                true => prepare(record, outcome, raise, fresh_id, now_ms),
                false => Err(TransactionError::InvalidState),
            }
        }
    }
}

/// Whether the producer's last end raised it from this epoch to the record's: its answer may have been lost.
fn was_raised_from(record: &TransactionRecord, producer: ProducerEpoch) -> bool {
    if matches!(record.state, TransactionState::Empty | TransactionState::Ongoing)
        || record.previous_epoch != producer.epoch
    {
        return false;
    }
    let same_id = producer.id == record.producer_id && producer.epoch.checked_add(1) == Some(record.epoch);
    let new_id = producer.id == record.previous_producer_id && is_exhausted(producer.epoch) && record.epoch == 0;
    same_id || new_id
}

/// The decision. With `raise` the next epoch is the producer's when the end is complete, and what it has sent in this one
/// and has not arrived is refused.
fn prepare(
    record: &TransactionRecord,
    outcome: Outcome,
    raise: bool,
    fresh_id: Option<i64>,
    now_ms: i64,
) -> Result<Change, TransactionError> {
    let mut next = TransactionRecord {
        state: TransactionState::preparing(outcome),
        ending_epoch: record.epoch,
        previous_epoch: NO_EPOCH,
        updated_ms: now_ms,
        ..record.clone()
    };
    if raise {
        if is_exhausted(record.epoch) {
            let Some(fresh_id) = fresh_id else { return Ok(Change::NeedsProducerId) };
            next.next_producer_id = fresh_id;
        }
        // Never the last, which only fencing uses.
        next.epoch = record.epoch.saturating_add(1);
        next.previous_epoch = record.epoch;
    }
    Ok(Change::Store(next))
}

/// The decision to abort an open transaction whose producer is fenced: its epoch is raised, and it is not told.
pub(super) fn fenced(record: &TransactionRecord, now_ms: i64) -> TransactionRecord {
    TransactionRecord {
        state: TransactionState::PrepareAbort,
        ending_epoch: record.epoch,
        epoch: record.epoch.saturating_add(1),
        previous_epoch: NO_EPOCH,
        updated_ms: now_ms,
        ..record.clone()
    }
}

pub(super) fn abort_abandoned(record: &TransactionRecord, now_ms: i64) -> Change {
    match record.timeout_at_ms() {
        Some(at_ms) if at_ms < now_ms => Change::Store(fenced(record, now_ms)),
        _ => Change::Keep,
    }
}

impl TransactionRecord {
    /// The record when the core has carried out the decision; None if there is none.
    pub fn completed(&self, now_ms: i64) -> Option<TransactionRecord> {
        let outcome = self.outcome()?;
        let mut next = TransactionRecord {
            state: TransactionState::complete(outcome),
            ending_epoch: NO_EPOCH,
            next_producer_id: NO_ID,
            updated_ms: now_ms,
            partitions: Default::default(),
            offsets_partitions: Default::default(),
            ..self.clone()
        };
        if self.next_producer_id != NO_ID {
            next.previous_producer_id = self.producer_id;
            next.producer_id = self.next_producer_id;
            next.epoch = 0;
        }
        Some(next)
    }
}
