//! A session (4.1): what this gateway knows of a client, whether it is connected or not.
//!
//! ```text
//! router, retained, shares ── push ──► here (messages) ──► take ──► connection ──► socket
//!                                 └──► there (references) ─ load ─┘     │
//!                                                     flights ◄─────────┘ until PUBACK or PUBCOMP
//! ```
//! Messages wait *here* while the client is connected and keeps up; behind them, and for a client that is away, only
//! references wait *there*: 16 bytes each, or for all that lie one behind the other. Nothing here does I/O or reads a clock: the
//! connection's task takes, loads and acknowledges; [`super::store`] writes [`Snapshot`]s.

mod held;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use codec_mqtt::topic::SHARE_PREFIX;
use codec_mqtt::{PacketId, QoS, Text};
use core_rpc::{PartitionId, TopicId};
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::held::{is_kept, run, waits};
use self::snapshot::Base;
use super::attempts::{Attempt, Attempts};
use super::backlog::Backlog;
use super::delivery::{Delivery, Message, Place, ShareLease, Wish};
use super::places::{IdTable, Places, Reference};

pub use self::held::{Held, Run, Waiting};
pub use self::snapshot::{Changed, Snapshot};

/// Names a session within its gateway; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(pub u64);

/// Names a connection within its gateway; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What bounds a session.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages that wait with their bytes. Of what comes when there are so many, QoS 0 is dropped.
    pub here_messages_max: usize,
    /// Bytes of those.
    pub here_bytes_max: usize,
    /// Messages that wait as references. What comes when there are so many is dropped.
    pub there_messages_max: usize,
}

/// The session. Its lock is held for moments only.
#[derive(Debug)]
pub struct Session {
    pub key: SessionKey,
    pub client_id: Text,
    /// Its mark in what it publishes.
    pub publisher: u64,
    places: Arc<Places>,
    limits: Limits,
    state: Mutex<State>,
    /// Less waits here than before, or the connection is gone.
    room: Notify,
}

/// A subscription, as the client made it; `$share/…` and `$exclusive/…` included in its filter, which is the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    pub wish: Wish,
}

#[derive(Debug, Default)]
struct State {
    attached: Option<Attached>,
    /// Survives its connection.
    is_persistent: bool,
    subscriptions: BTreeMap<Text, Subscribed>,
    here: VecDeque<Delivery>,
    /// Of QoS 0, each with how many came `here` before it: they are in turn with those, and pass them where a full window holds them
    /// back (only messages of one quality have an order [MQTT-4.6.0-5]).
    free: VecDeque<(u64, Delivery)>,
    /// How many ever came here, and went on.
    came: u64,
    went: u64,
    /// Of both.
    here_bytes: usize,
    there: Backlog,
    ids: IdTable,
    flights: HashMap<PacketId, Flight>,
    next_order: u64,
    last_packet_id: u16,
    /// Of QoS 2 messages that were received and not released (4.3.3).
    received: BTreeSet<PacketId>,
    /// Of those: what earlier connections have left.
    received_before: BTreeSet<PacketId>,
    attempts: Attempts,
    /// The offset behind the last message that was routed to it, of partitions that ever brought one. Only of persistent ones.
    routed: BTreeMap<PartitionId, u64>,
    /// Topics of which it gets nothing before what it missed was read again.
    held: Vec<TopicId>,
    /// What lies before these offsets was published while nobody was there: none of QoS 0 is for who has come since.
    new_from: BTreeMap<PartitionId, u64>,
    dropped: u64,
    /// What the log has been told at length.
    base: Option<Base>,
    bases: u32,
    /// Rises with every change that a record has to tell of.
    changes: u64,
    is_over: bool,
}

#[derive(Debug)]
struct Attached {
    connection: ConnectionId,
    /// How many flights there may be.
    window: usize,
    waker: Option<Waker>,
    /// Somebody who pushed was told to wake it, and will.
    is_due: bool,
    /// References are on their way here.
    is_loading: bool,
}

/// A message that was sent and is not acknowledged.
#[derive(Debug)]
struct Flight {
    order: u64,
    what: Held,
    is_released: bool,
    /// Nobody else may get it: only a shared message of which that is not settled yet is not.
    is_own: bool,
}

