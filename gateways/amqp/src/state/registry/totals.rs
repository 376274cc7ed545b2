//! What the connections of this gateway did since it started, for `/metrics`.

use std::sync::atomic::Ordering;

use gateway_runtime::admin::Metrics;

use super::counters::{ChannelCounters, Counter};
use super::{Connection, Registry};

/// Sums over connections.
#[derive(Debug, Default)]
pub struct Totals {
    counters: ChannelCounters,
    received_bytes: Counter,
    sent_bytes: Counter,
}

impl Totals {
    pub fn add(&self, connection: &Connection) {
        connection.add_to(&self.counters);
        self.received_bytes.add(connection.received_bytes.get());
        self.sent_bytes.add(connection.sent_bytes.get());
    }

    fn absorb(&self, other: &Totals) {
        self.counters.absorb(&other.counters);
        self.received_bytes.add(other.received_bytes.get());
        self.sent_bytes.add(other.sent_bytes.get());
    }
}

impl Registry {
    /// What all connections did, open or closed.
    fn totals(&self) -> Totals {
        let past = self.past.lock();
        let totals = Totals::default();
        totals.absorb(&past);
        self.all().iter().for_each(|connection| totals.add(connection));
        totals
    }

    pub fn write(&self, metrics: &mut Metrics) {
        let totals = self.totals();
        let of = &totals.counters;
        let counters: [(&str, &str, u64); 10] = [
            ("polymq_amqp_published_messages_total", "Messages published.", of.publish.get()),
            ("polymq_amqp_confirmed_messages_total", "Messages confirmed.", of.confirm.get()),
            (
                "polymq_amqp_unroutable_messages_total",
                "Messages that no queue took, returned or dropped.",
                of.return_unroutable.get() + of.drop_unroutable.get(),
            ),
            (
                "polymq_amqp_delivered_messages_total",
                "Messages delivered to consumers.",
                of.deliver.get() + of.deliver_no_ack.get(),
            ),
            ("polymq_amqp_got_messages_total", "Messages taken by basic.get.", of.get.get() + of.get_no_ack.get()),
            ("polymq_amqp_empty_gets_total", "basic.get of an empty queue.", of.get_empty.get()),
            ("polymq_amqp_redelivered_messages_total", "Messages delivered or got once more.", of.redeliver.get()),
            ("polymq_amqp_acknowledged_messages_total", "Messages acknowledged.", of.ack.get()),
            ("polymq_amqp_received_bytes_total", "Bytes received.", totals.received_bytes.get()),
            ("polymq_amqp_sent_bytes_total", "Bytes sent.", totals.sent_bytes.get()),
        ];
        for (name, help, value) in counters {
            metrics.single(name, "counter", help, value as f64);
        }
        let channels: Vec<_> = self.all().iter().flat_map(|connection| connection.channels()).collect();
        let consumers: u64 = channels.iter().map(|channel| u64::from(channel.consumers.load(Ordering::Relaxed))).sum();
        let unacknowledged: u64 = channels.iter().map(|channel| channel.unacknowledged.load(Ordering::Relaxed)).sum();
        let unconfirmed: u64 = channels.iter().map(|channel| channel.unconfirmed.load(Ordering::Relaxed)).sum();
        let blocked = self.all().iter().filter(|connection| connection.is_blocked()).count();
        let gauges: [(&str, &str, f64); 5] = [
            ("polymq_amqp_channels", "Open channels.", channels.len() as f64),
            ("polymq_amqp_consumers", "Consumers.", consumers as f64),
            ("polymq_amqp_unacknowledged_messages", "Deliveries that wait to be settled.", unacknowledged as f64),
            ("polymq_amqp_unconfirmed_messages", "Publishes that wait for their confirm.", unconfirmed as f64),
            ("polymq_amqp_blocked_connections", "Connections that may not publish for now.", blocked as f64),
        ];
        for (name, help, value) in gauges {
            metrics.single(name, "gauge", help, value);
        }
    }
}
