//! What an operator may want to know of transactions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use core_rpc::{Core, TopicId};
use regex_lite::Regex;

use super::Transactions;
use crate::now_ms;
use crate::state::transactions::error::TransactionError;
use crate::state::transactions::record::TransactionRecord;
use crate::state::transactions::state::TransactionState;

/// Which transactional ids to list; all that are set must hold.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Empty: of any.
    pub producer_ids: Vec<i64>,
    /// None: in any.
    pub states: Option<Vec<TransactionState>>,
    /// Only those whose transaction began longer ago.
    pub longer_than_ms: Option<i64>,
    /// Matches the whole id.
    pub pattern: Option<Regex>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTransaction {
    pub id: String,
    pub producer_id: i64,
    pub state: TransactionState,
}

#[derive(Clone, Debug)]
pub struct TransactionDescription {
    pub record: Arc<TransactionRecord>,
    /// Where it is open or was announced to be.
    pub partitions: BTreeMap<TopicId, BTreeSet<u32>>,
}

impl ListFilter {
    fn lets_through(&self, id: &str, record: &TransactionRecord, now_ms: i64) -> bool {
        (self.producer_ids.is_empty() || self.producer_ids.contains(&record.producer_id))
            && self.states.as_ref().is_none_or(|states| states.contains(&record.state))
            && self.longer_than_ms.is_none_or(|longer_ms| now_ms.saturating_sub(record.started_ms) > longer_ms)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
    }
}

impl<C: Core> Transactions<C> {
    /// The transactional ids that this gateway coordinates.
    pub fn list(&self, filter: &ListFilter) -> Vec<ListedTransaction> {
        let now_ms = now_ms();
        let mut listed = Vec::new();
        for slot in &self.shared.slots {
            let Some(record) = slot.seen.read().clone() else { continue };
            if self.coordinates(&slot.id) && filter.lets_through(&slot.id, &record, now_ms) {
                let (producer_id, state) = (record.producer_id, record.state);
                listed.push(ListedTransaction { id: slot.id.to_string(), producer_id, state });
            }
        }
        listed
    }

    pub async fn describe(&self, id: &str) -> Result<TransactionDescription, TransactionError> {
        if id.is_empty() {
            return Err(TransactionError::InvalidId);
        }
        if !self.coordinates(id) {
            return Err(TransactionError::NotCoordinator);
        }
        let slot = self.shared.slots.get(id).map(|slot| slot.clone());
        let record = slot.and_then(|slot| slot.seen.read().clone()).ok_or(TransactionError::UnknownId)?;
        let mut partitions = record.partitions.clone();
        if record.state == TransactionState::Ongoing || record.outcome().is_some() {
            let open = self.shared.core.transactions_open(Some(record.producer_id)).await;
            let open = open.map_err(|_| TransactionError::CoordinatorNotAvailable)?;
            // Where only offsets are pending, it is the group that takes part.
            for open in open.into_iter().filter(|open| open.first_offset.is_some()) {
                partitions.entry(open.partition.topic).or_default().insert(open.partition.index);
            }
        }
        Ok(TransactionDescription { record, partitions })
    }
}
