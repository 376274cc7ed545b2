//! Transactions: the coordinator of Kafka's transactional producers (KIP-98, KIP-360, KIP-890).
//!
//! Two layers. [`TransactionRecord`] is one transactional id as it is stored, and [`Ask`] what may be asked of it: a pure
//! function from the record, the question and the time to a [`Change`] or an error. [`Transactions`] is the shell around
//! many of them: it loads and stores records, ends transactions in the core, and runs one timer for all.
//!
//! ```text
//!             first partition or offsets          EndTxn               the core has ended it
//!   Empty ───────────────────────────► Ongoing ─────────► PrepareCommit ───────────────► CompleteCommit
//!     ▲                                   ▲  │
//!     │ InitProducerId                    │  └ EndTxn, time-out, ► PrepareAbort ───────► CompleteAbort
//!     └─────── from Complete… ────────────┘    InitProducerId
//!                                 from Complete…
//! ```
//!
//! Each change is a compare-and-set of the record in the core's meta, by its version: whoever decides on an outdated record is
//! refused, reads it anew and decides again. So which gateway works on an id is a matter of economy, not of safety; the coordinator
//! is where clients are sent, and who keeps the timers. A decision to commit or abort is durable (Prepare…) before the core is
//! asked to end the transaction, which it does everywhere in one call that may be repeated; who finds a record in Prepare…
//! repeats it.
//!
//! Where a producer's transaction has batches and offsets the core knows; the partitions in the record are those that clients
//! announced, for checking and describing.

mod ask;
mod config;
mod end;
mod error;
mod init;
mod record;
mod shell;
mod state;

#[cfg(test)]
mod tests;

pub use ask::{Addition, Ask, Change, ProducerEpoch};
pub use config::TransactionConfig;
pub use error::TransactionError;
pub use record::{RecordError, TransactionRecord};
pub use shell::{Coordinates, ListFilter, ListedTransaction, TransactionDescription, Transactions};
pub use state::TransactionState;

/// Partitions of the topic in which Kafka keeps what groups commit (`offsets.topic.num.partitions`).
const OFFSETS_PARTITIONS: u32 = 50;

/// The partition of `__consumer_offsets` that a group belongs to: how Kafka names, in a transaction, that offsets of a
/// group are part of it.
pub fn offsets_partition(group: &str) -> u32 {
    // Java's hash of a string, over its UTF-16 units.
    let hash = group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Java's absolute value, with the one number that has none made 0.
    let positive = if hash == i32::MIN { 0 } else { hash.unsigned_abs() };
    positive % OFFSETS_PARTITIONS
}
