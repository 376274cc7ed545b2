//! What is wrong with a question about a transactional id.

/// Why a transactional request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    #[error("a transactional id must not be empty, nor longer than its record's key may be")]
    InvalidId,
    #[error("the transaction timeout is not above 0, or above what the broker allows")]
    InvalidTimeout,
    #[error("the producer id is not that of the transactional id")]
    InvalidProducerIdMapping,
    #[error("another producer with this transactional id is active")]
    ProducerFenced,
    #[error("the transaction's state does not allow this")]
    InvalidState,
    /// It may be asked again.
    #[error("the last transaction is still being ended")]
    Concurrent,
    #[error("the partition was not added to the transaction")]
    NotInTransaction,
    #[error("there is no such transactional id")]
    UnknownId,
    #[error("another gateway is the coordinator")]
    NotCoordinator,
    /// What was asked may have been done.
    #[error("the coordinator cannot store it")]
    CoordinatorNotAvailable,
    #[error("the transaction has more partitions than its record can hold")]
    RecordTooLarge,
}
