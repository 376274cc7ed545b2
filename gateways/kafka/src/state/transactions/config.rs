//! What an operator may set about transactions. The names in the comments are Kafka's broker settings.

use std::time::Duration;

/// Limits of all transactions of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionConfig {
    /// The longest time-out that a producer may ask for (`transaction.max.timeout.ms`).
    pub timeout_ms_max: i32,
    /// How long an id is remembered that nobody uses (`transactional.id.expiration.ms`).
    pub id_expiration: Duration,
}

impl TransactionConfig {
    /// How long an unused id is remembered, ms.
    pub(super) fn id_expiration_ms(&self) -> i64 {
        i64::try_from(self.id_expiration.as_millis()).unwrap_or(i64::MAX)
    }
}

impl Default for TransactionConfig {
    /// Kafka 4.1's defaults.
    fn default() -> Self {
        TransactionConfig { timeout_ms_max: 900_000, id_expiration: Duration::from_secs(7 * 24 * 3_600) }
    }
}
