//! A client connects: whose session is it, and does it go on?

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use codec_mqtt::{PacketId, Text};
use core_rpc::{Core, FetchError, OffsetAt, OffsetsRequest, PartitionId};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::close::End;
use super::image::{Known, Standing, Why};
use super::kept::{Kept, State};
use super::keys::{CLIENT_ID_BYTES_MAX, Key};
use super::writer::Job;
use super::{Closing, OpenError, OpenRequest, Opened, Sessions, Shared};
use crate::state::PublishError;
use crate::state::sessions::attempts::Attempt;
use crate::state::topics::partitions_of;

/// How long an older connection may take to end. It finishes its rounds; a disk that syncs slowly takes its time.
const DETACH_MAX: Duration = Duration::from_secs(6);

impl Sessions {
    /// Takes over a client: its older connection ends, here or elsewhere, and its session goes on or is discarded (3.1.2.4). A
    /// session that outlives its connection is recorded when this returns. Who gives up waiting leaves nothing behind: the
    /// connection is closed as if it had broken off.
    pub async fn open(&self, request: OpenRequest) -> Result<Opened, OpenError> {
        // A task of its own: a session that changes hands is not to be dropped on the way.
        let (done, answer) = oneshot::channel();
        let shared = self.shared.clone();
        let connection = request.connection;
        tokio::spawn(async move {
            let opened = shared.open(request).await;
            let opened = opened.map(|opened| Fresh { opened: Some(opened), shared, connection });
            drop(done.send(opened));
        });
        match answer.await {
            Ok(Ok(mut fresh)) => fresh.opened.take().ok_or(OpenError::Store(PublishError::Unavailable)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(OpenError::Store(PublishError::Unavailable)),
        }
    }
}

/// A session on its way to its connection. Closed again where there is none any more.
struct Fresh {
    opened: Option<Opened>,
    shared: Arc<Shared>,
    connection: super::ConnectionId,
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(opened) = self.opened.take() {
            let (shared, connection) = (self.shared.clone(), self.connection);
            tokio::spawn(async move {
                let closing = Closing { expiry_s: None, send_will: true };
                shared.close(&opened.session, connection, closing).await;
            });
        }
    }
}

impl Shared {
    async fn open(self: &Arc<Self>, mut request: OpenRequest) -> Result<Opened, OpenError> {
        if request.client_id.len() > CLIENT_ID_BYTES_MAX {
            return Err(OpenError::ClientIdTooLong);
        }
        // Its own memory: the packet's is the connection's.
        request.client_id = Text::new(request.client_id.as_str()).unwrap_or_default();
        let _turn = self.turns.take(&request.client_id).await;
        timeout(DETACH_MAX, self.certain()).await.map_err(|_| OpenError::Busy)?;
        if let Some(kept) = self.kept(&request.client_id) {
            self.disconnect(&kept).await;
        }
        let (kept, session_present) = match self.kept(&request.client_id) {
            Some(kept) => self.reopen(&request, kept).await?,
            None => self.obtain(&request).await?,
        };
        if session_present {
            self.begin_anew(&kept).await?;
        }
        self.attach(&request, &kept, session_present).await
    }

    /// A session that is kept here, without a connection.
    async fn reopen(self: &Arc<Self>, request: &OpenRequest, kept: Arc<Kept>) -> Result<(Arc<Kept>, bool), OpenError> {
        let is_expired = kept.state.lock().expires_ms().is_some_and(|expires_ms| expires_ms <= crate::now_ms());
        if !request.clean_start && !is_expired {
            self.resolve(&kept).await?;
            self.publish_due_will(&kept).await;
            return Ok((kept, true));
        }
        let (epoch, is_in_log, has_delta, is_claimed) = {
            let state = kept.state.lock();
            (state.epoch, state.is_in_log, state.has_delta, state.is_claimed)
        };
        self.end(&kept, End::Replaced).await;
        let fresh = self.fresh(request, epoch.wrapping_add(1));
        {
            // What the log has of the old one is the new one's to replace.
            let mut state = fresh.state.lock();
            (state.is_in_log, state.has_delta, state.is_claimed) = (is_in_log, has_delta, is_claimed);
        }
        Ok((fresh, false))
    }

