//! One connection: packets in, answers and deliveries out.

use std::net::SocketAddr;
use std::sync::Arc;

use gateway_runtime::Stream;
use tokio_util::sync::CancellationToken;

use crate::Gateway;

/// The other side of a connection, before it has said who it is.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    pub is_tls: bool,
    /// Of its certificate.
    pub subject: Option<String>,
}

/// Serves a connection until the peer or `draining` ends it.
pub async fn run(gateway: Arc<Gateway>, stream: Stream, peer: Peer, draining: CancellationToken) {
    // The connection's room is built next; until then nobody is let in.
    tracing::debug!(peer = %peer.address, is_tls = peer.is_tls, "a connection ends: there are no sessions yet");
    drop((gateway, stream, draining));
}
