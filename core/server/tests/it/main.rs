//! One suite for the core in this process and behind the RPC ([`suite`], [`leases`], [`queues`]), and the binary's own behaviour ([`process`]).

mod leases;
mod process;
mod queues;
mod suite;
mod support;
