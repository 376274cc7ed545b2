//! Sessions that outlive what they live in: their records in the log, who looks after them, and how they change hands.
//!
//! Each client's session has one **keeper**: the gateway in whose memory it is ([`kept`]), with or without a connection. The keeper
//! writes a record of it into the compacted topic `__mqtt_sessions` when something must be known before something else happens, and
//! every `checkpoint_interval` otherwise. All gateways read that topic ([`tail`]) into an [`image`], which decides whose a session is.
//!
//! ```text
//! connect ─► open ─┬ kept here: the older connection ends, its session goes on or is discarded
//!                  ├ nobody's: a new one
//!                  └ elsewhere: claim ─► its keeper sees it, writes its last record, gives up ─► restore, Router::adopt
//! keeper dies ─► membership ─► adopt: the others share what it left, by rendezvous hashing
//! ```
//!
//! # What is where after a crash
//!
//! A restored session is its last record, and from the log what was published behind the offsets up to which that record says it was
//! routed. A record that says nothing new is not written; how far the router has come since is said once for the whole gateway
//! (`p/`): those offsets are read, then all that changed is recorded, and only then they are written, so whatever a session was
//! routed before them is in a record. While a session still reads what it missed, they do not count for it (`is_catching_up`).
//!
//! Exactly once (QoS 2, persistent sessions), by where the gateway dies:
//!
//! - *Sent by the client.* The identifier's record (`r/`) is in the same commit as the message: both or neither. Neither: the client
//!   sends it again, and it is published. Both: it sends it again, and is answered only. Each identifier has its own record, because up to
//!   eight rounds are in flight: a record of all would say of one round what only the next makes true. Where the message's topic
//!   does not lie with the sessions (another protocol's clients made it), the identifier's record goes first, and says how the message
//!   is appended ([`super::attempts`]): sent again, it is appended in the same way, and the core keeps it once. (A client that
//!   then stays away for longer than the core remembers producers, seven days, may have it published twice.) The release is recorded before
//!   PUBCOMP; without its record the client sends PUBREL again. The client uses the identifier again only after PUBCOMP, so records of
//!   one identifier have an order.
//! - *Sent to the client.* Before a PUBLISH goes out, a record says which identifier the message has; before a PUBREL goes out, one says
//!   that it was received. Died before the first: the client never saw it, and gets it under whatever identifier. Between: it gets
//!   the same identifier again, which it still remembers, because it has no PUBREL. After the second: it gets the PUBREL again. An
//!   identifier whose PUBCOMP came is used again at once, and a record that says so is written before the new message goes out.
//!   A shared message is settled in the same commit as that first record ([`crate::state::shares::claim`]).
//! - *Between two gateways.* The old keeper's last record is written when its connection has ended, with all its rounds, and in the same
//!   batch gives the session up; the new one restores from nothing older. If the old one is dead its rounds are in the log or not,
//!   each with its identifier. If it is only taken for dead, what it writes bears a lower epoch, and it drops the session when it
//!   sees the new keeper's record; before that it neither answers nor sends anything of QoS 2 ([`certainty`]).
//!
//! QoS 1 may come twice: what was acknowledged since the last record.

mod adopt;
mod certainty;
mod checkpoint;
mod close;
mod image;
mod kept;
mod keys;
mod open;
mod owner;
mod tail;
mod timers;
mod turns;
mod writer;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use codec_mqtt::{PacketId, Text, Version};
use codec_record::mqtt_message::{MessageParts, Writer as BatchWriter};
use core_rpc::{AnyCore, Append, PartitionId, SessionId};
use dashmap::DashMap;
use gateway_runtime::Membership;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::image::Image;
use self::kept::Kept;
use self::keys::{Key, Received};
use self::timers::Timers;
use self::turns::Turns;
use self::writer::{Ends, Job, Queue};
use super::attempts::{Attempt, Attempts};
use super::delivery::ShareLease;
use super::places::Places;
use super::record::Incarnation;
use super::session::{ConnectionId, Limits, Resend, Session, SessionKey, Tally};
use crate::state::topics::Own;
use crate::state::{PublishError, Publishing, Router, Shares, Sys, Topics};
use crate::translate;

pub use self::kept::Kicked;
pub use super::record::StoredWill;

/// Whether a client that has logged in so may publish to a topic, as the rules are now.
pub type MayPublish = Arc<dyn Fn(&str, Option<&str>, &str) -> bool + Send + Sync>;

