//! Whole gateways on the real core, under clients that we did not write: one binary, so that it is linked once.

mod alarms;
mod busy;
mod common;
mod consume;
mod direct_reply;
mod lifecycle;
mod management;
mod publish;
mod session;
mod streams;
mod topology;
