//! Consuming: real clients of a whole gateway on a real core. Messages are put into the queues' topics directly.

mod counting;
mod restarts;
mod several_gateways;
mod sharing;
pub mod support;
mod taking;
