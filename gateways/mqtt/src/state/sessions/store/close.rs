//! A connection ends, or a session does.

use std::sync::Arc;
use std::time::Duration;

use codec_mqtt::Text;

use super::kept::Kept;
use super::writer::Job;
use super::{Closing, Sessions, Shared};
use crate::state::PublishError;
use crate::state::exclusive;
use crate::state::sessions::delivery::ShareLease;
use crate::state::sessions::record::Whose;
use crate::state::sessions::session::{ConnectionId, Session, Subscribed};
use crate::translate::Storable;

/// How long to wait before asking again a core for which this gateway was dead.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It outlives its connection by nothing, or by no more.
    Over,
    /// Another of the same client takes its place, and its place in the log.
    Replaced,
}

impl Sessions {
    /// A connection is no more. To be called once for each session that was opened, when no round of the connection is under way
    /// any more. Its will is published, kept for later or dropped; its session ends or stays. Returns the shared messages that
    /// others may have. Nothing happens if the session is another connection's.
    pub async fn close(&self, session: &Arc<Session>, connection: ConnectionId, how: Closing) -> Vec<ShareLease> {
        self.shared.close(session, connection, how).await
    }
}

impl Shared {
    pub(super) async fn close(
        self: &Arc<Self>,
        session: &Arc<Session>,
        connection: ConnectionId,
        how: Closing,
    ) -> Vec<ShareLease> {
        let Some(kept) = self.kept_of(session) else { return session.detach(connection) };
        let is_stopping = self.is_stopping.load(std::sync::atomic::Ordering::Acquire);
        let (shares, ends, will) = {
            let mut state = kept.state.lock();
            if state.connection.as_ref().is_none_or(|(now, _)| *now != connection) {
                return Vec::new();
            }
            let shares = session.detach(connection);
            state.connection = None;
            state.disconnected_ms = crate::now_ms();
            state.expiry_s = how.expiry_s.unwrap_or(state.expiry_s);
            if !how.send_will && !is_stopping {
                state.will = None;
            }
            state.changes += 1;
            // A will that nobody has published keeps its session, for whoever comes next.
            let waits = is_stopping && state.will.is_some();
            // Its client may have gone on elsewhere: what is due is done when it is known that it has not (`timers`).
            let is_certain = self.is_certain();
            let ends = is_certain && !state.is_persistent() && !waits;
            // Nobody can be back before its delay is over, if there is none.
            let is_due = is_certain && !ends && !is_stopping && state.is_will_due(state.disconnected_ms);
            (shares, ends, if is_due { state.will.take() } else { None })
        };
        if ends {
            self.end(&kept, End::Over).await;
        } else {
            self.schedule(&kept);
            // At once: what is not known when this gateway dies now is a will that was taken back.
            self.queue.post(vec![Job::Record(kept.clone())]);
            kept.detached.notify_waiters();
            if let Some(will) = will {
                self.publish(&session.client_id, &will).await;
            }
        }
        shares
    }

    /// Ends a session that has no connection: its subscriptions, what waits in it and what the log has of it are gone, and its will,
    /// if it has one, is published.
    pub(super) async fn end(self: &Arc<Self>, kept: &Arc<Kept>, why: End) {
        let client_id = &kept.session.client_id;
        self.kept.remove_if(client_id, |_, now| Arc::ptr_eq(now, kept));
        self.timers.remove(client_id);
        self.router.forget(&kept.session);
        let subscriptions = kept.session.subscriptions();
        self.shares.end(&kept.session);
        self.free_exclusive(client_id, &subscriptions).await;
        let will = kept.state.lock().will.take();
        match why {
            // In the queue before anything of a session that comes after it.
            End::Over => self.entomb(kept),
            End::Replaced => kept.state.lock().is_over = true,
        }
        kept.detached.notify_waiters();
        if let Some(will) = will {
            self.publish(client_id, &will).await;
        }
    }

    /// What the session had for itself is anybody's.
    async fn free_exclusive(&self, client_id: &Text, subscriptions: &[(Text, Subscribed)]) {
        for (filter, _) in subscriptions {
            if let Some(filter) = exclusive::filter(filter)
                && let Err(error) = exclusive::free(&self.core, filter, client_id).await
            {
                tracing::warn!(%filter, %error, "an exclusive subscription was not given back");
            }
        }
    }

