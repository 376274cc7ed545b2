//! The core's session of this gateway: what it holds of messages, it holds under this session, so that the core gives it
//! back when the gateway dies.

use std::time::Duration;

use anyhow::Context;
use core_rpc::{Core, MetaError, SessionId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The session. Cheap to clone; every clone is the same.
#[derive(Clone, Debug)]
pub struct CoreSession {
    id: watch::Receiver<SessionId>,
    ended: CancellationToken,
    leave: CancellationToken,
}

impl CoreSession {
    /// Opens a session and keeps it alive in a task that ends with `stop`. Waits until the core answers.
    pub async fn start<C: Core>(
        core: C,
        time_to_live: Duration,
        stop: CancellationToken,
    ) -> anyhow::Result<CoreSession> {
        let first = open(&core, time_to_live).await.context("cannot open a session")?;
        let (sender, id) = watch::channel(first);
        let session = CoreSession { id, ended: CancellationToken::new(), leave: CancellationToken::new() };
        let (ended, leave) = (session.ended.clone(), session.leave.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = leave.cancelled() => {}
                () = keep(&core, time_to_live, &sender) => {}
            }
            let id = *sender.borrow();
            if let Err(error) = core.session_close(id).await {
                tracing::debug!(%error, "the core was not told that this gateway's session ends");
            }
            ended.cancel();
        });
        Ok(session)
    }

    /// The session now. After a break of the connection to the core it may be another than before; the core has given
    /// back what was held under the former.
    pub fn id(&self) -> SessionId {
        *self.id.borrow()
    }

    /// To be woken when the session is another.
    pub fn changes(&self) -> watch::Receiver<SessionId> {
        self.id.clone()
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

async fn keep<C: Core>(core: &C, time_to_live: Duration, sender: &watch::Sender<SessionId>) {
    loop {
        tokio::time::sleep(time_to_live / 3).await;
        let id = *sender.borrow();
        let lost = match core.session_renew(id).await {
            Ok(()) => false,
            Err(MetaError::UnknownSession) => true,
            Err(error) => {
                tracing::debug!(%error, "the gateway's session was not renewed");
                false
            }
        };
        if lost {
            match open(core, time_to_live).await {
                Ok(id) => {
                    tracing::warn!("the gateway's session had ended; what was unacknowledged is handed out again");
                    sender.send_replace(id);
                }
                Err(error) => tracing::error!(%error, "the gateway cannot open a session"),
            }
        }
    }
}
