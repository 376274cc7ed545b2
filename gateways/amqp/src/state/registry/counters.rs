//! What a channel did, counted for the management API and for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        if count > 0 {
            self.0.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Messages of one channel, by what became of them; named as RabbitMQ names them in `message_stats`.
#[derive(Debug, Default)]
pub struct ChannelCounters {
    pub publish: Counter,
    pub confirm: Counter,
    pub return_unroutable: Counter,
    pub drop_unroutable: Counter,
    /// Delivered to consumers that acknowledge.
    pub deliver: Counter,
    pub deliver_no_ack: Counter,
    pub get: Counter,
    pub get_no_ack: Counter,
    pub get_empty: Counter,
    pub redeliver: Counter,
    pub ack: Counter,
}

impl ChannelCounters {
    /// Adds what another counted.
    pub fn absorb(&self, other: &ChannelCounters) {
        let pairs = [
            (&self.publish, &other.publish),
            (&self.confirm, &other.confirm),
            (&self.return_unroutable, &other.return_unroutable),
            (&self.drop_unroutable, &other.drop_unroutable),
            (&self.deliver, &other.deliver),
            (&self.deliver_no_ack, &other.deliver_no_ack),
            (&self.get, &other.get),
            (&self.get_no_ack, &other.get_no_ack),
            (&self.get_empty, &other.get_empty),
            (&self.redeliver, &other.redeliver),
            (&self.ack, &other.ack),
        ];
        pairs.into_iter().for_each(|(own, of)| own.add(of.get()));
    }
}
