//! Tells the core what members have settled, for all shares of the gateway: one call for each share that has something, and
//! what comes meanwhile is for the next. Nobody waits for it, so it need not be on the disk when the call answers: what a crash
//! takes back is delivered again, as the protocol allows.

use std::sync::Arc;

use core_rpc::{AnyCore, SessionId, SettleRequest};
use gateway_runtime::CoreSession;
use gateway_runtime::settling::{self, Rounds};
use tokio_util::sync::CancellationToken;

use super::share::Share;

/// The shares with something to settle. Cheap to clone; every clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Settler {
    rounds: Arc<Rounds<Arc<Share>>>,
}

/// The name under which this gateway holds messages under a session.
pub(super) fn holder(prefix: &str, session: SessionId) -> String {
    format!("{prefix}-{:x}", session.0)
}

impl Settler {
    /// Starts the task that settles; it ends with `stop`, when what was said before is settled.
    pub fn start(core: AnyCore, leases: CoreSession, holder_prefix: String, stop: CancellationToken) -> Settler {
        let settler = Settler::default();
        let rounds = settler.rounds.clone();
        tokio::spawn(async move {
            while let Some(round) = rounds.next(&stop).await {
                settle(&core, &leases, &holder_prefix, round.gathered).await;
                rounds.finish(round.number);
            }
        });
        settler
    }

    /// Waits until all is settled that was said before.
    pub async fn settled(&self) {
        self.rounds.settled().await;
    }

    /// A share has something to settle that had nothing.
    pub fn push(&self, share: Arc<Share>) {
        self.rounds.push(share);
    }
}

async fn settle(core: &AnyCore, leases: &CoreSession, holder_prefix: &str, dirty: Vec<Arc<Share>>) {
    let requests = dirty.into_iter().filter_map(|share| {
        let (session, partitions) = share.take_marks()?;
        let holder = holder(holder_prefix, session);
        Some((session, SettleRequest { group: share.group.clone(), holder, partitions, durable: false }))
    });
    let lost = "acknowledgements of shared messages were not kept: they are delivered again";
    settling::settle(core, leases, requests, lost).await;
}
