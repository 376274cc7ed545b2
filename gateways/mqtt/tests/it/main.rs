//! Whole gateways on the real core, under a client of packets: one binary, so that it is linked once.

mod access;
mod chaos;
mod claims;
mod common;
mod connect;
mod cut_off;
mod delayed;
mod deliver;
mod hop;
mod import;
mod publish;
mod retained;
mod sessions;
mod shared;
mod subscribe;
mod sys;
mod takeover;
mod unsubscribe;
