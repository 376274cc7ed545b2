//! The log core as a server: an engine on a directory, behind the RPC.
//!
//! [`Server`] is what the binary `polymq-core` and the all-in-one binary start; [`process`] is the former's life:
//! flags, ready file, signals (by [`core_process`]).

pub mod config;
pub mod metrics;
pub mod process;
pub mod server;

pub use config::{Config, Flags};
pub use server::{Server, StartError};
