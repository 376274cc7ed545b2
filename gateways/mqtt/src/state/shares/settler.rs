//! Tells the core what members have settled, for all shares of the gateway: one call for each share that has something, and
//! what comes meanwhile is for the next. Nobody waits for it, so it need not be on the disk when the call answers: what a crash
//! takes back is delivered again, as the protocol allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use core_rpc::{AnyCore, Core, LeaseError, SessionId, SettleRequest};
use gateway_runtime::CoreSession;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::share::Share;

/// The shares with something to settle. Cheap to clone; every clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Settler {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    dirty: Mutex<Vec<Arc<Share>>>,
    wake: Notify,
    /// Counts rounds; changed under the lock of `dirty`: what lies there belongs to the next.
    begun: AtomicU64,
    done: watch::Sender<u64>,
}

/// The name under which this gateway holds messages under a session.
pub(super) fn holder(prefix: &str, session: SessionId) -> String {
    format!("{prefix}-{:x}", session.0)
}

impl Settler {
    /// Starts the task that settles; it ends with `stop`, when what was said before is settled.
    pub fn start(core: AnyCore, leases: CoreSession, holder_prefix: String, stop: CancellationToken) -> Settler {
        let settler = Settler::default();
        let shared = settler.shared.clone();
        tokio::spawn(async move {
            loop {
                let stopping = tokio::select! {
                    biased;
                    () = shared.wake.notified() => false,
                    () = stop.cancelled() => true,
                };
                let (round, dirty) = {
                    let mut dirty = shared.dirty.lock();
                    (shared.begun.fetch_add(1, Ordering::SeqCst) + 1, std::mem::take(&mut *dirty))
                };
                settle(&core, &leases, &holder_prefix, dirty).await;
                shared.done.send_replace(round);
                if stopping && shared.dirty.lock().is_empty() {
                    return;
                }
            }
        });
        settler
    }

    /// Waits until all is settled that was said before.
    pub async fn settled(&self) {
        let round = {
            let dirty = self.shared.dirty.lock();
            self.shared.begun.load(Ordering::SeqCst) + u64::from(!dirty.is_empty())
        };
        // An error would be the end of all clones.
        let _ = self.shared.done.subscribe().wait_for(|done| *done >= round).await;
    }

    /// A share has something to settle that had nothing.
    pub fn push(&self, share: Arc<Share>) {
        self.shared.dirty.lock().push(share);
        self.shared.wake.notify_one();
    }
}

async fn settle(core: &AnyCore, leases: &CoreSession, holder_prefix: &str, dirty: Vec<Arc<Share>>) {
    let calls = dirty.into_iter().filter_map(|share| {
        let (session, partitions) = share.take_marks()?;
        let holder = holder(holder_prefix, session);
        let request = SettleRequest { group: share.group.clone(), holder, partitions, durable: false };
        Some(Box::pin(async move {
            let answer = core.settle(request).await;
            // What is gone (Passed, UnknownPartition) or was given to others (NotHeld) is nobody's fault.
            let mut failed = answer.iter().flatten().filter_map(|answer| answer.err()).filter(|error| {
                !matches!(error, LeaseError::NotHeld | LeaseError::Passed | LeaseError::UnknownPartition)
            });
            if let Some(error) = failed.next() {
                tracing::warn!(%error, "acknowledgements of shared messages were not kept: they are delivered again");
                // It may be that they are still held, by nobody.
                leases.doubt(session, error);
            }
        }))
    });
    let mut running: Vec<_> = calls.collect();
    std::future::poll_fn(|context| {
        running.retain_mut(|call| call.as_mut().poll(context).is_pending());
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