    /// What was published while nobody was there is not for who comes now, but for what waits: wherever it was published, and whether
    /// this gateway has routed it yet, or has still to read what the session has missed.
    async fn begin_anew(&self, kept: &Kept) -> Result<(), OpenError> {
        let subscriptions = kept.session.subscriptions();
        if subscriptions.is_empty() {
            return Ok(());
        }
        self.topics.caught_up().await;
        let topics = self.router.topics_matching(subscriptions.iter().map(|(filter, _)| filter.as_str()));
        let known = topics.into_iter().filter_map(|topic| self.topics.by_id(topic));
        let partitions: Vec<PartitionId> = known.flat_map(|known| partitions_of(&known.topic)).collect();
        let queries = partitions.iter().map(|partition| (*partition, OffsetAt::Stable)).collect();
        let found = self.core.offsets(OffsetsRequest { queries }).await;
        if found.iter().any(|found| matches!(found, Err(FetchError::Unavailable))) {
            return Err(OpenError::Store(PublishError::Unavailable));
        }
        // A topic that is gone brings nothing.
        let ends = partitions.into_iter().zip(found);
        kept.session.begin_anew(ends.filter_map(|(partition, found)| Some((partition, found.ok()?.offset?))));
        Ok(())
    }

    /// Learns from the log what was kept of messages of QoS 2 whose round broke off: both the message and its identifier, or
    /// neither; where they do not lie together, the core knows when the message comes again.
    async fn resolve(&self, kept: &Kept) -> Result<(), OpenError> {
        let doubted = std::mem::take(&mut kept.state.lock().doubted);
        if doubted.is_empty() {
            return Ok(());
        }
        let Some(ends) = self.ends().await else {
            kept.state.lock().doubted.extend(doubted);
            return Err(OpenError::Store(PublishError::Unavailable));
        };
        self.passed(&ends).await;
        let received: HashMap<PacketId, Option<Attempt>> =
            self.image.lock().received(&kept.session.client_id, kept.life).into_iter().collect();
        for packet_id in doubted {
            match received.get(&packet_id) {
                Some(None) => {}
                Some(Some(attempt)) => kept.session.doubt(packet_id, *attempt),
                None => {
                    kept.session.end_receive(packet_id);
                    kept.state.lock().told.remove(&packet_id);
                }
            }
        }
        Ok(())
    }

