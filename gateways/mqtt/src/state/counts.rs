//! What this gateway has done, in numbers: what `$SYS` and `/metrics` tell.
//!
//! Atomics, added to from all connections. Whoever has many to add adds them once for all that one read or write brought.

use std::sync::atomic::{AtomicU64, Ordering};

use gateway_runtime::admin::Metrics;

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn add(&self, more: u64) -> u64 {
        self.0.fetch_add(more, Ordering::Relaxed).wrapping_add(more)
    }

    pub fn subtract(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Less than nothing, for the moment in which one is taken away before it was added, is nothing.
    pub fn get(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::Relaxed).cast_signed()).unwrap_or(0)
    }
}

/// All of them, since the gateway started.
#[derive(Debug, Default)]
pub struct Counts {
    /// Bytes of packets, both ways.
    pub bytes_received: Counter,
    pub bytes_sent: Counter,
    /// Packets of every kind.
    pub packets_received: Counter,
    pub packets_sent: Counter,
    /// PUBLISH packets.
    pub publishes_received: Counter,
    pub publishes_sent: Counter,
    /// Messages that a receiver did not get: too large for it, not for it to read, or too many waited.
    pub publishes_dropped: Counter,
    /// Bytes of payloads.
    pub payload_bytes_received: Counter,
    pub payload_bytes_sent: Counter,
    /// TCP connections, whether or not they became clients.
    pub sockets_opened: Counter,
    /// CONNECT packets.
    pub connects_received: Counter,
    /// Clients that are connected. [`Counts::client_connects`] and [`Counts::client_disconnects`] keep it.
    clients_connected: Gauge,
    /// The most that there were at once.
    clients_maximum: AtomicU64,
    /// Sessions kept here, connected or not.
    pub sessions: Gauge,
    /// Sessions that ended because their time was over.
    pub sessions_expired: Gauge,
    /// Of them all, but for those that are shared.
    pub subscriptions: Gauge,
    pub shared_subscriptions: Gauge,
    pub retained_messages: Gauge,
    /// Retained messages, and those that wait for sessions here or are in flight.
    pub stored_messages: Gauge,
    /// Of retained messages as they are stored, and what those take that wait.
    pub stored_bytes: Gauge,
}

impl Counts {
    pub fn client_connects(&self) {
        let connected = self.clients_connected.add(1);
        self.clients_maximum.fetch_max(connected, Ordering::Relaxed);
    }

    pub fn client_disconnects(&self) {
        self.clients_connected.subtract(1);
    }

    pub fn clients_connected(&self) -> u64 {
        self.clients_connected.get()
    }

    pub fn clients_maximum(&self) -> u64 {
        self.clients_maximum.load(Ordering::Relaxed)
    }

    /// Writes all of it for `/metrics`.
    pub fn write(&self, metrics: &mut Metrics) {
        let counters: [(&str, &str, &Counter); 11] = [
            ("polymq_mqtt_received_bytes_total", "Bytes of packets received.", &self.bytes_received),
            ("polymq_mqtt_sent_bytes_total", "Bytes of packets sent.", &self.bytes_sent),
            ("polymq_mqtt_received_packets_total", "Packets received.", &self.packets_received),
            ("polymq_mqtt_sent_packets_total", "Packets sent.", &self.packets_sent),
            ("polymq_mqtt_received_publishes_total", "PUBLISH packets received.", &self.publishes_received),
            ("polymq_mqtt_sent_publishes_total", "PUBLISH packets sent.", &self.publishes_sent),
            (
                "polymq_mqtt_dropped_publishes_total",
                "Messages that were too large for their receiver, or found its queue full.",
                &self.publishes_dropped,
            ),
            ("polymq_mqtt_received_payload_bytes_total", "Bytes of payloads received.", &self.payload_bytes_received),
            ("polymq_mqtt_sent_payload_bytes_total", "Bytes of payloads sent.", &self.payload_bytes_sent),
            ("polymq_mqtt_opened_connections_total", "Connections that were opened.", &self.sockets_opened),
            ("polymq_mqtt_received_connects_total", "CONNECT packets received.", &self.connects_received),
        ];
        for (name, help, counter) in counters {
            metrics.single(name, "counter", help, counter.get() as f64);
        }
        let gauges = [
            ("polymq_mqtt_clients", "Clients that are connected.", self.clients_connected()),
            ("polymq_mqtt_sessions", "Sessions kept here, connected or not.", self.sessions.get()),
            ("polymq_mqtt_subscriptions", "Subscriptions.", self.subscriptions.get()),
            ("polymq_mqtt_shared_subscriptions", "Subscriptions of shares.", self.shared_subscriptions.get()),
            ("polymq_mqtt_expired_sessions", "Sessions that ended by their expiry.", self.sessions_expired.get()),
            ("polymq_mqtt_retained_messages", "Retained messages.", self.retained_messages.get()),
            (
                "polymq_mqtt_stored_messages",
                "Messages that wait for clients, and retained ones.",
                self.stored_messages.get(),
            ),
            ("polymq_mqtt_stored_bytes", "Memory that they take.", self.stored_bytes.get()),
        ];
        for (name, help, value) in gauges {
            metrics.single(name, "gauge", help, value as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_clients_are_remembered() {
        let counts = Counts::default();
        counts.client_connects();
        counts.client_connects();
        counts.client_disconnects();
        counts.client_connects();
        assert_eq!((counts.clients_connected(), counts.clients_maximum()), (2, 2));
        let gauge = Gauge::default();
        gauge.subtract(1);
        assert_eq!(gauge.get(), 0);
        gauge.add(3);
        assert_eq!(gauge.get(), 2);
    }
}
