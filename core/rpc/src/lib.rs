//! The contract between gateways and the log core: requests, answers, errors, and the [`Core`] trait.
//!
//! Four nouns: **log** (append, fetch, offsets, trim, transactions), **group** (cursors, and lease maps), **timer** (messages
//! that are not handed out before their time) and **meta** (a versioned key-value space with sessions); topics are entries of meta with verbs of their own.
//! `LocalCore` (crate core-log) and `RemoteCore` (module client) implement the trait; a gateway takes `impl Core` and cannot tell
//! which it has. No word here names a wire protocol.

pub mod client;
pub mod cursor;
pub mod ids;
pub mod lease;
pub mod log;
pub mod meta;
pub mod server;
pub mod topic;
pub mod transaction;
pub mod wire;

mod any_core;
mod core_trait;
mod verbs;

pub use any_core::AnyCore;
pub use client::RemoteCore;
pub use core_trait::Core;
pub use cursor::*;
pub use ids::*;
pub use lease::*;
pub use log::*;
pub use meta::*;
pub use topic::*;
pub use transaction::*;
pub use wire::{Address, Listener};
