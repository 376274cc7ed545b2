//! The storage engine of the log core: an [`Engine`] keeps the batches and cursors of many partitions on one [`disk`].
//!
//! The log is a sequence of packs ([`pack`]): files of journal entries of many partitions, written by one thread per
//! shard ([`shard`]) in groups that share one sync. What is appended stays in memory for a while, so that readers at the tail
//! never touch the disk; older batches are read by the packs' indexes, off the writers' threads ([`cold`]).
//!
//! What was answered is as safe as the topic's durability says; nothing is visible before it is. After a crash the
//! newest snapshot of each shard and the journal behind it restore everything ([`shard::recover`]).
//!
//! [`meta`] is the other half of the core, a small key-value space with sessions and the topics; [`LocalCore`] is both.

pub mod append;
mod buffers;
pub mod clean;
pub mod clock;
pub mod cold;
pub mod compact;
pub mod config;
pub mod counts;
pub mod cursors;
pub mod disk;
pub mod engine;
pub mod fetch;
pub mod groups;
pub mod leases;
pub mod local_core;
pub mod meta;
pub mod offsets;
pub mod pack;
pub mod partition;
pub mod producers;
pub mod shard;
pub mod snapshot;
pub mod transact;
pub mod transactions;
pub mod transfer;
pub mod wait;

pub use clock::{Clock, SystemClock};
pub use config::Config;
pub use engine::{Engine, OpenError};
pub use local_core::LocalCore;
