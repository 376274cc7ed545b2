//! A producer begins with a transactional id: it gets the id's next epoch, and whoever had the last is fenced.

use super::ask::{Change, ProducerEpoch};
use super::end::{fenced, is_exhausted};
use super::error::TransactionError;
use super::record::{NO_EPOCH, NO_ID, TransactionRecord};
use super::state::TransactionState;

/// `expected` is what the producer had before: one that goes on after an error (KIP-360) must not fence another that has
/// begun meanwhile, and may ask again where the answer was lost.
pub(super) fn init(
    record: Option<&TransactionRecord>,
    timeout_ms: i32,
    expected: Option<ProducerEpoch>,
    fresh_id: Option<i64>,
    now_ms: i64,
) -> Result<Change, TransactionError> {
    let Some(record) = record else {
        // Whatever it had: the id was forgotten.
        return Ok(fresh_id
            .map_or(Change::NeedsProducerId, |id| Change::Store(TransactionRecord::new(id, timeout_ms, now_ms))));
    };
    if expected.is_some_and(|expected| !may_go_on(record, expected)) {
        return Err(TransactionError::ProducerFenced);
    }
    match record.state {
        TransactionState::PrepareCommit | TransactionState::PrepareAbort => Err(TransactionError::Concurrent),
        // Another producer has begun since; its transaction is not this one's to abort.
        TransactionState::Ongoing if expected.is_some_and(|expected| expected != record.producer()) => {
            Err(TransactionError::ProducerFenced)
        }
        // The open transaction is aborted first, in an epoch that nobody is given. The producer's is the one after it.
        TransactionState::Ongoing => Ok(Change::Store(fenced(record, now_ms))),
        TransactionState::Empty | TransactionState::CompleteCommit | TransactionState::CompleteAbort => {
            next_epoch(record, timeout_ms, expected, fresh_id, now_ms)
        }
    }
}

/// It has the id's producer id (its epoch is looked at later); or the one before, whose epochs it has used up: then it may
/// not have heard of the new one.
fn may_go_on(record: &TransactionRecord, expected: ProducerEpoch) -> bool {
    expected.id == record.producer_id || expected.id == record.previous_producer_id && is_exhausted(expected.epoch)
}

fn next_epoch(
    record: &TransactionRecord,
    timeout_ms: i32,
    expected: Option<ProducerEpoch>,
    fresh_id: Option<i64>,
    now_ms: i64,
) -> Result<Change, TransactionError> {
    let mut next = TransactionRecord {
        state: TransactionState::Empty,
        timeout_ms,
        started_ms: -1,
        updated_ms: now_ms,
        next_producer_id: NO_ID,
        ..record.clone()
    };
    match expected {
        Some(expected) if expected.epoch != record.epoch => {
            // Asked again: it is told once more what it was given. If another producer had begun since, there would be no
            // previous epoch.
            if expected.epoch != record.previous_epoch {
                return Err(TransactionError::ProducerFenced);
            }
        }
        _ if is_exhausted(record.epoch) => {
            let Some(fresh_id) = fresh_id else { return Ok(Change::NeedsProducerId) };
            next.previous_producer_id = record.producer_id;
            next.producer_id = fresh_id;
            next.epoch = 0;
            next.previous_epoch = expected.map_or(NO_EPOCH, |expected| expected.epoch);
        }
        _ => {
            next.epoch = record.epoch + 1;
            next.previous_epoch = expected.map_or(NO_EPOCH, |expected| expected.epoch);
        }
    }
    Ok(Change::Store(next))
}
