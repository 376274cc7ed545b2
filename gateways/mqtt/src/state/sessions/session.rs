//! A session (4.1): what this gateway knows of a client, whether it is connected or not.
//!
//! ```text
//! router, retained, shares ── push ──► here (messages) ──► take ──► connection ──► socket
//!                                 └──► there (references) ─ load ─┘     │
//!                                                     flights ◄─────────┘ until PUBACK or PUBCOMP
//! ```
//! Messages wait *here* while the client is connected and keeps up; behind them, and for a client that is away, only
//! references wait *there*, 16 bytes each. Nothing here does I/O or reads a clock: the connection's task takes, loads and
//! acknowledges; [`super::store`] writes [`Snapshot`]s.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use codec_mqtt::topic::SHARE_PREFIX;
use codec_mqtt::{PacketId, QoS, Text};
use core_rpc::{PartitionId, TopicId};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::delivery::{Delivery, Message, Place, ShareLease, SubscriptionIds, Wish};
use super::places::{IdTable, Places, Reference};

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
    /// References that wait. What comes when there are so many is dropped.
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
    here_bytes: usize,
    there: VecDeque<Reference>,
    ids: IdTable,
    flights: HashMap<PacketId, Flight>,
    next_order: u64,
    last_packet_id: u16,
    /// Of QoS 2 messages that were received and not released (4.3.3).
    received: BTreeSet<PacketId>,
    /// The offset behind the last message that was routed to it, of partitions that ever brought one. Only of persistent ones.
    routed: Vec<(PartitionId, u64)>,
    /// Topics of which it gets nothing before what it missed was read again.
    held: Vec<TopicId>,
    dropped: u64,
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
}

/// A message, or where it is.
#[derive(Clone, Debug)]
pub enum Held {
    Here(Delivery),
    There(Waiting),
}

/// A reference, said in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub place: Place,
    pub qos: QoS,
    pub retain: bool,
    pub subscription_ids: SubscriptionIds,
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
    /// Among the deliveries is one of QoS 2 and the session is persistent: its record must be kept before they are sent.
    pub must_record: bool,
}

/// What a client that is back is sent again first [MQTT-4.4.0-1], in order.
#[derive(Clone, Debug)]
pub enum Resend {
    Publish { packet_id: PacketId, what: Held },
    Release { packet_id: PacketId },
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

/// What is kept of a session in the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub subscriptions: Vec<(Text, Subscribed)>,
    pub received: Vec<PacketId>,
    /// In the order they were sent: identifier, message, whether PUBREC came.
    pub flights: Vec<(PacketId, Waiting, bool)>,
    pub waiting: Vec<Waiting>,
    pub last_packet_id: u16,
    /// What is before these offsets was routed: it is in here, or done.
    pub routed: Vec<(PartitionId, u64)>,
    /// Which change of the session this is: for [`Session::changes`].
    pub changes: u64,
}

/// So many references are loaded at once.
const LOAD_MAX: usize = 128;

impl Session {
    pub fn new(key: SessionKey, client_id: Text, publisher: u64, places: Arc<Places>, limits: Limits) -> Session {
        Session { key, client_id, publisher, places, limits, state: Mutex::default(), room: Notify::new() }
    }

    /// One that was kept. Nothing of the topics in `held` comes before [`Session::unhold`].
    pub fn restore(self, snapshot: Snapshot, held: Vec<TopicId>) -> Session {
        let mut state = State { is_persistent: true, held, ..State::default() };
        state.subscriptions = snapshot.subscriptions.into_iter().collect();
        state.received = snapshot.received.into_iter().collect();
        state.last_packet_id = snapshot.last_packet_id;
        state.routed = snapshot.routed;
        for (packet_id, waiting, is_released) in snapshot.flights {
            let order = state.order();
            state.flights.insert(packet_id, Flight { order, what: Held::There(waiting), is_released });
        }
        for waiting in snapshot.waiting {
            let reference = state.reference(&self.places, &waiting);
            state.there.push_back(reference);
        }
        Session { state: Mutex::new(state), ..self }
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
        state.queue(delivery, &self.places, self.limits)
    }

    /// A message of a topic that is held, as it is read again.
    pub fn push_missed(&self, message: &Arc<Message>, wishes: &[Wish]) -> bool {
        let is_own = message.publisher != 0 && message.publisher == self.publisher;
        let Some(delivery) = Delivery::merge(message, wishes, is_own) else { return false };
        let mut state = self.state.lock();
        if message.place.is_some_and(|place| !state.is_routed(place)) {
            return false;
        }
        state.queue(delivery, &self.places, self.limits)
    }

    /// What comes by another way than the router: retained messages, shared subscriptions, `$SYS`.
    pub fn push_delivery(&self, delivery: Delivery) -> bool {
        self.state.lock().queue(delivery, &self.places, self.limits)
    }

