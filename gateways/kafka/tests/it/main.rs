//! The whole Kafka gateway over a socket, on the real core: one binary, so that it is linked once.

mod admin;
mod cluster;
mod consumer_groups;
mod documentation;
mod dynamic_configs;
mod full_disk;
mod groups;
mod large;
mod quotas;
mod records;
mod security;
mod session;
mod shares;
mod slow_readers;
mod support;
mod transactions;
