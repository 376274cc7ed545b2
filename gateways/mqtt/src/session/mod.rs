//! One connection: packets in, acknowledgements and messages out.
//!
//! One task does it all:
//!
//! ```text
//! socket ─► input ─► packets ─► handlers ─► replies ─────────────────────────────────────┐
//!                      └─ PUBLISH ─► rounds (an append each) ─► PUBACK, PUBREC ──────────┼─► out ─► socket (vectored)
//!                      └─ SUBSCRIBE ─► a step ─► SUBACK ─────────────────────────────────┤
//!               session (state) ─► take ─► heads and payloads ───────────────────────────┘
//! ```
//! - [`handshake`]: CONNECT, authentication, CONNACK.
//! - [`serve`]: the rounds: read, handle, append, deliver, write.
//! - [`publish`]: rounds and their replies. [`deliver`]: what the session has for the client.
//! - [`goodbye`]: how it ends.
//!
//! What bounds memory: nothing more is read while too many rounds are under way or too much is unsent, and no message is taken
//! from the session; so a client that sends and never reads is left waiting, and hurts itself alone. A connection that is idle
//! has no buffers.

mod deliver;
mod goodbye;
mod handshake;
mod outgoing;
mod publish;
mod serve;
pub mod websocket;
mod wire;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use codec_mqtt::{Packet, Publish, Suback, Text, Unsuback, Version};
use core_rpc::PartitionId;
use gateway_runtime::Stream;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use self::deliver::Outbound;
pub(crate) use self::handshake::{auth_packet, copy};
use self::publish::Inbound;
pub(crate) use self::publish::{Kind, ROUND_BYTES_MAX};
use self::wire::Wire;
use crate::Gateway;
use crate::errors::Refusal;
use crate::state::access::{Denied, Enhanced, Origin, Step as Exchanged, Who};
use crate::state::publishing::PublishError;
use crate::state::sessions::{ConnectionId, Session, ShareLease};

/// The other side of a connection, before it has said who it is.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    pub is_tls: bool,
    /// Of its certificate.
    pub subject: Option<String>,
}

/// What CONNECT has settled.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) version: Version,
    /// Larger packets are not sent [MQTT-3.1.2-24]. `usize::MAX`: it takes all.
    pub(crate) packet_bytes_max: usize,
    /// Aliases that it lets us use.
    pub(crate) topic_alias_max: u16,
    /// Messages that may be sent and not acknowledged.
    pub(crate) window: u16,
    /// It wants to be told why.
    pub(crate) wants_reasons: bool,
    /// mosquitto's bridges get retain flags as they were published, and never their own messages.
    pub(crate) is_bridge: bool,
    /// The session expiry that CONNECT has asked for and got.
    pub(crate) expiry_s: u32,
    pub(crate) who: Arc<Who>,
    pub(crate) origin: Origin,
    /// How it has authenticated, if not by a password.
    pub(crate) method: Option<Text>,
    /// It authenticates again.
    pub(crate) exchange: Option<Box<Enhanced>>,
}

/// A connection that was let in.
pub(crate) struct Connection {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) session: Arc<Session>,
    pub(crate) id: ConnectionId,
    pub(crate) client: Box<Client>,
    pub(crate) wire: Wire,
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    /// What has to be done before the next packet is looked at.
    pub(crate) step: Option<Step>,
    /// Packets may lie in the input that were not looked at.
    has_input: bool,
    keep_alive: Option<KeepAlive>,
    pub(crate) tally: Tally,
    signals: Pin<Box<dyn Future<Output = End> + Send>>,
}

/// What was not counted yet for all to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    packets_received: u64,
    pub(crate) publishes_received: u64,
    pub(crate) payload_bytes_received: u64,
    publishes_sent: u64,
    payload_bytes_sent: u64,
    publishes_dropped: u64,
}

/// Work that takes its time. No packet overtakes it; deliveries and replies go on.
pub(crate) enum Step {
    /// Begins when all rounds are answered.
    Waits(Pin<Box<dyn Future<Output = Done> + Send>>),
    Runs(Pin<Box<dyn Future<Output = Done> + Send>>),
}

