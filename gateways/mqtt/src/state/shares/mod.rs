//! Shared subscriptions (4.8.2): `$share/<group>/<filter>`, whose messages go to one member each.
//!
//! ```text
//!  lease maps (core) ── acquire ──► taking ── deal ──► the member with the fewest ── Session::push_shared ──► client
//!        ▲                                                                                                      │
//!        └────────── settle, in rounds ◄── settler ◄── marks ◄── settle / release ◄── PUBACK, PUBCOMP, written ─┘
//! ```
//! A share is a group of lease maps on all partitions in which its filter may find messages; gateways with members of it acquire from
//! the same maps, and so share it without knowing of each other. It begins at the end of the log, and outlives its members
//! ([`registry`]).
//!
//! - [`dealer`]: who gets the next. [`share`]: one share's members and what they have. [`taking`]: its task. [`claim`]: what is sent with
//!   QoS 2.

pub mod claim;
mod dealer;
mod registry;
mod settler;
mod share;
mod taking;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use codec_mqtt::topic;
use core_rpc::{
    AcquireMode, AcquireRequest, AnyCore, Core, GroupName, Isolation, Lease, LeaseError, MetaError, OffsetAt,
    PartitionId, SeekTo, Settlement,
};
use gateway_runtime::CoreSession;
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use self::registry::{Begin, Name, Registry};
use self::settler::{Settler, holder};
use self::share::{Member, Share};
use super::sessions::{Session, SessionKey, ShareLease, Wish};
use super::topics::{Topics, partitions_of};

/// A member has at most so many messages that are not settled, whatever its receive maximum.
const WINDOW_MAX: usize = 512;

/// Why a member goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// What it has is still its to settle. With the last member the share goes.
    Unsubscribed,
    /// Its session is over: what it has goes to others.
    Ended,
}

/// What a gateway needs for its shares.
pub struct Setup {
    pub core: AnyCore,
    pub topics: Arc<Topics>,
    /// Its keys' session.
    pub keys: CoreSession,
    /// Under which it holds messages.
    pub leases: CoreSession,
    /// Begins the names under which it holds messages: no other gateway, and not this one after a restart, has the same.
    pub holder_prefix: String,
    pub node_id: i32,
    /// How long a share stays without members.
    pub expiry: Duration,
    pub stop: CancellationToken,
}

/// The shares that have members at this gateway.
pub struct Shares {
    core: AnyCore,
    topics: Arc<Topics>,
    leases: CoreSession,
    holder_prefix: String,
    registry: Registry,
    settler: Settler,
    names: Mutex<HashMap<Name, Arc<Gate>>>,
    /// Also those that have no members any more, until what they had is settled.
    by_id: RwLock<HashMap<u64, Arc<Share>>>,
    ids: AtomicU64,
    stop: CancellationToken,
}

/// One comes or goes at a time. None: no members.
#[derive(Debug, Default)]
struct Gate {
    share: tokio::sync::Mutex<Option<Arc<Share>>>,
}

impl Shares {
    /// Starts the tasks that settle, and that remove shares without members; they end with `stop`.
    pub fn start(setup: Setup) -> Arc<Shares> {
        let Setup { core, topics, keys, leases, holder_prefix, node_id, expiry, stop } = setup;
        let namespace = topics.namespace().to_owned();
        let registry = Registry::new(core.clone(), keys.clone(), namespace, node_id, expiry);
        let settler = Settler::start(core.clone(), leases.clone(), holder_prefix.clone(), stop.clone());
        tokio::spawn(registry.clone().keep_house(stop.clone()));
        let shares = Arc::new(Shares {
            core,
            topics,
            leases,
            holder_prefix,
            registry,
            settler,
            names: Mutex::default(),
            by_id: RwLock::default(),
            ids: AtomicU64::new(1),
            stop: stop.clone(),
        });
        tokio::spawn(stay_known(shares.clone(), keys, stop));
        shares
    }

    /// A session that is connected is a member from now on; again after each time that it was away, and when it wants something else.
    /// `window`: how many messages it takes at a time (its receive maximum). The share begins with its first member, before
    /// this returns. An error: nobody has joined.
    pub async fn join(
        self: &Arc<Self>,
        group: &str,
        filter: &str,
        session: &Arc<Session>,
        wish: Wish,
        window: u16,
    ) -> Result<(), MetaError> {
        let window = usize::from(window).min(WINDOW_MAX);
        self.enter(group, filter, session, wish, move |share, member| {
            share.join(member, window);
            false
        })
        .await
    }

