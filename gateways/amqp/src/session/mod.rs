//! One connection: frames in, replies and deliveries out.
//!
//! One task does it all:
//!
//! ```text
//! socket ─► input ─► frames ─► handlers ─► replies ────────────────────────────────┐
//!                      └─ publishes ─► one append per read round ─► confirms ──────┼─► out ─► socket (vectored)
//!                                                          outbox (deliveries) ────┘
//! ```
//! - [`handshake`]: protocol header, SASL, tune, open.
//! - [`serve`]: the rounds: read, handle, append, confirm, deliver, write.
//! - [`frames`]: whose turn a frame is: the connection's, a channel's method, or a piece of a message.
//! - [`busy`]: channels whose handlers wait for the core, while the others go on.
//! - [`goodbye`]: how it ends.
//!
//! What bounds memory: nothing more is read while too many appends are under way or too much is unsent; deliveries wait in
//! the outbox, which is bounded. So a peer that sends and never reads is left waiting.

mod busy;
mod frames;
mod goodbye;
mod handshake;
mod mechanisms;
mod publish;
mod serve;
mod server_properties;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use core_rpc::Core;
use gateway_runtime::Stream;
use tokio_util::sync::CancellationToken;

pub(crate) use self::publish::{hold, take_turns};
pub use self::server_properties::{RABBITMQ_VERSION, server_properties};
use self::wire::Wire;
use crate::Gateway;

/// The other side of a connection, before it has said who it is.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    /// The address that it has connected to.
    pub local: SocketAddr,
    pub is_tls: bool,
    /// Of its certificate.
    pub subject: Option<String>,
}

/// Why a connection ends without a goodbye.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the client closed the connection without a goodbye")]
    Gone,
    #[error("nothing came for two heartbeats")]
    Silent,
    #[error("the client took too long for its handshake")]
    Slow,
    #[error("{0}")]
    Handshake(String),
}

/// Serves a connection until the peer or `draining` ends it.
pub async fn run<C: Core>(gateway: Arc<Gateway<C>>, stream: Stream, peer: Peer, draining: CancellationToken) {
    let address = peer.address;
    if let Err(error) = serve_stream(gateway, stream, peer, draining).await {
        tracing::info!(peer = %address, %error, "a connection ends");
    }
}

async fn serve_stream<C: Core>(
    gateway: Arc<Gateway<C>>,
    stream: Stream,
    peer: Peer,
    draining: CancellationToken,
) -> Result<(), SessionError> {
    let mut wire = Wire::new(stream);
    let greeting = handshake::run(&gateway, &mut wire, peer);
    let connection = tokio::select! {
        greeted = tokio::time::timeout(gateway.config.handshake_max, greeting) => match greeted {
            // Whoever only looks whether somebody is here, as health checks and load balancers do every second.
            Ok(Err(SessionError::Gone)) => return Ok(()),
            Ok(connection) => connection?,
            Err(_) => return Err(SessionError::Slow),
        },
        () = draining.cancelled() => return Ok(()),
    };
    let Some(connection) = connection else { return Ok(()) };
    let served = serve::run(&gateway, &connection, wire, draining).await;
    gateway.registry.remove(connection.id);
    served
}