/// What the store needs of the gateway.
#[derive(Clone)]
pub struct Parts {
    pub core: AnyCore,
    pub topics: Arc<Topics>,
    pub router: Router,
    pub shares: Arc<Shares>,
    pub publishing: Publishing,
    pub membership: Membership,
    pub places: Arc<Places>,
    pub sys: Sys,
    pub may_publish: MayPublish,
    pub settings: Settings,
    pub stop: CancellationToken,
}

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub limits: Limits,
    /// After what time without a sign of life a gateway is taken for dead.
    pub session_timeout: Duration,
    /// How often what changed is recorded that nothing waits for: so much is read again after a crash.
    pub checkpoint_interval: Duration,
}

/// What a CONNECT asks for.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    pub client_id: Text,
    pub clean_start: bool,
    /// How long it outlives its connection, seconds; 0: not at all; `u32::MAX`: for ever.
    pub expiry_s: u32,
    pub version: Version,
    pub connection: ConnectionId,
    /// Told when the connection is to end: it finishes its rounds, then calls [`Sessions::close`].
    pub kick: Kicked,
    pub will: Option<StoredWill>,
    /// How many messages may be in flight to the client.
    pub window: u16,
}

/// A session with its new connection.
#[derive(Debug)]
pub struct Opened {
    pub session: Arc<Session>,
    /// It was there before [MQTT-3.2.2-2].
    pub session_present: bool,
    /// What to send again first, in order.
    pub resends: Vec<Resend>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A newer connection of the same client.
    #[error("the client has connected elsewhere meanwhile")]
    TakenOver,
    #[error("the client identifier is too long")]
    ClientIdTooLong,
    /// The gateway that has it does not give it up in time.
    #[error("the session's gateway does not answer")]
    Busy,
    #[error("the session could not be recorded: {0}")]
    Store(#[from] PublishError),
}

/// What the log is told of identifiers of QoS 2.
#[derive(Debug, Default)]
pub struct Records {
    /// Of messages that are kept apart from them: to be kept before those are appended.
    pub before: Option<Append>,
    /// Of others: to be kept in the same commit as their messages.
    pub with: Option<Append>,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closing {
    /// What DISCONNECT says instead of CONNECT.
    pub expiry_s: Option<u32>,
    /// Not after a DISCONNECT that takes it back [MQTT-3.1.2-10].
    pub send_will: bool,
}

/// All sessions that this gateway looks after. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

struct Shared {
    core: AnyCore,
    topics: Arc<Topics>,
    router: Router,
    shares: Arc<Shares>,
    publishing: Publishing,
    membership: Membership,
    places: Arc<Places>,
    sys: Sys,
    may_publish: MayPublish,
    settings: Settings,
    stop: CancellationToken,
    own: Incarnation,
    kept: DashMap<Text, Arc<Kept>>,
    turns: Turns,
    image: Mutex<Image>,
    lives: Mutex<Lives>,
    /// Told after each step of the tail.
    seen: watch::Sender<()>,
    /// For which of the gateway's registrations it is known what others have taken.
    confirmed: watch::Sender<u64>,
    queue: Queue,
    timers: Timers,
    next_key: AtomicU64,
    is_stopping: AtomicBool,
}

/// Which gateways are taken for alive.
#[derive(Debug, Default)]
struct Lives {
    /// That ever were members.
    known: HashSet<Incarnation>,
    /// That claimed something and were no members yet, and until when that is believed, ms since the Unix epoch: a membership is
    /// known a moment later to some than to others.
    new: Vec<(Incarnation, i64)>,
}

impl Sessions {
    /// Reads all records, takes on what is nobody's, and keeps going in tasks that end with `stop`. Waits until the core answers.
    pub async fn start(parts: Parts) -> Sessions {
        let Parts { core, topics, router, shares, publishing, membership, places, sys, may_publish, settings, stop } =
            parts;
        let own = Incarnation(membership.own().incarnation);
        let partitions = topics.own(Own::Sessions).partitions;
        let shared = Arc::new(Shared {
            core,
            topics,
            router,
            shares,
            publishing,
            membership,
            places,
            sys,
            may_publish,
            settings,
            stop,
            own,
            kept: DashMap::new(),
            turns: Turns::default(),
            image: Mutex::new(Image::new(own, partitions)),
            lives: Mutex::default(),
            seen: watch::channel(()).0,
            confirmed: watch::Sender::default(),
            queue: Queue::default(),
            timers: Timers::default(),
            next_key: AtomicU64::new(1),
            is_stopping: AtomicBool::new(false),
        });
        tokio::spawn(shared.clone().write_all());
        shared.read_all().await;
        tokio::spawn(shared.clone().follow_tail());
        tokio::spawn(shared.clone().confirm_all());
        shared.adopt_orphans().await;
        tokio::spawn(shared.clone().follow_members());
        tokio::spawn(shared.clone().follow_timers());
        tokio::spawn(shared.clone().checkpoint_all());
        Sessions { shared }
    }

