//! Transactions, as pure state: [`open`] is what a shard's writer knows of the producers (where their transactions are
//! open, which epochs are refused), [`visible`] what the readers of a partition must know (where the stable part ends, what was
//! aborted). Cursors that wait for their transaction's end are with the others, in [`crate::cursors`].
//!
//! A transaction opens with its first batch, or cursor, in a partition. Its end is one command for each shard in which it is
//! open, and one journal entry ([`crate::pack::entry::EndBody`]) behind the markers of all its partitions there, in the same
//! group: a torn tail leaves at most markers that end nothing, and the same call again ends the transaction.

pub mod open;
pub mod visible;

pub use open::{Fence, Open, Transactions};
pub use visible::Visible;