    /// A shared subscription's. None: no connection is there, and it is not this session's to keep.
    pub fn push_shared(&self, delivery: Delivery) -> Option<bool> {
        let mut state = self.state.lock();
        if state.attached.is_none() || state.is_over {
            return None;
        }
        Some(state.queue(delivery, &self.places, self.limits))
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
                let fits = state.here.len() < self.limits.here_messages_max.div_ceil(2)
                    && state.here_bytes < self.limits.here_bytes_max.div_ceil(2);
                if fits && state.there.is_empty() {
                    return true;
                }
            }
            roomier.await;
        }
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
        state.here_bytes = 0;
        for delivery in here.into_iter().rev() {
            if let Some(share) = delivery.share {
                shares.push(share);
            } else if let (Some(place), true) = (delivery.message.place, delivery.qos > QoS::AtMostOnce) {
                let waiting = Waiting {
                    place,
                    qos: delivery.qos,
                    retain: delivery.retain,
                    subscription_ids: delivery.subscription_ids,
                };
                let reference = state.reference(&self.places, &waiting);
                state.there.push_front(reference);
            }
        }
        shares.reverse();
        state.flights.retain(|_, flight| {
            let Held::Here(delivery) = &mut flight.what else { return true };
            match delivery.share.take() {
                // What may have been received is finished with this client, or with nobody [MQTT-4.8.2-4, MQTT-4.8.2-5]; of QoS 1
                // another may do better.
                Some(share) if delivery.qos < QoS::ExactlyOnce => {
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
        let mut taken = Taken::default();
        let mut state = self.state.lock();
        let State { attached, here, here_bytes, there, ids, flights, is_persistent, .. } = &mut *state;
        let Some(attached) = attached.as_mut().filter(|attached| attached.connection == connection) else {
            return taken;
        };
        attached.waker.get_or_insert_with(|| waker.clone()).clone_from(waker);
        attached.is_due = false;
        let window = attached.window;
        let mut flying = flights.len();
        let mut flights_new = 0;
        while taken.deliveries.len() < messages_max {
            let Some(next) = here.front() else { break };
            if next.qos > QoS::AtMostOnce && flying >= window && !next.message.is_expired(now_ms) {
                break;
            }
            let Some(delivery) = here.pop_front() else { break };
            *here_bytes -= delivery_bytes(&delivery).min(*here_bytes);
            if delivery.message.is_expired(now_ms) {
                taken.expired.extend(delivery.share);
                continue;
            }
            if delivery.qos > QoS::AtMostOnce {
                flying += 1;
                flights_new += 1;
                taken.must_record |= *is_persistent && delivery.qos == QoS::ExactlyOnce;
            }
            taken.deliveries.push((None, delivery));
        }
        self.room.notify_waiters();
        if here.is_empty() && taken.deliveries.is_empty() && !there.is_empty() && !attached.is_loading {
            attached.is_loading = true;
            let places = &self.places;
            let waiting = |reference: &Reference| Waiting {
                place: places.place(*reference),
                qos: reference.qos(),
                retain: reference.retain(),
                subscription_ids: ids.list(reference.ids()),
            };
            taken.load = there.iter().take(LOAD_MAX).map(waiting).collect();
        }
        if flights_new > 0 {
            state.changes += 1;
            for (packet_id, delivery) in taken.deliveries.iter_mut().filter(|(_, one)| one.qos > QoS::AtMostOnce) {
                let order = state.order();
                // There are fewer flights than identifiers.
                *packet_id = state.free_packet_id();
                if let Some(packet_id) = *packet_id {
                    let flight = Flight { order, what: Held::Here(delivery.clone()), is_released: false };
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
        let count = loaded.len().min(state.there.len());
        state.there.drain(..count);
        self.room.notify_waiters();
        for delivery in loaded.into_iter().flatten() {
            state.here_bytes += delivery_bytes(&delivery);
            state.here.push_back(delivery);
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

    /// How many wait for their PUBREL: with those that are under way they must not exceed our receive maximum.
    pub fn receiving(&self) -> usize {
        self.state.lock().received.len()
    }

    /// PUBREL, or a publish that was refused. False: there is no such.
    pub fn end_receive(&self, packet_id: PacketId) -> bool {
        self.state.lock().received.remove(&packet_id)
    }

    /// Those that were received and not released. They have records of their own, and are no change of the session's.
    pub fn received_ids(&self) -> BTreeSet<PacketId> {
        self.state.lock().received.clone()
    }

    // Its subscriptions, and what is kept.

    /// Returns the one that it replaces.
    pub fn subscribe(&self, filter: Text, subscribed: Subscribed) -> Option<Subscribed> {
        let mut state = self.state.lock();
        state.changes += 1;
        state.subscriptions.insert(filter, subscribed)
    }

    pub fn unsubscribe(&self, filter: &Text) -> Option<Subscribed> {
        let mut state = self.state.lock();
        state.changes += 1;
        state.subscriptions.remove(filter)
    }

    pub fn subscriptions(&self) -> Vec<(Text, Subscribed)> {
        self.state.lock().subscriptions.iter().map(|(filter, one)| (filter.clone(), *one)).collect()
    }

    pub fn is_persistent(&self) -> bool {
        self.state.lock().is_persistent
    }

    /// DISCONNECT may change whether it survives.
    pub fn set_persistent(&self, is_persistent: bool) {
        self.state.lock().is_persistent = is_persistent;
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

    /// The shared messages that it finishes itself, however long its client is away.
    pub fn shares_in_flight(&self) -> Vec<ShareLease> {
        let state = self.state.lock();
        let share = |flight: &Flight| match &flight.what {
            Held::Here(delivery) => delivery.share.clone(),
            Held::There(_) => None,
        };
        state.flights.values().filter_map(share).collect()
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
            messages: (state.here.len() + state.there.len() + state.flights.len()) as u64,
            bytes: (state.here_bytes + state.there.len() * size_of::<Reference>()) as u64,
            shared_subscriptions,
            dropped: std::mem::take(&mut state.dropped),
        }
    }

    /// What to keep of it. `routed`: how far the router is in the partitions that its filters can match, read before this call.
    /// Shared messages are the share's, not the session's, but for QoS 2 in flight.
    pub fn snapshot(&self, routed: &[(PartitionId, u64)]) -> Snapshot {
        let state = self.state.lock();
        let mut positions: BTreeMap<PartitionId, u64> = state.routed.iter().copied().collect();
        for &(partition, offset) in routed.iter().filter(|(partition, _)| !state.held.contains(&partition.topic)) {
            let position = positions.entry(partition).or_default();
            *position = offset.max(*position);
        }
        let mut flights: Vec<_> = state.flights.iter().collect();
        flights.sort_by_key(|(_, flight)| flight.order);
        let flights = flights
            .into_iter()
            .filter_map(|(packet_id, flight)| Some((*packet_id, flight.what.waiting()?, flight.is_released)));
        let here = state.here.iter().filter(|delivery| delivery.share.is_none() && delivery.qos > QoS::AtMostOnce);
        let here = here.filter_map(|delivery| Held::Here(delivery.clone()).waiting());
        let there = state.there.iter().map(|reference| Waiting {
            place: self.places.place(*reference),
            qos: reference.qos(),
            retain: reference.retain(),
            subscription_ids: state.ids.list(reference.ids()),
        });
        Snapshot {
            subscriptions: state.subscriptions.iter().map(|(filter, one)| (filter.clone(), *one)).collect(),
            received: state.received.iter().copied().collect(),
            flights: flights.collect(),
            waiting: here.chain(there).collect(),
            last_packet_id: state.last_packet_id,
            routed: positions.into_iter().collect(),
            changes: state.changes,
        }
    }
}

impl Held {
    pub fn qos(&self) -> QoS {
        match self {
            Held::Here(delivery) => delivery.qos,
            Held::There(waiting) => waiting.qos,
        }
    }

    /// None: it lies nowhere.
    fn waiting(&self) -> Option<Waiting> {
        match self {
            Held::There(waiting) => Some(waiting.clone()),
            Held::Here(delivery) => Some(Waiting {
                place: delivery.message.place?,
                qos: delivery.qos,
                retain: delivery.retain,
                subscription_ids: delivery.subscription_ids.clone(),
            }),
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
        let next = place.offset + 1;
        match self.routed.iter_mut().find(|(partition, _)| *partition == place.partition) {
            Some((_, position)) if *position > place.offset => return false,
            Some((_, position)) => *position = next,
            None => self.routed.push((place.partition, next)),
        }
        true
    }

    fn reference(&mut self, places: &Places, waiting: &Waiting) -> Reference {
        let ids = self.ids.index(&waiting.subscription_ids);
        places.reference(waiting.place, waiting.qos, waiting.retain, ids)
    }

    /// True: the connection should be woken.
    fn queue(&mut self, delivery: Delivery, places: &Places, limits: Limits) -> bool {
        if self.is_over {
            return false;
        }
        let is_attached = self.attached.is_some();
        let fits = self.here.len() < limits.here_messages_max && self.here_bytes < limits.here_bytes_max;
        // What is shared is bounded by whoever shares it.
        if is_attached && (delivery.share.is_some() || fits && self.there.is_empty()) {
            self.changes += u64::from(delivery.qos > QoS::AtMostOnce);
            self.here_bytes += delivery_bytes(&delivery);
            self.here.push_back(delivery);
            return self.is_to_be_woken();
        }
        let Some(place) = delivery.message.place.filter(|_| delivery.qos > QoS::AtMostOnce) else {
            self.dropped += u64::from(is_attached);
            return false;
        };
        if self.there.len() >= limits.there_messages_max {
            self.dropped += 1;
            return false;
        }
        let Delivery { qos, retain, subscription_ids, .. } = delivery;
        let reference = self.reference(places, &Waiting { place, qos, retain, subscription_ids });
        self.changes += 1;
        self.there.push_back(reference);
        self.is_to_be_woken()
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
        Ok(match flight.what {
            Held::Here(delivery) => delivery.share,
            Held::There(_) => None,
        })
    }
}

/// What a message counts for while it waits here: those who wait for the same share its bytes.
fn delivery_bytes(delivery: &Delivery) -> usize {
    delivery.message.publish.payload().len() + 64
}
