//! Sessions of this gateway at the core. It has two: its keys stay while the one lives, and what it holds of messages it holds under the
//! other, so that the core gives it back when the gateway dies.
//!
//! The second is given up whenever it is not known any more what is held under it: the core was started anew, which forgets all leases, or
//! a call about leases broke off. Then another is opened, under which nothing is held, and whoever had something is told
//! ([`CoreSession::changes`]). The keys do not change with it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use core_rpc::{
    AcquireMode, AcquireRequest, Core, GroupName, Isolation, Lease, LeaseError, MetaError, OffsetAt, PartitionId,
    SeekTo, SessionId, TopicId,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Keys,
    Leases,
}

/// The session. Cheap to clone; every clone is the same.
#[derive(Clone, Debug)]
pub struct CoreSession {
    id: watch::Receiver<SessionId>,
    /// Sessions up to this one are given up.
    lost: Arc<watch::Sender<SessionId>>,
    ended: CancellationToken,
    leave: CancellationToken,
}

impl CoreSession {
    /// Opens a session and keeps it alive in a task that ends with `stop`. Waits until the core answers.
    pub async fn start<C: Core>(
        core: C,
        time_to_live: Duration,
        purpose: Purpose,
        stop: CancellationToken,
    ) -> anyhow::Result<CoreSession> {
        let first = open(&core, time_to_live).await.context("cannot open a session")?;
        let (sender, id) = watch::channel(first);
        let (lost, losses) = watch::channel(SessionId(0));
        let session =
            CoreSession { id, lost: Arc::new(lost), ended: CancellationToken::new(), leave: CancellationToken::new() };
        let (ended, leave) = (session.ended.clone(), session.leave.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = leave.cancelled() => {}
                () = keep(&core, time_to_live, purpose, &sender, losses) => {}
            }
            let id = *sender.borrow();
            if let Err(error) = core.session_close(id).await {
                tracing::debug!(%error, "the core was not told that this gateway's session ends");
            }
            ended.cancel();
        });
        Ok(session)
    }

    /// The session now. It may be another than before; the core has given back what was held under the former.
    pub fn id(&self) -> SessionId {
        *self.id.borrow()
    }

    /// To be woken when the session is another.
    pub fn changes(&self) -> watch::Receiver<SessionId> {
        self.id.clone()
    }

    /// What the core answered about leases of a session. If it means that nobody knows what is held under it, the session is given up.
    pub fn doubt(&self, id: SessionId, error: LeaseError) {
        if matches!(error, LeaseError::UnknownSession | LeaseError::Unavailable) {
            self.lost.send_if_modified(|lost| {
                let is_news = *lost < id;
                *lost = id.max(*lost);
                is_news
            });
        }
    }

    /// Ends the session, so that others get at once what this gateway held.
    pub async fn leave(&self) {
        self.leave.cancel();
        self.ended.cancelled().await;
    }
}

async fn open<C: Core>(core: &C, time_to_live: Duration) -> Result<SessionId, MetaError> {
    loop {
        match core.session_open(time_to_live).await {
            Err(MetaError::Unavailable) => tokio::time::sleep(RETRY_AFTER).await,
            opened => return opened,
        }
    }
}

async fn keep<C: Core>(
    core: &C,
    time_to_live: Duration,
    purpose: Purpose,
    sender: &watch::Sender<SessionId>,
    mut losses: watch::Receiver<SessionId>,
) {
    loop {
        let id = *sender.borrow();
        let given_up = async {
            // An error would be the end of all clones, and of this task.
            let _ = losses.wait_for(|lost| *lost >= id).await;
        };
        let is_lost = tokio::select! {
            biased;
            () = given_up => true,
            () = tokio::time::sleep(time_to_live / 3) => !lives(core, id, purpose).await,
        };
        if !is_lost {
            continue;
        }
        // What it still holds falls free; if the core cannot be told, when its time is over.
        let _ = core.session_close(id).await;
        match open(core, time_to_live).await {
            Ok(id) => {
                if purpose == Purpose::Leases {
                    tracing::warn!(
                        "what this gateway held is not its own any more; what was unacknowledged is handed out again"
                    );
                }
                sender.send_replace(id);
            }
            Err(error) => {
                tracing::error!(%error, "the gateway cannot open a session");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// Renews a session. False: it has ended, or nothing can be leased to it any more.
async fn lives<C: Core>(core: &C, id: SessionId, purpose: Purpose) -> bool {
    match core.session_renew(id).await {
        Ok(()) => purpose == Purpose::Keys || can_lease(core, id).await,
        Err(MetaError::UnknownSession) => false,
        Err(error) => {
            tracing::debug!(%error, "the gateway's session was not renewed");
            true
        }
    }
}

/// Whether something could be leased to a session. Asks for nothing.
async fn can_lease<C: Core>(core: &C, id: SessionId) -> bool {
    let request = AcquireRequest {
        group: GroupName { namespace: "default".into(), group: "probe".into() },
        // No topic has this id.
        partitions: vec![PartitionId { topic: TopicId(0), index: 0 }],
        holder: format!("probe-{}", id.0),
        lease: Lease::Session(id),
        mode: AcquireMode::Strict,
        credit_messages: 0,
        credit_bytes: 0,
        bytes_min: 0,
        window_messages: 0,
        acquisitions_max: None,
        start: SeekTo::At(OffsetAt::Earliest),
        isolation: Isolation::Committed,
        wait: Duration::ZERO,
    };
    !core.acquire(request).await.contains(&Err(LeaseError::UnknownSession))
}
