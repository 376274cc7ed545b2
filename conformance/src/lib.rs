//! Conformance: real clients against real processes, with the original broker as the oracle.
//!
//! [`broker`] starts what is tested (PolyMQ in either shape, or Apache Kafka from its jars), [`client`] runs the client
//! programs of `conformance/kafka/` against it, [`bad_bytes`] is the client that does not follow the protocol,
//! [`kill`] and [`exactly_once`] end processes at bad moments, and [`report`] says what came out. The binaries in
//! `src/bin` put them together.

pub mod bad_bytes;
pub mod broker;
pub mod client;
pub mod exactly_once;
pub mod kill;
pub mod report;