    /// A session that is not connected is a member: its connection went away, or it was kept from an earlier run.
    pub async fn away(
        self: &Arc<Self>,
        group: &str,
        filter: &str,
        session: &Arc<Session>,
        wish: Wish,
    ) -> Result<(), MetaError> {
        self.enter(group, filter, session, wish, |share, member| share.away(member)).await
    }

    /// Done whether or not the caller waits for it: who is half a member would be one for ever. `and` says whether the settler is to
    /// be told.
    async fn enter(
        self: &Arc<Self>,
        group: &str,
        filter: &str,
        session: &Arc<Session>,
        wish: Wish,
        and: impl FnOnce(&Share, Member) -> bool + Send + 'static,
    ) -> Result<(), MetaError> {
        let (group, filter) = (group.to_owned(), filter.to_owned());
        let (shares, member) = (self.clone(), Member { session: session.clone(), wish });
        let entering = tokio::spawn(async move {
            let session = member.session.clone();
            shares.with_share(&group, &filter, |share| and(share, member)).await?;
            // It ended before it was a member, and nobody else knows that it is one.
            if session.is_over() {
                shares.leave(&group, &filter, session.key, Leaving::Ended).await;
            }
            Ok(())
        });
        entering.await.unwrap_or(Err(MetaError::Unavailable))
    }

    /// A member goes.
    pub async fn leave(&self, group: &str, filter: &str, key: SessionKey, why: Leaving) {
        let name = Name { group: group.into(), filter: filter.into() };
        let Some(gate) = self.names.lock().get(&name).cloned() else { return };
        let mut seat = gate.share.lock().await;
        let Some(share) = seat.clone() else { return };
        let unsubscribed = why == Leaving::Unsubscribed;
        let (is_empty, must_settle) = share.leave(key, unsubscribed);
        if must_settle {
            self.settler.push(share.clone());
        }
        if !is_empty {
            return;
        }
        *seat = None;
        share.over.cancel();
        self.drop_if_done(&share);
        if let Err(error) = self.registry.leave(&name, unsubscribed).await {
            // It goes with the session of this gateway, or when another member was here and leaves.
            tracing::warn!(group, filter, %error, "a shared subscription without members could not be removed");
        }
        drop(seat);
        let mut names = self.names.lock();
        // Ours and the map's: nobody is on the way in.
        if Arc::strong_count(&gate) == 2 {
            names.remove(&name);
        }
    }

    /// A session that has connected is a member again of all the shares that it has subscribed to. An error: of some of them it is not.
    pub async fn attached(self: &Arc<Self>, session: &Arc<Session>, window: u16) -> Result<(), MetaError> {
        for (group, filter, wish) in shared_subscriptions(session) {
            self.join(&group, &filter, session, wish, window).await?;
        }
        Ok(())
    }

    /// The connection of a session that stays is gone. Others get what it had, of what the session does not finish itself.
    pub fn detached(self: &Arc<Self>, session: &Arc<Session>, leases: &[ShareLease]) {
        self.release(leases);
        self.adopt(session);
    }

    /// A session without a connection that is kept here from now on is a member of what it has subscribed to, in a moment.
    pub fn adopt(self: &Arc<Self>, session: &Arc<Session>) {
        let subscriptions = shared_subscriptions(session);
        if subscriptions.is_empty() {
            return;
        }
        let (shares, session) = (self.clone(), session.clone());
        tokio::spawn(async move {
            for (group, filter, wish) in subscriptions {
                if let Err(error) = shares.away(&group, &filter, &session, wish).await {
                    tracing::warn!(group, filter, %error, "a shared subscription does not know of a member that is away");
                }
            }
        });
    }

    /// Ends a session without a connection, here at least: others get what it had, in a moment, but for what it was sent with
    /// QoS 2 and may have received [MQTT-4.8.2-5].
    pub fn end(self: &Arc<Self>, session: &Session) {
        let subscriptions = shared_subscriptions(session);
        let sent = session.shares_in_flight();
        session.end();
        sent.iter().for_each(|lease| self.settle(lease));
        if subscriptions.is_empty() {
            return;
        }
        let (shares, key) = (self.clone(), session.key);
        tokio::spawn(async move {
            for (group, filter, _) in subscriptions {
                shares.leave(&group, &filter, key, Leaving::Ended).await;
            }
        });
    }

    /// A delivery is done with: it was written (QoS 0), acknowledged, or has expired.
    pub fn settle(&self, lease: &ShareLease) {
        self.finish(lease, Settlement::Accept);
    }

