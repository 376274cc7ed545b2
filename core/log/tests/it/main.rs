//! The engine through its public interface: one suite over every disk, and what happens when disks fail.

mod cold_queues;
mod common;
mod compaction;
mod compaction_crashes;
mod compaction_transactions;
mod crash;
mod faults;
mod inline;
mod leases;
mod model;
mod queues;
mod suite;
mod transaction_model;
mod transactions;