    /// The core's session during which nobody takes this gateway for dead, and its clients' sessions: what is done only while that lives
    /// is done before. [`PublishError::Unavailable`]: others may have done so already.
    pub fn certain_in(&self) -> Result<Option<SessionId>, PublishError> {
        self.shared.certain_in().ok_or(PublishError::Unavailable)
    }

    /// Makes a session's state durable: what changed before this call, received and released identifiers included. Returns at once
    /// where nothing did, and for sessions that end with their connection.
    pub async fn record(&self, session: &Arc<Session>) -> Result<(), PublishError> {
        if !session.is_persistent() {
            return Ok(());
        }
        let Some(kept) = self.shared.kept_of(session) else { return Err(PublishError::Unavailable) };
        self.shared.record(kept).await
    }

    /// The same, and in the same commit these shared messages become the session's own, which are about to be sent: nobody else
    /// gets them. [`PublishError::NotHeld`]: they are others', and the session has them no more.
    pub async fn record_shared(
        &self,
        session: &Arc<Session>,
        sent: Vec<(PacketId, ShareLease)>,
    ) -> Result<(), PublishError> {
        let Some(kept) = self.shared.kept_of(session) else { return Err(PublishError::Unavailable) };
        let (packet_ids, leases): (Vec<PacketId>, Vec<ShareLease>) = sent.into_iter().unzip();
        match self.shared.shares.claim(leases) {
            Some(claim) => {
                let ends = self.shared.queue.write(vec![Job::Claim(kept.clone(), packet_ids, claim)]).await?;
                self.shared.is_still_own(&kept, &ends).await
            }
            None => {
                self.shared.shares.release(&session.disown(&packet_ids));
                Err(PublishError::NotHeld)
            }
        }
    }

    /// Only what was released of what was received (before PUBCOMP): as [`Sessions::record`], but less is written.
    pub async fn record_released(&self, session: &Arc<Session>) -> Result<(), PublishError> {
        if !session.is_persistent() {
            return Ok(());
        }
        let Some(kept) = self.shared.kept_of(session) else { return Err(PublishError::Unavailable) };
        let ends = self.shared.queue.write(vec![Job::Released(kept.clone())]).await?;
        self.shared.is_still_own(&kept, &ends).await
    }

    /// The records of identifiers for which [`Session::begin_receive`] was called since the last such call. None: there are none, or
    /// the session needs no records.
    pub fn record_append(&self, session: &Session) -> Records {
        let mut records = Records::default();
        if !session.is_persistent() {
            return records;
        }
        let kept = self.shared.kept.get(&session.client_id).filter(|kept| kept.session.key == session.key);
        let Some(kept) = kept else { return records };
        let received = session.received_ids();
        let mut state = kept.state.lock();
        let partition = self.shared.partition(&Key::Session(&session.client_id));
        let append = |received: Vec<(PacketId, Option<Attempt>)>| {
            let mut writer = BatchWriter::new();
            for (packet_id, attempt) in received {
                let key = Key::Received(packet_id, &session.client_id).to_string();
                let payload = Received { life: kept.life, attempt }.encode();
                writer.append(&MessageParts { topic: key.as_bytes(), payload: &payload, ..MessageParts::default() });
            }
            Some(Append { partition, batch: writer.take(-1)? })
        };
        let attempts = session.attempts(Attempts::tell);
        state.told.extend(attempts.iter().map(|(packet_id, _)| *packet_id));
        records.before = append(attempts.into_iter().map(|(id, attempt)| (id, Some(attempt))).collect());
        let new = received.into_iter().filter(|packet_id| state.told.insert(*packet_id));
        records.with = append(new.map(|packet_id| (packet_id, None)).collect());
        records
    }

    /// Messages that were appended as their attempts say.
    pub fn kept_apart(&self, session: &Session, packet_ids: &[PacketId]) {
        session.attempts(|attempts| packet_ids.iter().for_each(|packet_id| attempts.kept(*packet_id)));
    }

    /// Messages of QoS 2 whose round was not kept, or nobody knows (`error`). It is as if they had not come: sent again they are
    /// published. Where nobody knows, the session's next connection waits until the log has told.
    pub fn not_received(&self, session: &Session, packet_ids: &[PacketId], error: PublishError) {
        let kept = self.shared.kept_of(session).filter(|_| session.is_persistent());
        let Some(kept) = kept else {
            for packet_id in packet_ids {
                session.end_receive(*packet_id);
            }
            return;
        };
        let is_certain = !matches!(error, PublishError::Unavailable | PublishError::StorageFailed);
        if error == PublishError::ProducerLost {
            session.attempts(Attempts::forget_producers);
        }
        let mut state = kept.state.lock();
        for packet_id in packet_ids {
            if is_certain {
                session.end_receive(*packet_id);
                state.told.remove(packet_id);
            } else {
                state.doubted.insert(*packet_id);
            }
        }
    }