    /// Publishes the will of a session, if it has one.
    pub(super) async fn publish_will(&self, kept: &Kept) {
        let will = {
            let mut state = kept.state.lock();
            state.changes += u64::from(state.will.is_some());
            state.will.take()
        };
        if let Some(will) = will {
            self.publish(&kept.session.client_id, &will).await;
        }
    }

    /// The same, if its time has come.
    pub(super) async fn publish_due_will(&self, kept: &Kept) {
        if kept.state.lock().is_will_due(crate::now_ms()) {
            self.publish_will(kept).await;
        }
    }

    async fn publish(&self, client_id: &Text, will: &super::StoredWill) {
        let Some((publish, user)) = will.publish() else {
            tracing::error!(client = %client_id, "a will cannot be read");
            return;
        };
        // CONNECT was let in with it; rules change.
        let is_allowed = match user {
            Whose::Unknown => true,
            Whose::User(user) => (self.may_publish)(client_id.as_str(), user.as_deref(), publish.topic.as_str()),
        };
        if !is_allowed {
            tracing::info!(client = %client_id, topic = %publish.topic, "a will is not published: its client may not any more");
            return;
        }
        let topic = publish.topic.clone();
        if self.sys.tell_state(&self.router, &topic, &publish.payload) {
            return;
        }
        let Some(will) = Storable::new(&publish, topic, crate::translate::publisher(client_id)) else { return };
        loop {
            let published = match self.certain_in() {
                Some(registered) => self.publishing.publish(&will, registered).await,
                None => Err(PublishError::TakenForDead),
            };
            match published {
                Ok(()) => return,
                Err(PublishError::TakenForDead) => {}
                Err(error) => return tracing::warn!(client = %client_id, %error, "a will was not published"),
            }
            let known = async {
                // The core may know before this gateway's clock does.
                tokio::time::sleep(RETRY_AFTER).await;
                self.certain().await;
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = known => {}
            }
            // Whoever has gone on with the session has found its will there.
            if self.is_others(client_id) {
                return;
            }
        }
    }

    /// Another gateway wants a client: its connection here ends, and its session is given up.
    pub(super) async fn give_up(self: Arc<Self>, client_id: Text) {
        let _turn = self.turns.take(&client_id).await;
        let lives = self.lives();
        if !self.image.lock().is_wanted_elsewhere(&client_id, &lives) {
            return;
        }
        if let Some(kept) = self.kept(&client_id) {
            self.disconnect(&kept).await;
        }
        let Some(kept) = self.kept(&client_id) else {
            if self.image.lock().is_claimed(&client_id) {
                self.unclaim(&client_id);
            }
            return;
        };
        {
            let mut state = kept.state.lock();
            state.is_released = true;
            state.changes += 1;
        }
        while let Err(error) = self.queue.write(vec![Job::Record(kept.clone())]).await {
            tracing::warn!(client = %client_id, %error, "a session cannot be given up yet");
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(RETRY_AFTER) => {}
            }
        }
        self.drop_kept(&kept);
    }

    /// Another gateway has a session that this one looked after, and took it for dead.
    pub(super) fn lose(&self, client_id: &Text) {
        let Some(kept) = self.kept(client_id) else { return };
        let epoch = self.image.lock().record(client_id).map(|known| known.head.epoch);
        if epoch.is_some_and(|epoch| epoch > kept.state.lock().epoch) {
            self.drop_lost(&kept);
        }
    }

    /// A session is another gateway's.
    pub(super) fn drop_lost(&self, kept: &Arc<Kept>) {
        tracing::warn!(client = %kept.session.client_id, "another gateway has taken this session over");
        let connection = {
            let mut state = kept.state.lock();
            state.is_over = true;
            state.will = None;
            state.connection.clone()
        };
        if let Some((_, kick)) = connection {
            kick.kick();
        }
        self.drop_kept(kept);
    }

    /// It is not looked after here any more.
    fn drop_kept(&self, kept: &Arc<Kept>) {
        let client_id = &kept.session.client_id;
        kept.state.lock().is_over = true;
        self.kept.remove_if(client_id, |_, now| Arc::ptr_eq(now, kept));
        self.timers.remove(client_id);
        self.router.forget(&kept.session);
        self.shares.end(&kept.session);
    }
}
