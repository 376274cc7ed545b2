//! Whether what this gateway looks after is certainly its own still.
//!
//! A gateway that has not been heard of for its session's time is taken for dead, and others adopt its sessions, though it may only have
//! been stopped, or slow. So nothing that must happen once (a message of QoS 2, either way) is answered or sent unless the gateway's
//! own clock says that nobody can have taken it for dead yet. Once it has had to register again, it first reads what others have
//! taken meanwhile; until then it answers no CONNECT, and connections that need more end.
//!
//! What was under way when it stood still arrives when it goes on, perhaps behind what others have read: so whatever is written of sessions
//! bears the core's session in which this gateway is registered, and the core does nothing for one that has ended. That is
//! ended before anybody sees that the gateway is not registered; so whoever takes its sessions over, and claims them in the log, has
//! all before his claim that it ever wrote.
//!
//! Others' clocks and what they know of the members need not be right: where there are others, a record counts when it is read back, and
//! nobody has adopted the session before it. Who adopts has read all that is before his claim, so of two each knows of the other.

use std::sync::Arc;
use std::time::Duration;

use codec_mqtt::Text;
use core_rpc::SessionId;
use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use super::kept::Kept;
use super::writer::Ends;
use crate::state::PublishError;

/// How long to wait before looking again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

impl Shared {
    pub(super) fn is_certain(&self) -> bool {
        self.membership.is_sure() && *self.membership.registrations().borrow() == *self.confirmed.borrow()
    }

    /// The same, and in which of the core's sessions it is; `Some(None)` where somebody else keeps the membership. The clock has told that
    /// nobody can have taken this gateway for dead; the core tells it again of whatever is done only while that session lives.
    pub(super) fn certain_in(&self) -> Option<Option<SessionId>> {
        // Looked at first: of one that is new it is not known yet what others have taken.
        let session = self.membership.session();
        self.is_certain().then_some(session)
    }

    /// Waits until it is.
    pub(super) async fn certain(&self) {
        let mut confirmed = self.confirmed.subscribe();
        while !self.is_certain() {
            // That a session was renewed nobody tells.
            let _ = timeout(RETRY_AFTER, confirmed.changed()).await;
        }
    }

    /// Whether what a session's record tells, which ends there, is nobody else's to tell. No ends: it was written before.
    pub(super) async fn is_still_own(&self, kept: &Kept, ends: &Ends) -> Result<(), PublishError> {
        if !self.is_certain() {
            return Err(PublishError::Unavailable);
        }
        // Who is newer than this gateway knows of it; of those that are older this one knows.
        if self.membership.live().len() <= 1 {
            return Ok(());
        }
        let read_back = async {
            match ends.is_empty() {
                false => self.passed(ends).await,
                true => self.passed(&self.ends().await?).await,
            }
            Some(())
        };
        let is_read = tokio::select! {
            () = self.stop.cancelled() => None,
            read = read_back => read,
        };
        let client_id = &kept.session.client_id;
        let lives = self.lives();
        let (epoch, is_over) = {
            let state = kept.state.lock();
            (state.epoch, state.is_over)
        };
        let image = self.image.lock();
        let is_others = image.is_adopted_elsewhere(client_id, &lives)
            || image.record(client_id).is_some_and(|known| known.head.epoch > epoch);
        if is_read.is_none() || is_over || is_others { Err(PublishError::Unavailable) } else { Ok(()) }
    }

    /// Finds out what others have taken, each time that this gateway has registered again.
    pub(super) async fn confirm_all(self: Arc<Self>) {
        let mut registrations = self.membership.registrations();
        loop {
            let count = *registrations.borrow_and_update();
            if count != *self.confirmed.borrow() {
                tracing::warn!("this gateway may have been taken for dead; what others have taken is theirs");
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = self.concede() => {}
                }
                self.confirmed.send_replace(count);
                continue;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = registrations.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Loses what others have taken, or are about to take.
    async fn concede(&self) {
        let session_timeout = self.settings.session_timeout;
        // Whoever still takes it for dead has claimed by then what he takes on.
        sleep(session_timeout / 2).await;
        let deadline = Instant::now() + 4 * session_timeout;
        loop {
            let Some(ends) = self.ends().await else {
                sleep(RETRY_AFTER).await;
                continue;
            };
            self.passed(&ends).await;
            let kept: Vec<Text> = self.kept.iter().map(|kept| kept.key().clone()).collect();
            kept.iter().for_each(|client_id| self.concede_one(client_id));
            let lives = self.lives();
            let is_claimed = |client_id: &Text| self.image.lock().is_adopted_elsewhere(client_id, &lives);
            if !kept.iter().any(is_claimed) || Instant::now() >= deadline {
                return;
            }
            sleep(RETRY_AFTER).await;
        }
    }

    /// What this gateway had claimed and not written is void since it was taken for dead: whoever wrote the last record has the session.
    fn concede_one(&self, client_id: &Text) {
        let is_others = self.image.lock().record(client_id).is_some_and(|known| known.head.keeper != Some(self.own));
        if is_others && let Some(kept) = self.kept(client_id) {
            self.drop_lost(&kept);
            self.unclaim(client_id);
        }
    }
}
