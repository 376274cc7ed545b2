//! One suite for the core in this process and behind the RPC ([`suite`], [`leases`]), and the binary's own behaviour ([`process`]).

mod leases;
mod process;
mod suite;
mod support;