    /// Ends the connection of a client, if it has one here. False: it has none.
    pub fn kick(&self, client_id: &Text) -> bool {
        let kept = self.shared.kept(client_id);
        let connection = kept.and_then(|kept| kept.state.lock().connection.clone());
        connection.inspect(|(_, kick)| kick.kick()).is_some()
    }

    /// How many sessions there are here, and how many of them have a connection.
    pub fn counts(&self) -> (usize, usize) {
        let connected = self.shared.kept.iter().filter(|kept| kept.state.lock().connection.is_some()).count();
        (self.shared.kept.len(), connected)
    }

    /// What the sessions here come to, and how many have expired since the gateway started.
    pub fn tally(&self) -> (Tally, u64) {
        (self.shared.kept.iter().map(|kept| kept.session.tally()).sum(), self.shared.timers.expired())
    }

    /// From now on wills stay with their sessions, for whoever looks after them next: connections end because the gateway does.
    pub fn begin_stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Release);
    }

    /// Records everything, once connections have ended.
    pub async fn finish_stop(&self) {
        if !self.shared.checkpoint().await {
            tracing::warn!("not all sessions were recorded");
        }
    }
}

impl Shared {
    fn kept(&self, client_id: &Text) -> Option<Arc<Kept>> {
        self.kept.get(client_id).map(|kept| kept.clone())
    }

    /// None: it is not looked after here any more.
    fn kept_of(&self, session: &Session) -> Option<Arc<Kept>> {
        self.kept(&session.client_id).filter(|kept| kept.session.key == session.key)
    }

    fn partition(&self, key: &Key<'_>) -> PartitionId {
        self.topics.own_partition(Own::Sessions, &key.hashed())
    }

    async fn record(&self, kept: Arc<Kept>) -> Result<(), PublishError> {
        let ends = match kept.is_dirty() || !kept.write_released().entries.is_empty() {
            true => self.queue.write(vec![Job::Record(kept.clone())]).await?,
            false => Ends::default(),
        };
        self.is_still_own(&kept, &ends).await
    }

    /// Whether a gateway is taken for alive; this one always.
    fn lives(&self) -> impl Fn(Incarnation) -> bool + use<> {
        let live: HashSet<Incarnation> = self.live().into_iter().collect();
        let now_ms = crate::now_ms();
        let mut lives = self.lives.lock();
        lives.known.extend(live.iter().copied());
        let Lives { known, new } = &mut *lives;
        new.retain(|(gateway, until_ms)| *until_ms > now_ms && !known.contains(gateway));
        let new: Vec<Incarnation> = new.iter().map(|(gateway, _)| *gateway).collect();
        move |gateway| live.contains(&gateway) || new.contains(&gateway)
    }

    /// The members, and this gateway.
    fn live(&self) -> Vec<Incarnation> {
        let members = self.membership.live();
        let others = members.iter().map(|member| Incarnation(member.incarnation)).filter(|other| *other != self.own);
        others.chain([self.own]).collect()
    }

    fn new_session(&self, client_id: Text) -> (Session, u64) {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        // No two sessions of a client have the same, whichever gateway made them.
        let [high, ..] = [u64::from_le_bytes(self.own.0[..8].try_into().unwrap_or_default())];
        let publisher = translate::publisher(&client_id);
        let session = Session::new(SessionKey(key), client_id, publisher, self.places.clone(), self.settings.limits);
        (session, high.wrapping_add(key))
    }

    /// Tombstones of all that the log has of a session, and of what was received in it.
    fn entomb(&self, kept: &Kept) {
        let client_id = &kept.session.client_id;
        let received = self.image.lock().received_ever(client_id);
        let entries = kept.write_end(self.own, received);
        if !entries.is_empty() {
            self.queue.post(vec![Job::End(client_id.clone(), entries)]);
        }
    }

    /// Whether somebody else looks after a client's session by now, or is about to: this gateway was taken for dead.
    fn is_others(&self, client_id: &Text) -> bool {
        let lives = self.lives();
        let image = self.image.lock();
        image.record(client_id).is_some_and(|known| known.head.keeper != Some(self.own))
            || image.is_adopted_elsewhere(client_id, &lives)
    }

    /// Takes back this gateway's claim.
    fn unclaim(&self, client_id: &Text) {
        self.queue.post(vec![Job::Entry(Key::Claim(self.own, client_id).to_string(), Bytes::new())]);
    }
}
