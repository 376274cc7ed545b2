//! [`RemoteCore`]: a core in another process, behind the RPC.
//!
//! It connects when it is first used and connects again, after growing pauses, when the connection breaks. What is
//! asked meanwhile waits for a while. Of the calls that a break finds in flight, those that may be made twice (those that only
//! read, the end of a transaction) are made again, appends and transfers are sent again once and in their order (batches that bear
//! no producer get one of the client's own, and the sequences keep all from being kept twice); all others answer `Unavailable`: nobody knows
//! what became of them.

mod calls;
mod connection;
mod own_producers;
mod verbs;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::wire::Address;
use crate::wire::handshake::{HandshakeError, VERSIONS, greet};
use calls::Calls;
use own_producers::OwnProducers;

/// A core behind the RPC. Cheap to clone; clones share one connection.
#[derive(Clone)]
pub struct RemoteCore {
    calls: Arc<Calls>,
    own: Arc<OwnProducers>,
    /// Tells the connection when the last clone has gone.
    _alive: Arc<Alive>,
}

#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// The pause after a first failed try to connect; it doubles from try to try.
    pub pause_min: Duration,
    pub pause_max: Duration,
    /// How long a call waits for a connection before it answers `Unavailable`.
    pub connection_wait_max: Duration,
    /// The RPC versions to offer.
    pub versions: RangeInclusive<u16>,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        RemoteOptions {
            pause_min: Duration::from_millis(20),
            pause_max: Duration::from_secs(1),
            connection_wait_max: Duration::from_secs(5),
            versions: VERSIONS,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to {address}: {source}")]
    Connect { address: Address, source: std::io::Error },
    #[error("{address}: {source}")]
    Handshake { address: Address, source: HandshakeError },
}

struct Alive(Arc<Calls>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl RemoteCore {
    /// Connects when it is first used.
    pub fn new(address: Address) -> RemoteCore {
        RemoteCore::with_options(address, RemoteOptions::default())
    }

    pub fn with_options(address: Address, options: RemoteOptions) -> RemoteCore {
        let calls = Arc::new(Calls::new(address, options));
        RemoteCore { _alive: Arc::new(Alive(calls.clone())), calls, own: Arc::default() }
    }

    pub fn address(&self) -> &Address {
        self.calls.address()
    }

    /// Connects and shakes hands once, apart from any connection there is; says why if it cannot.
    pub async fn probe(address: &Address) -> Result<(), ConnectError> {
        open(address, &RemoteOptions::default()).await.map(|_| ())
    }
}

type Halves = (crate::wire::address::ReadHalf, crate::wire::address::WriteHalf);

async fn open(address: &Address, options: &RemoteOptions) -> Result<Halves, ConnectError> {
    let connected = tokio::time::timeout(crate::wire::handshake::HANDSHAKE_WAIT_MAX, address.connect()).await;
    let (mut read, mut write) = connected
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        .map_err(|source| ConnectError::Connect { address: address.clone(), source })?;
    greet(&mut read, &mut write, options.versions.clone())
        .await
        .map_err(|source| ConnectError::Handshake { address: address.clone(), source })?;
    Ok((read, write))
}