/// What the connection is to send next.
#[derive(Debug, Default)]
pub struct Taken {
    /// In order. With an identifier those that are to be acknowledged.
    pub deliveries: Vec<(Option<PacketId>, Delivery)>,
    /// To be loaded ([`super::loader`]) and given back with [`Session::loaded`]; nothing else comes before.
    pub load: Vec<Waiting>,
    /// Shared messages that expired while they waited: to be settled.
    pub expired: Vec<ShareLease>,
    /// Among the deliveries is one of QoS 2, and the session is persistent, or the message is shared: the session's record must be kept,
    /// and the message settled, before they are sent.
    pub must_record: bool,
}

/// What a client that is back is sent again first [MQTT-4.4.0-1], in order.
#[derive(Clone, Debug)]
pub enum Resend {
    Publish { packet_id: PacketId, what: Held },
    Release { packet_id: PacketId },
}

impl Resend {
    pub fn packet_id(&self) -> PacketId {
        match self {
            Resend::Publish { packet_id, .. } | Resend::Release { packet_id } => *packet_id,
        }
    }
}

/// An answer of the client that does not fit what it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Late, or twice: nothing is sent under it.
    #[error("no such packet identifier is in use")]
    Unknown,
    /// What it was sent asks for another packet (4.3).
    #[error("another answer is due for this packet identifier")]
    Another,
}

/// What sessions come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub sessions: u64,
    /// Messages that wait or are in flight.
    pub messages: u64,
    /// What those take here that wait.
    pub bytes: u64,
    pub shared_subscriptions: u64,
    /// Messages that were dropped because too many waited, since this was asked for last.
    pub dropped: u64,
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Tally>>(tallies: I) -> Tally {
        tallies.fold(Tally::default(), |sum, one| Tally {
            sessions: sum.sessions + one.sessions,
            messages: sum.messages + one.messages,
            bytes: sum.bytes + one.bytes,
            shared_subscriptions: sum.shared_subscriptions + one.shared_subscriptions,
            dropped: sum.dropped + one.dropped,
        })
    }
}

/// So many references are loaded at once.
const LOAD_MAX: usize = 128;

impl Session {
    pub fn new(key: SessionKey, client_id: Text, publisher: u64, places: Arc<Places>, limits: Limits) -> Session {
        Session { key, client_id, publisher, places, limits, state: Mutex::default(), room: Notify::new() }
    }

    // What it gets.

    /// A message that was published, if one of its subscriptions wants it. True: the caller must [`Session::wake`] it soon;
    /// until then nobody else is told so.
    pub fn push(&self, message: &Arc<Message>, wishes: &[Wish]) -> bool {
        let is_own = message.publisher != 0 && message.publisher == self.publisher;
        let Some(delivery) = Delivery::merge(message, wishes, is_own) else { return false };
        let mut state = self.state.lock();
        if let Some(place) = message.place {
            if !state.held.is_empty() && state.held.contains(&place.partition.topic) {
                return false;
            }
            if state.is_persistent && !state.is_routed(place) {
                return false;
            }
        }
        if state.is_over_for(&delivery) {
            return false;
        }
        self.queue(&mut state, delivery)
    }

    /// A message of a topic that is held, as it is read again.
    pub fn push_missed(&self, message: &Arc<Message>, wishes: &[Wish]) -> bool {
        let is_own = message.publisher != 0 && message.publisher == self.publisher;
        let Some(delivery) = Delivery::merge(message, wishes, is_own) else { return false };
        let mut state = self.state.lock();
        if message.place.is_some_and(|place| !state.is_routed(place)) || state.is_over_for(&delivery) {
            return false;
        }
        self.queue(&mut state, delivery)
    }

    /// What comes by another way than the router: retained messages, shared subscriptions, `$SYS`.
    pub fn push_delivery(&self, delivery: Delivery) -> bool {
        self.queue(&mut self.state.lock(), delivery)
    }

