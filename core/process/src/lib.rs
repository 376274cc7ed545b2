//! What every process of ours does alike, core or gateway: logging, the ready file, the signals that end it, its threads.

pub mod admin;
pub mod lines;
pub mod logging;
pub mod ready;
pub mod signals;
pub mod suggest;
pub mod workers;