/// What came of it.
pub(crate) enum Done {
    /// SUBACK, and what gives the session what is retained, which goes on beside all else.
    Subscribed(Suback, Option<Pin<Box<dyn Future<Output = ()> + Send>>>),
    Unsubscribed(Unsuback),
    /// Where a message goes whose topic was not known.
    Found(Box<Publish>, Text, Result<PartitionId, PublishError>),
    /// A step of an exchange.
    Authenticated(Box<Enhanced>, Result<Exchanged, Denied>),
    Refused(Refusal),
    /// What comes before the first packet.
    Began,
}

struct KeepAlive {
    /// One and a half times what the client has promised [MQTT-3.1.2-22].
    allowed: Duration,
    timer: Pin<Box<Sleep>>,
}

/// How a connection ends.
#[derive(Debug)]
pub(crate) enum End {
    /// DISCONNECT. `sends_will`: with another reason than 0x00.
    Client { sends_will: bool, expiry_s: Option<u32> },
    /// Without a goodbye.
    Gone(io::Error),
    /// We end it, and version 5 is told why.
    Refused(Refusal),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Gone(error)
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> End {
        End::Refused(refusal)
    }
}

impl From<codec_mqtt::Error> for End {
    fn from(error: codec_mqtt::Error) -> End {
        End::Refused(error.into())
    }
}

/// Serves a connection until the peer or `draining` ends it.
pub async fn run(gateway: Arc<Gateway>, stream: Stream, peer: Peer, draining: CancellationToken) {
    gateway.counts.sockets_opened.add(1);
    let mut wire = Wire::new(stream);
    // Boxed: it is large, and a connection lives long after it.
    let opened = match Box::pin(handshake::run(&gateway, &mut wire, &peer, draining)).await {
        Ok(opened) => opened,
        Err(error) => {
            tracing::info!(peer = %peer.address, %error, "a client is not let in");
            return Box::pin(goodbye::linger(&mut wire)).await;
        }
    };
    gateway.counts.client_connects();
    let counts = gateway.counts.clone();
    let mut connection = Connection::new(gateway, wire, opened);
    let end = connection.serve().await;
    connection.count();
    counts.client_disconnects();
    Box::pin(goodbye::run(connection, end)).await;
}

impl Connection {
    /// Writes a packet, if the client takes one of its size [MQTT-3.1.2-24].
    pub(crate) fn write(&mut self, packet: &Packet) {
        if !self.try_write(packet) {
            tracing::info!(client = %self.session.client_id, "a packet is larger than the client takes");
        }
    }

    fn try_write(&mut self, packet: &Packet) -> bool {
        self.wire.out.put(packet, self.client.version, self.client.packet_bytes_max).is_ok()
    }

    /// Shows others what was read and written.
    fn count(&mut self) {
        let counts = &self.gateway.counts;
        let (received_bytes, sent_bytes) = self.wire.take_bytes();
        if received_bytes > 0 {
            counts.bytes_received.add(received_bytes);
        }
        if sent_bytes > 0 {
            counts.bytes_sent.add(sent_bytes);
        }
        let sent_packets = self.wire.out.take_packets();
        if sent_packets > 0 {
            counts.packets_sent.add(sent_packets);
        }
        let tally = std::mem::take(&mut self.tally);
        if tally.packets_received > 0 {
            counts.packets_received.add(tally.packets_received);
            counts.publishes_received.add(tally.publishes_received);
            counts.payload_bytes_received.add(tally.payload_bytes_received);
        }
        if tally.publishes_sent > 0 {
            counts.publishes_sent.add(tally.publishes_sent);
            counts.payload_bytes_sent.add(tally.payload_bytes_sent);
        }
        if tally.publishes_dropped > 0 {
            counts.publishes_dropped.add(tally.publishes_dropped);
        }
    }

    /// The client has a message.
    pub(crate) fn is_done(&mut self, share: Option<ShareLease>) {
        share.iter().for_each(|share| self.settle(share));
        self.outbound.acknowledged();
    }

    /// A message of a shared subscription is done with.
    fn settle(&self, share: &ShareLease) {
        self.gateway.shares.settle(share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_bytes<F>(_: impl FnOnce(Arc<Gateway>, Stream, Peer, CancellationToken) -> F) -> usize {
        size_of::<F>()
    }

    /// An idle connection is little more than this.
    #[test]
    fn a_connection_is_small() {
        assert!(future_bytes(run) <= 4096, "{} bytes", future_bytes(run));
    }
}