    /// Deliveries that their member did not get, or did not acknowledge before it went away: others get them.
    pub fn release(&self, leases: &[ShareLease]) {
        leases.iter().for_each(|lease| self.finish(lease, Settlement::Release));
    }

    /// Waits until the core knows what was settled before: for a gateway that stops.
    pub async fn settled(&self) {
        self.settler.settled().await;
    }

    fn finish(&self, lease: &ShareLease, settlement: Settlement) {
        let Some(share) = self.by_id.read().get(&lease.share).cloned() else { return };
        if share.finish(lease, settlement) {
            self.settler.push(share.clone());
        }
        if share.over.is_cancelled() {
            self.drop_if_done(&share);
        }
    }

    fn drop_if_done(&self, share: &Share) {
        if share.is_done() {
            self.by_id.write().remove(&share.id);
        }
    }

    /// Calls `and` with the share, which is made if it is not there.
    async fn with_share(
        self: &Arc<Self>,
        group: &str,
        filter: &str,
        and: impl FnOnce(&Share) -> bool,
    ) -> Result<(), MetaError> {
        let name = Name { group: group.into(), filter: filter.into() };
        let gate = self.names.lock().entry(name.clone()).or_default().clone();
        let mut seat = gate.share.lock().await;
        if let Some(share) = &*seat {
            if and(share) {
                self.settler.push(share.clone());
            }
            return Ok(());
        }
        let begin = |group: GroupName| -> Begin {
            let (shares, filter) = (self.clone(), name.filter.clone());
            Box::pin(async move { shares.begin(&filter, &group).await })
        };
        let lease_group = self.registry.enter(&name, &begin).await?;
        let share = Arc::new(Share::new(self.ids.fetch_add(1, Ordering::Relaxed), filter, lease_group));
        and(&share);
        self.by_id.write().insert(share.id, share.clone());
        *seat = Some(share.clone());
        tokio::spawn(taking::run(self.clone(), name, share));
        Ok(())
    }

    /// Begins a share's maps at the end of what there is, where it has none.
    async fn begin(&self, filter: &str, group: &GroupName) -> Result<(), MetaError> {
        // Of what is not known yet it would get the first message too.
        self.topics.caught_up().await;
        let partitions = self.partitions(filter);
        if partitions.is_empty() {
            return Ok(());
        }
        let session = self.leases.id();
        let request = AcquireRequest {
            group: group.clone(),
            partitions,
            holder: holder(&self.holder_prefix, session),
            lease: Lease::Session(session),
            mode: AcquireMode::Strict,
            credit_messages: 0,
            credit_bytes: 0,
            bytes_min: 0,
            window_messages: 0,
            acquisitions_max: None,
            start: SeekTo::At(OffsetAt::Latest),
            isolation: Isolation::Committed,
            wait: Duration::ZERO,
        };
        for answer in self.core.acquire(request).await {
            match answer {
                // A topic that was deleted meanwhile; or the maps are there, which is what this is for.
                Ok(_) | Err(LeaseError::UnknownPartition | LeaseError::UnknownSession) => {}
                Err(LeaseError::DiskFull) => return Err(MetaError::DiskFull),
                Err(LeaseError::StorageFailed | LeaseError::Corrupt) => return Err(MetaError::StorageFailed),
                Err(_) => return Err(MetaError::Unavailable),
            }
        }
        Ok(())
    }

    /// Where the filter may find messages.
    fn partitions(&self, filter: &str) -> Vec<PartitionId> {
        let topics = self.topics.matching(filter);
        topics.iter().flat_map(|known| partitions_of(&known.topic)).collect()
    }
}

/// Group, filter and wish of the shared subscriptions among a session's.
fn shared_subscriptions(session: &Session) -> Vec<(String, String, Wish)> {
    let subscriptions = session.subscriptions();
    let shared = subscriptions.iter().filter_map(|(filter, subscribed)| {
        let (group, filter) = topic::shared(filter).ok()??;
        Some((group.to_owned(), filter.to_owned(), subscribed.wish))
    });
    shared.collect()
}

/// Says again who has members here, when this gateway gets another session for its keys.
async fn stay_known(shares: Arc<Shares>, keys: CoreSession, stop: CancellationToken) {
    let mut changes = keys.changes();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
        let names: Vec<(Name, Arc<Gate>)> =
            shares.names.lock().iter().map(|(name, gate)| (name.clone(), gate.clone())).collect();
        for (name, gate) in names {
            let seat = gate.share.lock().await;
            if seat.is_some()
                && let Err(error) = shares.registry.say_here(&name).await
            {
                tracing::warn!(%error, "the other gateways were not told of a shared subscription's members");
            }
        }
    }
}
