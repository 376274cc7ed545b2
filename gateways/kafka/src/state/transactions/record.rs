//! A transactional id as it is stored.
//!
//! ```text
//! value of `kafka/transaction/<namespace>/<transactional id>`:
//!   version u8 = 1 │ TransactionRecord in postcard
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use core_rpc::{Outcome, PartitionId, TopicId};
use serde::{Deserialize, Serialize};

use super::ask::{Addition, ProducerEpoch};
use super::state::TransactionState;

const RECORD_VERSION: u8 = 1;

/// No producer id, where a record may have one.
pub(super) const NO_ID: i64 = -1;
/// No epoch, where a record may have one.
pub(super) const NO_EPOCH: i16 = -1;

/// All that is known of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionRecord {
    pub producer_id: i64,
    pub epoch: i16,
    /// The id before this one, whose epochs ran out; -1 if there was none.
    pub previous_producer_id: i64,
    /// The epoch before this one, of the same producer: it may ask again for what it was given then. -1 if another
    /// producer had it, who must not.
    pub previous_epoch: i16,
    /// While ending: the id that follows, as the epochs of this one have run out; else -1.
    pub next_producer_id: i64,
    /// While ending: the epoch whose transaction is ended; else -1.
    pub ending_epoch: i16,
    pub state: TransactionState,
    pub timeout_ms: i32,
    /// When the transaction began, ms since the Unix epoch; -1 before the first.
    pub started_ms: i64,
    /// Of the last change, ms since the Unix epoch.
    pub updated_ms: i64,
    /// Partitions that were announced to be in the transaction.
    pub partitions: BTreeMap<TopicId, BTreeSet<u32>>,
    /// Partitions of `__consumer_offsets` that were, by [`super::offsets_partition`].
    pub offsets_partitions: BTreeSet<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the transaction's record has the unknown version {0:?}")]
    Version(Option<u8>),
    #[error("the transaction's record cannot be read: {0}")]
    Damaged(postcard::Error),
}

impl TransactionRecord {
    pub(super) fn new(producer_id: i64, timeout_ms: i32, now_ms: i64) -> Self {
        TransactionRecord {
            producer_id,
            epoch: 0,
            previous_producer_id: NO_ID,
            previous_epoch: NO_EPOCH,
            next_producer_id: NO_ID,
            ending_epoch: NO_EPOCH,
            state: TransactionState::Empty,
            timeout_ms,
            started_ms: -1,
            updated_ms: now_ms,
            partitions: BTreeMap::new(),
            offsets_partitions: BTreeSet::new(),
        }
    }

    pub fn encode(&self) -> Result<Bytes, RecordError> {
        postcard::to_extend(self, vec![RECORD_VERSION]).map(Bytes::from).map_err(RecordError::Damaged)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&RECORD_VERSION, rest)) => postcard::from_bytes(rest).map_err(RecordError::Damaged),
            other => Err(RecordError::Version(other.map(|(version, _)| *version))),
        }
    }

    pub fn producer(&self) -> ProducerEpoch {
        ProducerEpoch { id: self.producer_id, epoch: self.epoch }
    }

    /// Whether all of it was announced.
    pub fn contains(&self, addition: &Addition) -> bool {
        self.contains_partitions(&addition.partitions)
            && addition.offsets_partition.is_none_or(|partition| self.offsets_partitions.contains(&partition))
    }

    fn contains_partitions(&self, partitions: &[PartitionId]) -> bool {
        let is_known = |partition: &PartitionId| {
            self.partitions.get(&partition.topic).is_some_and(|indexes| indexes.contains(&partition.index))
        };
        partitions.iter().all(is_known)
    }

    pub(super) fn add(&mut self, addition: &Addition) {
        for partition in &addition.partitions {
            self.partitions.entry(partition.topic).or_default().insert(partition.index);
        }
        self.offsets_partitions.extend(addition.offsets_partition);
    }

    /// When an open transaction is abandoned.
    pub fn timeout_at_ms(&self) -> Option<i64> {
        let ongoing = self.state == TransactionState::Ongoing;
        ongoing.then(|| self.started_ms.saturating_add(i64::from(self.timeout_ms)))
    }

    /// The decision that is being carried out.
    pub fn outcome(&self) -> Option<Outcome> {
        self.state.outcome()
    }
}