    /// A shared subscription's. None: no connection is there, and it is not this session's to keep.
    pub fn push_shared(&self, delivery: Delivery) -> Option<bool> {
        let mut state = self.state.lock();
        if state.attached.is_none() || state.is_over {
            return None;
        }
        Some(self.queue(&mut state, delivery))
    }

    fn queue(&self, state: &mut State, delivery: Delivery) -> bool {
        state.queue(delivery, &self.places, self.limits)
    }

    /// Waits until more than what is published just now may wait here: for who has many to push. False: no connection is there.
    pub async fn has_room(&self) -> bool {
        loop {
            let mut roomier = std::pin::pin!(self.room.notified());
            // From here on a change is noticed.
            roomier.as_mut().enable();
            {
                let state = self.state.lock();
                if state.attached.is_none() || state.is_over {
                    return false;
                }
                let fits = state.here.len() + state.free.len() < self.limits.here_messages_max.div_ceil(2)
                    && state.here_bytes < self.limits.here_bytes_max.div_ceil(2);
                if fits && state.there.is_empty() {
                    return true;
                }
            }
            roomier.await;
        }
    }

    /// Its client is about to be back: where what is new for it begins, in all partitions that its filters may match.
    pub fn begin_anew(&self, from: impl IntoIterator<Item = (PartitionId, u64)>) {
        self.state.lock().new_from = from.into_iter().collect();
    }

    /// From now on messages of this topic come as they are published.
    pub fn unhold(&self, topic: TopicId) {
        self.state.lock().held.retain(|held| *held != topic);
    }

    /// Whether what it missed is still being read.
    pub fn is_holding(&self) -> bool {
        !self.state.lock().held.is_empty()
    }

