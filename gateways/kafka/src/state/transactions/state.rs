//! The states of a transactional id.

use core_rpc::Outcome;
use serde::{Deserialize, Serialize};

/// What a transactional id is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionState {
    /// A producer was given an id and has not begun a transaction.
    Empty,
    /// A transaction is open.
    Ongoing,
    /// Decided to commit; the core may not have been told, or not everywhere.
    PrepareCommit,
    /// Decided to abort, likewise.
    PrepareAbort,
    /// The last transaction was committed.
    CompleteCommit,
    /// The last transaction was aborted.
    CompleteAbort,
}

impl TransactionState {
    pub const ALL: [TransactionState; 6] = [
        TransactionState::Empty,
        TransactionState::Ongoing,
        TransactionState::PrepareCommit,
        TransactionState::PrepareAbort,
        TransactionState::CompleteCommit,
        TransactionState::CompleteAbort,
    ];

    /// As tools show it.
    pub fn name(self) -> &'static str {
        match self {
            TransactionState::Empty => "Empty",
            TransactionState::Ongoing => "Ongoing",
            TransactionState::PrepareCommit => "PrepareCommit",
            TransactionState::PrepareAbort => "PrepareAbort",
            TransactionState::CompleteCommit => "CompleteCommit",
            TransactionState::CompleteAbort => "CompleteAbort",
        }
    }

    /// The decision that is being carried out.
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            TransactionState::PrepareCommit => Some(Outcome::Commit),
            TransactionState::PrepareAbort => Some(Outcome::Abort),
            _ => None,
        }
    }

    pub(super) fn preparing(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Commit => TransactionState::PrepareCommit,
            Outcome::Abort => TransactionState::PrepareAbort,
        }
    }

    pub(super) fn complete(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Commit => TransactionState::CompleteCommit,
            Outcome::Abort => TransactionState::CompleteAbort,
        }
    }

    /// The number by which the record names it: those of Kafka's own log of transactions.
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl Serialize for TransactionState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

impl<'de> Deserialize<'de> for TransactionState {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u8::deserialize(deserializer)?;
        let state = TransactionState::ALL.into_iter().find(|state| state.number() == number);
        state.ok_or_else(|| serde::de::Error::custom("no state of a transaction"))
    }
}
