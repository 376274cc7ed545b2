//! Whole-gateway tests of what becomes of messages and queues by themselves, with a client that we did not write.

mod dead_letters;
mod delayed;
mod limits;
mod support;
mod time_to_live;
mod transactions;
mod vanishing;
