//! One connection as others see it: who it is, what was agreed with it, its channels, and how to end it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use codec_amqp::FieldTable;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::counters::{ChannelCounters, Counter};
use crate::errors::Refusal;
use crate::state::access::User;
use crate::state::queues::Outbox;

/// What the client said that it understands (`capabilities` of its properties).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub publisher_confirms: bool,
    pub exchange_exchange_bindings: bool,
    pub basic_nack: bool,
    /// Wants `basic.cancel` when the server ends a consumer.
    pub consumer_cancel_notify: bool,
    /// Wants `connection.blocked` and `connection.unblocked`.
    pub connection_blocked: bool,
    /// Wants `connection.close` when its login is refused, instead of a closed socket.
    pub authentication_failure_close: bool,
}

/// What `connection.tune-ok` agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The greatest channel number.
    pub channel_max: u16,
    /// Of a whole frame, bytes.
    pub frame_max: u32,
    /// 0: none.
    pub heartbeat_seconds: u16,
}

/// What a connection is made of.
#[derive(Debug)]
pub struct ConnectionParts {
    pub id: u64,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub is_tls: bool,
    pub mechanism: &'static str,
    pub user: Arc<User>,
    pub vhost: Arc<str>,
    pub client_properties: FieldTable,
    pub capabilities: Capabilities,
    pub negotiated: Negotiated,
    /// Begins the names under which its channels hold messages: unique over all gateways of a core.
    pub holder_prefix: String,
    /// Ms since the Unix epoch.
    pub connected_ms: i64,
}

/// One connection that has opened its vhost. Its task owns the socket; everybody else sees this.
#[derive(Debug)]
pub struct Connection {
    /// Unique in this gateway.
    pub id: u64,
    /// `127.0.0.1:50412 -> 127.0.0.1:5672`
    pub name: String,
    /// What the client calls itself (`connection_name`), if it does.
    pub given_name: Option<String>,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub is_tls: bool,
    pub mechanism: &'static str,
    pub user: Arc<User>,
    pub vhost: Arc<str>,
    /// The core's namespace of the vhost.
    pub namespace: Arc<str>,
    pub client_properties: FieldTable,
    pub capabilities: Capabilities,
    pub negotiated: Negotiated,
    pub holder_prefix: String,
    pub connected_ms: i64,
    /// What the queues want to send to it.
    pub outbox: Arc<Outbox>,
    /// Bytes read and written.
    pub received_bytes: Counter,
    pub sent_bytes: Counter,
    pub is_blocked: AtomicBool,
    channels: RwLock<Vec<Arc<ChannelInfo>>>,
    /// What the channels did that are closed.
    closed_channels: ChannelCounters,
    closing: Mutex<Option<Refusal>>,
    closes: Notify,
}

/// One channel as others see it.
#[derive(Debug)]
pub struct ChannelInfo {
    pub number: u16,
    pub counters: ChannelCounters,
    pub is_confirming: AtomicBool,
    pub is_transactional: AtomicBool,
    pub consumers: AtomicU32,
    /// Deliveries that wait for their acknowledgement.
    pub unacknowledged: AtomicU64,
    /// Publishes that wait for their confirm.
    pub unconfirmed: AtomicU64,
    /// Of a consumer made from now on, and of the channel; 0: no limit.
    pub prefetch_count: AtomicU32,
    pub global_prefetch_count: AtomicU32,
}

impl ChannelInfo {
    pub fn new(number: u16) -> ChannelInfo {
        ChannelInfo {
            number,
            counters: ChannelCounters::default(),
            is_confirming: AtomicBool::new(false),
            is_transactional: AtomicBool::new(false),
            consumers: AtomicU32::new(0),
            unacknowledged: AtomicU64::new(0),
            unconfirmed: AtomicU64::new(0),
            prefetch_count: AtomicU32::new(0),
            global_prefetch_count: AtomicU32::new(0),
        }
    }
}

impl Connection {
    pub fn new(parts: ConnectionParts, given_name: Option<String>) -> Connection {
        let namespace = crate::translate::names::namespace(&parts.vhost).into();
        Connection {
            id: parts.id,
            name: format!("{} -> {}", parts.peer, parts.local),
            given_name,
            peer: parts.peer,
            local: parts.local,
            is_tls: parts.is_tls,
            mechanism: parts.mechanism,
            user: parts.user,
            vhost: parts.vhost,
            namespace,
            client_properties: parts.client_properties,
            capabilities: parts.capabilities,
            negotiated: parts.negotiated,
            holder_prefix: parts.holder_prefix,
            connected_ms: parts.connected_ms,
            outbox: Outbox::new(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            is_blocked: AtomicBool::new(false),
            channels: RwLock::default(),
            closed_channels: ChannelCounters::default(),
            closing: Mutex::default(),
            closes: Notify::new(),
        }
    }

    /// Under which name a channel holds messages: `<gateway>/<connection>/<channel>`.
    pub fn holder(&self, channel: u16) -> String {
        format!("{}/{channel}", self.holder_prefix)
    }

    /// Its channels, by number.
    pub fn channels(&self) -> Vec<Arc<ChannelInfo>> {
        self.channels.read().clone()
    }

    /// Whether it has deliveries that are not settled.
    pub fn has_unacknowledged(&self) -> bool {
        self.channels.read().iter().any(|channel| channel.unacknowledged.load(Ordering::Relaxed) > 0)
    }

    pub fn channel_count(&self) -> usize {
        self.channels.read().len()
    }

    pub(crate) fn add_channel(&self, info: Arc<ChannelInfo>) {
        let mut channels = self.channels.write();
        let at = channels.partition_point(|other| other.number < info.number);
        channels.insert(at, info);
    }

    pub(crate) fn remove_channel(&self, number: u16) {
        let mut channels = self.channels.write();
        for info in channels.iter().filter(|info| info.number == number) {
            self.closed_channels.absorb(&info.counters);
        }
        channels.retain(|info| info.number != number);
    }

    /// Adds what all its channels did, also those that are closed.
    pub(super) fn add_to(&self, totals: &ChannelCounters) {
        let channels = self.channels.read();
        totals.absorb(&self.closed_channels);
        channels.iter().for_each(|info| totals.absorb(&info.counters));
    }

    /// Ends the connection with `connection.close`, as soon as its task sees it. The first reason wins.
    pub fn close(&self, refusal: Refusal) {
        self.closing.lock().get_or_insert(refusal);
        self.closes.notify_one();
    }

    /// Returns when somebody wants the connection to end, with the reason to tell.
    pub(crate) async fn asked_to_close(&self) -> Refusal {
        loop {
            if let Some(refusal) = self.closing.lock().clone() {
                return refusal;
            }
            self.closes.notified().await;
        }
    }

    pub fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }
}
