//! Between this protocol's words and the core's: names of vhosts, and published messages to batches.

pub mod names;
pub mod round;
