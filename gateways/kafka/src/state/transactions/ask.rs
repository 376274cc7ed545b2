//! What may be asked of a transactional id, and the answer: how its record changes.

use core_rpc::{Outcome, PartitionId};

use super::config::TransactionConfig;
use super::end::{abort_abandoned, end};
use super::error::TransactionError;
use super::init::init;
use super::record::TransactionRecord;
use super::state::TransactionState;

/// A producer in one of its epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerEpoch {
    pub id: i64,
    pub epoch: i16,
}

/// What takes part in a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addition {
    pub partitions: Vec<PartitionId>,
    /// A group's, by [`super::offsets_partition`].
    pub offsets_partition: Option<u32>,
}

/// A question about one transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A producer begins, or goes on after an error: it names what it had (KIP-360).
    Init { timeout_ms: i32, expected: Option<ProducerEpoch> },
    /// Partitions or a group's offsets are added; begins a transaction.
    Add { producer: ProducerEpoch, addition: Addition },
    /// Something is appended or committed by a client that announces nothing (KIP-890): begins a transaction.
    Begin { producer: ProducerEpoch, addition: Addition },
    /// Something is appended or committed by a client that has announced it.
    Verify { producer: ProducerEpoch, addition: Addition },
    /// The transaction is ended. `raise`: the producer's epoch is raised with every transaction (KIP-890).
    End { producer: ProducerEpoch, outcome: Outcome, raise: bool },
    /// An open transaction whose time is up is aborted, its producer fenced.
    AbortAbandoned,
}

/// What becomes of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stays; the question is answered by it.
    Keep,
    /// It becomes this.
    Store(TransactionRecord),
    /// It cannot be said without a producer id that nobody had before.
    NeedsProducerId,
}

impl Ask {
    /// How the record changes. `record` is None for an id that is not known; `fresh_id` is a producer id that nobody has.
    pub fn decide(
        &self,
        record: Option<&TransactionRecord>,
        fresh_id: Option<i64>,
        config: &TransactionConfig,
        now_ms: i64,
    ) -> Result<Change, TransactionError> {
        match self {
            Ask::Init { timeout_ms, expected } => match (1..=config.timeout_ms_max).contains(timeout_ms) {
                true => init(record, *timeout_ms, *expected, fresh_id, now_ms),
                false => Err(TransactionError::InvalidTimeout),
            },
            Ask::Add { producer, addition } => add(known(record)?, *producer, addition, now_ms),
            Ask::Begin { producer, addition } => begin(known(record)?, *producer, addition, now_ms),
            Ask::Verify { producer, addition } => verify(known(record)?, *producer, addition),
            Ask::End { producer, outcome, raise } => end(known(record)?, *producer, *outcome, *raise, fresh_id, now_ms),
            Ask::AbortAbandoned => Ok(record.map_or(Change::Keep, |record| abort_abandoned(record, now_ms))),
        }
    }
}

fn known(record: Option<&TransactionRecord>) -> Result<&TransactionRecord, TransactionError> {
    record.ok_or(TransactionError::InvalidProducerIdMapping)
}

/// Whether it is the id's producer in its current epoch, and nothing is being ended.
fn check(record: &TransactionRecord, producer: ProducerEpoch) -> Result<(), TransactionError> {
    if record.producer_id != producer.id {
        return Err(TransactionError::InvalidProducerIdMapping);
    }
    if record.epoch != producer.epoch {
        return Err(TransactionError::ProducerFenced);
    }
    if record.state.outcome().is_some() { Err(TransactionError::Concurrent) } else { Ok(()) }
}

fn add(
    record: &TransactionRecord,
    producer: ProducerEpoch,
    addition: &Addition,
    now_ms: i64,
) -> Result<Change, TransactionError> {
    check(record, producer)?;
    if record.state == TransactionState::Ongoing && record.contains(addition) {
        return Ok(Change::Keep);
    }
    Ok(Change::Store(with(record, addition, now_ms)))
}

/// As `add`, but once the transaction is open the core alone keeps track of where: no store for each partition.
fn begin(
    record: &TransactionRecord,
    producer: ProducerEpoch,
    addition: &Addition,
    now_ms: i64,
) -> Result<Change, TransactionError> {
    check(record, producer)?;
    match record.state {
        TransactionState::Ongoing => Ok(Change::Keep),
        _ => Ok(Change::Store(with(record, addition, now_ms))),
    }
}

fn verify(
    record: &TransactionRecord,
    producer: ProducerEpoch,
    addition: &Addition,
) -> Result<Change, TransactionError> {
    check(record, producer)?;
    let is_in = record.state == TransactionState::Ongoing && record.contains(addition);
    if is_in { Ok(Change::Keep) } else { Err(TransactionError::NotInTransaction) }
}

fn with(record: &TransactionRecord, addition: &Addition, now_ms: i64) -> TransactionRecord {
    let mut next = record.clone();
    if next.state != TransactionState::Ongoing {
        next.state = TransactionState::Ongoing;
        next.started_ms = now_ms;
    }
    next.updated_ms = now_ms;
    next.add(addition);
    next
}