    /// A session that is not kept here: from the log, or a new one.
    async fn obtain(self: &Arc<Self>, request: &OpenRequest) -> Result<(Arc<Kept>, bool), OpenError> {
        let client_id = &request.client_id;
        let lives = self.lives();
        let is_alone = self.live().len() == 1;
        let is_claimed = !is_alone || self.image.lock().is_contested(client_id, &lives);
        if !is_claimed {
            return Ok((self.fresh(request, 0), false));
        }
        self.claim(client_id).await?;
        let known = self.image.lock().record(client_id).cloned();
        let has_delta = known.as_ref().is_some_and(Known::has_delta);
        let fresh = |epoch: u32, is_in_log: bool| {
            let fresh = self.fresh(request, epoch);
            {
                let mut state = fresh.state.lock();
                (state.is_in_log, state.has_delta, state.is_claimed) = (is_in_log, has_delta, true);
            }
            (fresh, false)
        };
        let Some(known) = known else { return Ok(fresh(0, false)) };
        let epoch = known.head.epoch.wrapping_add(1);
        let record = match known.record() {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(client = %client_id, %error, "a session is lost");
                return Ok(fresh(epoch, true));
            }
        };
        let goes_on = !request.clean_start && !self.is_expired(&record);
        let ends = self.ends_of(std::iter::once(&record)).await;
        let (kept, missed) = self.restore(client_id, record, &ends);
        {
            let mut state = kept.state.lock();
            (state.is_claimed, state.has_delta) = (true, has_delta);
        }
        if goes_on {
            self.kept.insert(client_id.clone(), kept.clone());
            self.router.adopt(vec![(kept.session.clone(), missed)]).await;
            self.publish_due_will(&kept).await;
            return Ok((kept, true));
        }
        // Its will is published with its end (3.1.3.2.2).
        self.publish_will(&kept).await;
        Ok(fresh(epoch, true))
    }

    /// A session that is there from now on.
    fn fresh(&self, request: &OpenRequest, epoch: u32) -> Arc<Kept> {
        let (session, life) = self.new_session(request.client_id.clone());
        Kept::new(Arc::new(session), life, State::new(request.version, epoch))
    }

    /// Claims a client, and waits until its session is this gateway's.
    async fn claim(&self, client_id: &Text) -> Result<(), OpenError> {
        let key = Key::Claim(self.own, client_id).to_string();
        // Who lives is looked at before what they wrote: who is dead by then has written all that he ever will.
        let mut lives = self.lives();
        let claimed = self.queue.write(vec![Job::Entry(key, Why::Connect.encode())]).await;
        // It may be in the log all the same.
        let mut ends = claimed.inspect_err(|_| self.unclaim(client_id))?;
        let mut seen = self.seen.subscribe();
        let mut members = self.membership.changes();
        // Who dies meanwhile is known to be dead by then.
        let deadline = Instant::now() + self.settings.session_timeout * 2 + DETACH_MAX;
        loop {
            self.passed(&ends).await;
            seen.mark_unchanged();
            let standing = self.image.lock().standing(client_id, &lives);
            match standing {
                Standing::Own => return Ok(()),
                Standing::Superseded => {
                    self.unclaim(client_id);
                    return Err(OpenError::TakenOver);
                }
                Standing::Waits if Instant::now() >= deadline => {
                    self.unclaim(client_id);
                    return Err(OpenError::Busy);
                }
                Standing::Waits => {}
            }
            // That somebody new is no member after all is nothing that anybody tells.
            let look_again = deadline.min(Instant::now() + self.settings.session_timeout / 2);
            tokio::select! {
                _ = seen.changed() => {}
                _ = members.changed() => {}
                () = sleep_until(look_again) => {}
            }
            let now = self.lives();
            if let Some(end) = self.ends().await {
                (lives, ends) = (now, Arc::new(end));
            }
        }
    }

    /// Gives a session its new connection.
    async fn attach(
        self: &Arc<Self>,
        request: &OpenRequest,
        kept: &Arc<Kept>,
        session_present: bool,
    ) -> Result<Opened, OpenError> {
        let OpenRequest { connection, expiry_s, version, window, .. } = *request;
        let (is_persistent, is_recorded, is_claimed) = {
            let mut state = kept.state.lock();
            state.connection = Some((connection, request.kick.clone()));
            (state.expiry_s, state.version, state.disconnected_ms) = (expiry_s, version, 0);
            // The one that waited is taken back: its client is there again before its time [MQTT-3.1.3-9].
            state.will = request.will.clone();
            state.changes += 1;
            (state.is_persistent(), state.is_in_log, state.is_claimed)
        };
        let resends = kept.session.attach(connection, window, is_persistent);
        self.kept.insert(request.client_id.clone(), kept.clone());
        self.timers.remove(&request.client_id);
        if !is_claimed && !is_persistent && self.live().len() > 1 {
            // Somebody has come while it was opened.
            self.announce(vec![kept.clone()]);
        }
        let mut opened = Opened { session: kept.session.clone(), session_present, resends };
        if is_persistent || is_recorded {
            // What a session of the past left in the log must not come back either.
            if let Err(error) = self.queue.write(vec![Job::Record(kept.clone())]).await {
                self.close(&kept.session, connection, Closing { expiry_s: None, send_will: false }).await;
                return Err(error.into());
            }
            // What was in doubt until then, and is others' after all.
            opened.resends.retain(|resend| kept.session.is_in_flight(resend.packet_id()));
        } else if request.will.is_some() {
            self.queue.post(vec![Job::Record(kept.clone())]);
        }
        Ok(opened)
    }

    /// Ends the connection of a session, if it has one, and waits until it has ended.
    pub(super) async fn disconnect(self: &Arc<Self>, kept: &Arc<Kept>) {
        let Some((connection, kick)) = kept.state.lock().connection.clone() else { return };
        kick.kick();
        let ended = async {
            loop {
                let detached = kept.detached.notified();
                tokio::pin!(detached);
                detached.as_mut().enable();
                if kept.state.lock().connection.as_ref().is_none_or(|(now, _)| *now != connection) {
                    return;
                }
                detached.await;
            }
        };
        if timeout(DETACH_MAX, ended).await.is_ok() {
            return;
        }
        tracing::warn!(client = %kept.session.client_id, "a connection does not end when it is told to");
        let shares = self.close(&kept.session, connection, Closing { expiry_s: None, send_will: true }).await;
        self.shares.detached(&kept.session, &shares);
    }
}
