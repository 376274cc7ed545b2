//! One suite for the core in this process and behind the RPC ([`suite`]), and the binary's own behaviour ([`process`]).

mod process;
mod suite;
mod support;
