//! The server's side of the RPC: puts any [`Core`] behind a listener.

mod connection;
mod dispatch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Core;
use crate::wire::Listener;

/// Connections served at once; more wait to be accepted. A gateway needs one.
const CONNECTIONS_MAX: usize = 1024;

/// How long calls in flight may take to finish once the server stops.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long to leave the listener alone after it failed (most likely for want of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often it is told that the listener fails.
const TELL_AFTER: Duration = Duration::from_secs(10);

/// Serves `core` on `listener` until `shutdown` is cancelled; then answers what has been asked (long polls apart),
/// closes its connections and returns.
pub async fn serve(core: impl Core, listener: Listener, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut told = None;
    loop {
        let accepted = tokio::select! {
            _ = shutdown.cancelled() => break,
            accepted = accept(&listener, &places, &mut told) => accepted,
        };
        let Some(((read, write), place)) = accepted else { continue };
        let (core, shutdown) = (core.clone(), shutdown.clone());
        connections.spawn(async move {
            if let Err(error) = connection::run(core, read, write, shutdown).await {
                tracing::warn!(%error, "an RPC connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    if timeout(DRAIN_WAIT_MAX, connections.wait()).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "RPC connections were cut: their calls took too long to finish"
        );
    }
}

type Accepted = ((crate::wire::address::ReadHalf, crate::wire::address::WriteHalf), tokio::sync::OwnedSemaphorePermit);

/// `told`: when it was last told that this fails.
async fn accept(listener: &Listener, places: &Arc<Semaphore>, told: &mut Option<Instant>) -> Option<Accepted> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok(halves) => Some((halves, place)),
        Err(error) => {
            if told.is_none_or(|told| told.elapsed() >= TELL_AFTER) {
                *told = Some(Instant::now());
                tracing::warn!(%error, "cannot accept RPC connections; they wait");
            }
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}
