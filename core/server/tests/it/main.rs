//! One suite for the core in this process and behind the RPC ([`suite`], [`leases`], [`lease_model`], [`queues`]), and the
//! binary's own behaviour ([`process`]).

mod every_core;
mod lease_model;
mod leases;
mod process;
mod queues;
mod suite;
mod support;