    /// Wakes the connection's task, if there is one.
    pub fn wake(&self) {
        let waker = self.state.lock().attached.as_mut().and_then(|attached| {
            attached.is_due = false;
            attached.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    // Its connection.

    /// A connection that is the session's from now on. Returns what to send again. `window`: how many messages may be in
    /// flight (receive maximum).
    pub fn attach(&self, connection: ConnectionId, window: u16, is_persistent: bool) -> Vec<Resend> {
        let mut state = self.state.lock();
        state.attached =
            Some(Attached { connection, window: window.into(), waker: None, is_due: false, is_loading: false });
        state.is_persistent = is_persistent;
        state.changes += 1;
        state.received_before = state.received.clone();
        let mut flights: Vec<_> = state.flights.iter().collect();
        flights.sort_by_key(|(_, flight)| flight.order);
        let resend = |(&packet_id, flight): (&PacketId, &Flight)| match flight.is_released {
            true => Resend::Release { packet_id },
            false => Resend::Publish { packet_id, what: flight.what.clone() },
        };
        flights.into_iter().map(resend).collect()
    }

    /// The connection is no more. What waited for it with its bytes waits as references from now on. Returns the shared
    /// messages that others may have. Nothing happens if another connection has taken over.
    pub fn detach(&self, connection: ConnectionId) -> Vec<ShareLease> {
        let mut state = self.state.lock();
        if state.attached.as_ref().is_none_or(|attached| attached.connection != connection) {
            return Vec::new();
        }
        state.attached = None;
        self.room.notify_waiters();
        state.changes += 1;
        let mut shares = Vec::new();
        let here = std::mem::take(&mut state.here);
        let free = std::mem::take(&mut state.free);
        state.went = state.came;
        state.here_bytes = 0;
        for delivery in here.into_iter().rev() {
            if let Some(waiting) = waits(&delivery).filter(|_| is_kept(&delivery)) {
                match state.reference(&self.places, &waiting) {
                    Some(reference) => state.there.push_front(reference),
                    None => state.base = None,
                }
            }
            shares.extend(delivery.share);
        }
        shares.reverse();
        shares.extend(free.into_iter().filter_map(|(_, delivery)| delivery.share));
        state.flights.retain(|_, flight| {
            let Held::Here(delivery) = &mut flight.what else { return true };
            match delivery.share.take() {
                // What may have been received is finished with this client, or with nobody [MQTT-4.8.2-4, MQTT-4.8.2-5]; of QoS 1
                // another may do better, and what was not sent yet it may have.
                Some(share) if delivery.qos < QoS::ExactlyOnce || !flight.is_own => {
                    shares.push(share);
                    false
                }
                share => {
                    delivery.share = share;
                    if let (Some(place), None) = (delivery.message.place, &delivery.share) {
                        flight.what = Held::There(Waiting {
                            place,
                            qos: delivery.qos,
                            retain: delivery.retain,
                            subscription_ids: std::mem::take(&mut delivery.subscription_ids),
                        });
                    }
                    true
                }
            }
        });
        shares
    }

    pub fn is_attached(&self) -> bool {
        self.state.lock().attached.is_some()
    }

    /// What to send next; `waker` is woken when there is something again. `messages_max`: at most so many.
    pub fn take(&self, connection: ConnectionId, waker: &Waker, messages_max: usize, now_ms: i64) -> Taken {
        self.take_some(connection, waker, messages_max, now_ms, true)
    }

    /// The same, but only what is of QoS 0: the client has to acknowledge something before the rest.
    pub fn take_free(&self, connection: ConnectionId, waker: &Waker, messages_max: usize, now_ms: i64) -> Taken {
        self.take_some(connection, waker, messages_max, now_ms, false)
    }

    fn take_some(
        &self,
        connection: ConnectionId,
        waker: &Waker,
        messages_max: usize,
        now_ms: i64,
        may_fly: bool,
    ) -> Taken {
        let mut taken = Taken::default();
        let mut state = self.state.lock();
        let State { attached, here, free, went, here_bytes, there, ids, flights, is_persistent, base, .. } =
            &mut *state;
        let Some(attached) = attached.as_mut().filter(|attached| attached.connection == connection) else {
            return taken;
        };
        attached.waker.get_or_insert_with(|| waker.clone()).clone_from(waker);
        attached.is_due = false;
        let window = attached.window;
        let mut flying = flights.len();
        let mut flights_new = 0;
        let mut claimed = None;
        while taken.deliveries.len() < messages_max {
            let may_go = |next: &&Delivery| may_fly && (flying < window || next.message.is_expired(now_ms));
            let next = here.front().filter(may_go);
            if let Some((after, _)) = free.front()
                && (next.is_none() || *after <= *went)
            {
                let Some((_, delivery)) = free.pop_front() else { break };
                *here_bytes -= delivery_bytes(&delivery).min(*here_bytes);
                match delivery.message.is_expired(now_ms) {
                    true => taken.expired.extend(delivery.share),
                    false => taken.deliveries.push((None, delivery)),
                }
                continue;
            }
            let Some(next) = next else { break };
            // What is to be settled before it is sent is of one share at a time.
            let claims = next.share.as_ref().filter(|_| next.qos == QoS::ExactlyOnce).map(|lease| lease.share);
            if claims.is_some() && claimed.is_some_and(|claimed| Some(claimed) != claims) {
                break;
            }
            claimed = claimed.or(claims);
            let Some(delivery) = here.pop_front() else { break };
            *went += 1;
            *here_bytes -= delivery_bytes(&delivery).min(*here_bytes);
            if let Some(base) = base.as_mut().filter(|_| is_kept(&delivery)) {
                base.left = base.left.saturating_sub(1);
            }
            if delivery.message.is_expired(now_ms) {
                taken.expired.extend(delivery.share);
                continue;
            }
            flying += 1;
            flights_new += 1;
            taken.must_record |= (*is_persistent || delivery.share.is_some()) && delivery.qos == QoS::ExactlyOnce;
            taken.deliveries.push((None, delivery));
        }
        self.room.notify_waiters();
        if may_fly && here.is_empty() && taken.deliveries.is_empty() && !there.is_empty() && !attached.is_loading {
            attached.is_loading = true;
            let runs = there.iter().map(|reference| run(reference, &self.places, ids));
            taken.load = runs.flat_map(Run::into_each).take(LOAD_MAX).collect();
        }
        if flights_new > 0 {
            state.changes += 1;
            for (packet_id, delivery) in taken.deliveries.iter_mut().filter(|(_, one)| one.qos > QoS::AtMostOnce) {
                let order = state.order();
                // There are fewer flights than identifiers.
                *packet_id = state.free_packet_id();
                if let Some(packet_id) = *packet_id {
                    let is_own = delivery.share.is_none();
                    let flight = Flight { order, what: Held::Here(delivery.clone()), is_released: false, is_own };
                    state.flights.insert(packet_id, flight);
                }
            }
        }
        taken
    }

    /// The first references of those that wait have become these; None: the log has it no more.
    pub fn loaded(&self, connection: ConnectionId, loaded: Vec<Option<Delivery>>) {
        let mut state = self.state.lock();
        let is_this = |attached: &&mut Attached| attached.connection == connection && attached.is_loading;
        let Some(attached) = state.attached.as_mut().filter(is_this) else { return };
        attached.is_loading = false;
        state.there.drop_front(loaded.len());
        if loaded.iter().any(Option::is_none) {
            // Gone from the middle.
            state.base = None;
        }
        self.room.notify_waiters();
        for delivery in loaded.into_iter().flatten() {
            state.here_bytes += delivery_bytes(&delivery);
            state.come(delivery);
        }
    }

    // What the client answers.

    /// PUBACK, or a PUBREC with a failure: the message is done with.
    pub fn acknowledged(&self, packet_id: PacketId, qos: QoS) -> Result<Option<ShareLease>, Unfit> {
        let mut state = self.state.lock();
        let flight = state.flights.get(&packet_id).ok_or(Unfit::Unknown)?;
        if flight.is_released || flight.what.qos() != qos {
            return Err(Unfit::Another);
        }
        state.finish(packet_id)
    }

    /// PUBREC. PUBREL follows, for a persistent session when its record is kept.
    pub fn received(&self, packet_id: PacketId) -> Result<(), Unfit> {
        let mut state = self.state.lock();
        let flight = state.flights.get_mut(&packet_id).ok_or(Unfit::Unknown)?;
        if flight.what.qos() != QoS::ExactlyOnce {
            return Err(Unfit::Another);
        }
        flight.is_released = true;
        state.changes += 1;
        Ok(())
    }

    /// PUBCOMP.
    pub fn completed(&self, packet_id: PacketId) -> Result<Option<ShareLease>, Unfit> {
        let mut state = self.state.lock();
        if !state.flights.get(&packet_id).ok_or(Unfit::Unknown)?.is_released {
            return Err(Unfit::Another);
        }
        state.finish(packet_id)
    }

    // What it sends with QoS 2.

    /// A PUBLISH of QoS 2. False: it was received before, and is not to be published again.
    pub fn begin_receive(&self, packet_id: PacketId) -> bool {
        self.state.lock().received.insert(packet_id)
    }

    /// How many of this connection wait for their PUBREL: with those that are under way they must not exceed our receive maximum,
    /// which counts anew with each connection (4.9).
    pub fn receiving(&self) -> usize {
        let state = self.state.lock();
        state.received.len() - state.received_before.len()
    }

    /// PUBREL, or a publish that was refused. False: there is no such.
    pub fn end_receive(&self, packet_id: PacketId) -> bool {
        let mut state = self.state.lock();
        state.received_before.remove(&packet_id);
        let is_received = state.received.remove(&packet_id);
        state.attempts.end(packet_id) | is_received
    }

    /// Those that were received and not released, or may have been. They have records of their own, and are no change of the session's.
    pub fn received_ids(&self) -> BTreeSet<PacketId> {
        let state = self.state.lock();
        state.received.iter().copied().chain(state.attempts.ids()).collect()
    }

    /// How a message is appended that is kept apart from its identifier.
    pub fn attempt(&self, packet_id: PacketId, partition: PartitionId) -> Attempt {
        self.state.lock().attempts.begin(packet_id, partition)
    }

    /// The log says that a message was to be appended so; whether it was is not known. The client sends it again.
    pub fn doubt(&self, packet_id: PacketId, attempt: Attempt) {
        let mut state = self.state.lock();
        state.received.remove(&packet_id);
        state.received_before.remove(&packet_id);
        state.attempts.found(packet_id, attempt);
    }

    /// Calls `with` with the attempts.
    pub(super) fn attempts<T>(&self, with: impl FnOnce(&mut Attempts) -> T) -> T {
        with(&mut self.state.lock().attempts)
    }

    // Its subscriptions, and what is kept.

    /// Returns the one that it replaces.
    pub fn subscribe(&self, filter: Text, subscribed: Subscribed) -> Option<Subscribed> {
        let mut state = self.state.lock();
        state.changes += 1;
        if let Some(base) = &mut state.base {
            base.filters.insert(filter.clone());
        }
        state.subscriptions.insert(filter, subscribed)
    }

    pub fn unsubscribe(&self, filter: &Text) -> Option<Subscribed> {
        let mut state = self.state.lock();
        state.changes += 1;
        if let Some(base) = &mut state.base {
            base.filters.insert(filter.clone());
        }
        state.subscriptions.remove(filter)
    }

    pub fn subscription(&self, filter: &Text) -> Option<Subscribed> {
        self.state.lock().subscriptions.get(filter).copied()
    }

    pub fn subscriptions(&self) -> Vec<(Text, Subscribed)> {
        self.state.lock().subscriptions.iter().map(|(filter, one)| (filter.clone(), *one)).collect()
    }

    pub fn is_persistent(&self) -> bool {
        self.state.lock().is_persistent
    }

    /// Rises with everything that a record has to tell of.
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// It has ended (expired, or was discarded): nothing is queued any more.
    pub fn end(&self) {
        let mut state = self.state.lock();
        *state = State { is_over: true, changes: state.changes + 1, ..State::default() };
        self.room.notify_waiters();
    }

    pub fn is_in_flight(&self, packet_id: PacketId) -> bool {
        self.state.lock().flights.contains_key(&packet_id)
    }

    /// Shared messages that were [taken](Session::take) are nobody else's from the next record on. False: they are not there any more.
    pub fn own(&self, packet_ids: &[PacketId]) -> bool {
        let mut state = self.state.lock();
        if !packet_ids.iter().all(|packet_id| state.flights.contains_key(packet_id)) {
            return false;
        }
        state.changes += 1;
        let flights = state.flights.iter_mut().filter(|(packet_id, _)| packet_ids.contains(packet_id));
        flights.for_each(|(_, flight)| flight.is_own = true);
        true
    }

    /// Whether a shared message in flight is nobody else's ([`Session::own`]).
    pub fn owns(&self, packet_id: PacketId) -> bool {
        self.state.lock().flights.get(&packet_id).is_some_and(|flight| flight.is_own)
    }

    /// They are others' after all, and were not sent. Returns their leases.
    pub fn disown(&self, packet_ids: &[PacketId]) -> Vec<ShareLease> {
        let mut state = self.state.lock();
        state.changes += 1;
        let mut leases = Vec::new();
        state.flights.retain(|packet_id, flight| {
            let share = Some(&flight.what).filter(|_| packet_ids.contains(packet_id)).and_then(Held::share);
            leases.extend(share.cloned());
            share.is_none()
        });
        leases
    }

    /// The shared messages that it finishes itself, however long its client is away.
    pub fn shares_in_flight(&self) -> Vec<ShareLease> {
        let state = self.state.lock();
        state
            .flights
            .values()
            .filter(|flight| flight.is_own)
            .filter_map(|flight| flight.what.share().cloned())
            .collect()
    }

    /// Whether [`Session::end`] was called.
    pub fn is_over(&self) -> bool {
        self.state.lock().is_over
    }

    /// What it comes to, for statistics. What was dropped is told once.
    pub fn tally(&self) -> Tally {
        let mut state = self.state.lock();
        let shared = Text::from_bytes(Bytes::from_static(SHARE_PREFIX.as_bytes())).unwrap_or_default();
        let shared = state.subscriptions.range(shared..).take_while(|(filter, _)| filter.starts_with(SHARE_PREFIX));
        let shared_subscriptions = shared.count() as u64;
        Tally {
            sessions: 1,
            messages: (state.here.len() + state.free.len() + state.there.len() + state.flights.len()) as u64,
            bytes: (state.here_bytes + state.there.bytes()) as u64,
            shared_subscriptions,
            dropped: std::mem::take(&mut state.dropped),
        }
    }
}

impl State {
    fn order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    /// Notes that a message was routed. False: it was before.
    fn is_routed(&mut self, place: Place) -> bool {
        let position = self.routed.entry(place.partition).or_default();
        if *position > place.offset {
            return false;
        }
        *position = place.offset + 1;
        true
    }

    /// Whether it is of QoS 0, and was published while the client was away.
    fn is_over_for(&mut self, delivery: &Delivery) -> bool {
        let Some(place) = delivery.message.place.filter(|_| delivery.qos == QoS::AtMostOnce) else { return false };
        let Some(from) = self.new_from.get(&place.partition) else { return false };
        if place.offset < *from {
            return true;
        }
        // What comes behind it is new, too.
        self.new_from.remove(&place.partition);
        false
    }

    fn reference(&mut self, places: &Places, waiting: &Waiting) -> Option<Reference> {
        let ids = self.ids.index(&waiting.subscription_ids);
        places.reference(waiting.place, waiting.qos, waiting.retain, ids)
    }

    /// Behind what waits there. False: it cannot.
    fn wait(&mut self, places: &Places, waiting: &Waiting) -> bool {
        let reference = self.reference(places, waiting);
        reference.map(|reference| self.there.push_back(reference)).is_some()
    }

    /// True: the connection should be woken.
    fn queue(&mut self, delivery: Delivery, places: &Places, limits: Limits) -> bool {
        if self.is_over {
            return false;
        }
        let is_attached = self.attached.is_some();
        let waits = self.here.len() + self.free.len();
        let fits = waits < limits.here_messages_max && self.here_bytes < limits.here_bytes_max;
        // What waits there holds up nothing of QoS 0. What is shared is bounded by whoever shares it.
        let fits = fits && (delivery.qos == QoS::AtMostOnce || self.there.is_empty());
        if is_attached && (delivery.share.is_some() || fits) {
            self.changes += u64::from(delivery.qos > QoS::AtMostOnce);
            self.here_bytes += delivery_bytes(&delivery);
            self.come(delivery);
            return self.is_to_be_woken();
        }
        let Some(place) = delivery.message.place.filter(|_| delivery.qos > QoS::AtMostOnce) else {
            self.dropped += u64::from(is_attached);
            return false;
        };
        let Delivery { qos, retain, subscription_ids, .. } = delivery;
        let waiting = Waiting { place, qos, retain, subscription_ids };
        if self.there.len() >= limits.there_messages_max || !self.wait(places, &waiting) {
            self.dropped += 1;
            return false;
        }
        self.changes += 1;
        self.is_to_be_woken()
    }

    /// Behind what is here.
    fn come(&mut self, delivery: Delivery) {
        if delivery.qos == QoS::AtMostOnce {
            self.free.push_back((self.came, delivery));
        } else {
            self.came += 1;
            self.here.push_back(delivery);
        }
    }

    /// Once, until it was woken: whoever pushes many messages wakes it once.
    fn is_to_be_woken(&mut self) -> bool {
        let Some(attached) = self.attached.as_mut().filter(|attached| attached.waker.is_some()) else { return false };
        !std::mem::replace(&mut attached.is_due, true)
    }

    /// An identifier that no flight has. None: all are in use.
    fn free_packet_id(&mut self) -> Option<PacketId> {
        for _ in 0..=u16::MAX {
            self.last_packet_id = self.last_packet_id.wrapping_add(1);
            if let Some(id) = PacketId::new(self.last_packet_id).filter(|id| !self.flights.contains_key(id)) {
                return Some(id);
            }
        }
        None
    }

    fn finish(&mut self, packet_id: PacketId) -> Result<Option<ShareLease>, Unfit> {
        let flight = self.flights.remove(&packet_id).ok_or(Unfit::Unknown)?;
        self.changes += 1;
        Ok(flight.what.share().cloned())
    }
}

/// What a message counts for while it waits here: those who wait for the same share its bytes.
fn delivery_bytes(delivery: &Delivery) -> usize {
    delivery.message.publish.payload().len() + 64
}
