//! What the log keeps of a session, and a session from it.

use std::collections::BTreeSet;

use codec_mqtt::{PacketId, Text};
use core_rpc::{PartitionId, TopicId};
use parking_lot::Mutex;

use super::held::run;
use super::{Flight, Held, Run, Session, State, Subscribed, Waiting, is_kept, waits};

/// What is kept of a session in the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub subscriptions: Vec<(Text, Subscribed)>,
    pub received: Vec<PacketId>,
    /// In the order they were sent: identifier, message, whether PUBREC came.
    pub flights: Vec<(PacketId, Waiting, bool)>,
    pub waiting: Vec<Run>,
    pub last_packet_id: u16,
    /// What is before these offsets was routed: it is in here, or done.
    pub routed: Vec<(PartitionId, u64)>,
    /// Which change of the session this is: for [`Session::changes`].
    pub changes: u64,
    /// Tells it from others of this object: what [`Changed`] is the change of.
    pub number: u32,
}

/// What has changed since a snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changed {
    /// So many of those that waited are gone from the front.
    pub taken: u64,
    pub unsubscribed: Vec<Text>,
    /// With the number of the one before: what is in flight and how far it was routed as it is now; of subscriptions and of what
    /// waits only what came.
    pub snapshot: Snapshot,
}

/// The last snapshot.
#[derive(Debug)]
pub(super) struct Base {
    number: u32,
    /// Messages that waited, and those of them that still do: they are the first.
    waiting: usize,
    pub left: usize,
    /// Filters whose subscriptions have changed.
    pub filters: BTreeSet<Text>,
}

impl Session {
    /// One that was kept. Nothing of the topics in `held` comes before [`Session::unhold`].
    pub fn restore(self, snapshot: Snapshot, held: Vec<TopicId>) -> Session {
        let mut state = State { is_persistent: true, held, ..State::default() };
        state.subscriptions = snapshot.subscriptions.into_iter().collect();
        state.received = snapshot.received.into_iter().collect();
        state.last_packet_id = snapshot.last_packet_id;
        state.routed = snapshot.routed.into_iter().collect();
        for (packet_id, waiting, is_released) in snapshot.flights {
            let order = state.order();
            state.flights.insert(packet_id, Flight { order, what: Held::There(waiting), is_released, is_own: true });
        }
        for run in &snapshot.waiting {
            let reference = state.reference(&self.places, &run.first);
            let all = reference.into_iter().flat_map(|first| first.repeated(run.count.into()));
            all.for_each(|reference| state.there.push_back(reference));
        }
        Session { state: Mutex::new(state), ..self }
    }

    /// What to keep of it. `routed`: how far the router is in the partitions that its filters can match, read before this call.
    /// Shared messages are the share's, not the session's, but for those of QoS 2 in flight that are its [own](Session::own).
    pub fn snapshot(&self, routed: &[(PartitionId, u64)]) -> Snapshot {
        let mut state = self.state.lock();
        let waiting = state.waiting();
        state.bases = state.bases.wrapping_add(1).max(1);
        let number = state.bases;
        state.base = Some(Base { number, waiting, left: waiting, filters: BTreeSet::new() });
        Snapshot {
            subscriptions: state.subscriptions.iter().map(|(filter, one)| (filter.clone(), *one)).collect(),
            number,
            ..self.tell(&state, routed, waiting)
        }
    }

    /// What to keep of it, if its last snapshot is kept. None: that is not, or says too little.
    pub fn changed(&self, routed: &[(PartitionId, u64)]) -> Option<Changed> {
        let state = self.state.lock();
        let base = state.base.as_ref()?;
        let subscription = |filter: &Text| Some((filter.clone(), *state.subscriptions.get(filter)?));
        let unsubscribed = base.filters.iter().filter(|filter| !state.subscriptions.contains_key(*filter));
        let snapshot = Snapshot {
            subscriptions: base.filters.iter().filter_map(subscription).collect(),
            number: base.number,
            ..self.tell(&state, routed, state.waiting().saturating_sub(base.left))
        };
        let taken = (base.waiting - base.left) as u64;
        Some(Changed { taken, unsubscribed: unsubscribed.cloned().collect(), snapshot })
    }

    /// The last snapshot was not kept.
    pub fn forget_snapshot(&self) {
        self.state.lock().base = None;
    }

    /// Everything but the subscriptions, of what waits the last so many messages.
    fn tell(&self, state: &State, routed: &[(PartitionId, u64)], last: usize) -> Snapshot {
        let mut positions = state.routed.clone();
        for &(partition, offset) in routed.iter().filter(|(partition, _)| !state.held.contains(&partition.topic)) {
            let position = positions.entry(partition).or_default();
            *position = offset.max(*position);
        }
        let mut flights: Vec<_> = state.flights.iter().filter(|(_, flight)| flight.is_own).collect();
        flights.sort_by_key(|(_, flight)| flight.order);
        let flights = flights
            .into_iter()
            .filter_map(|(packet_id, flight)| Some((*packet_id, flight.what.waiting()?, flight.is_released)));
        let of_here = last.saturating_sub(state.there.len());
        let here = state.here.iter().rev().filter(|delivery| is_kept(delivery)).take(of_here);
        let here: Vec<Waiting> = here.filter_map(waits).collect();
        let here = here.into_iter().rev().map(|first| Run { first, count: 1 });
        let there = state.there.last(last).map(|reference| run(reference, &self.places, &state.ids));
        let mut waiting = Vec::new();
        here.chain(there).for_each(|run| run.join(&mut waiting));
        Snapshot {
            subscriptions: Vec::new(),
            received: state.received.iter().copied().collect(),
            flights: flights.collect(),
            waiting,
            last_packet_id: state.last_packet_id,
            routed: positions.into_iter().collect(),
            changes: state.changes,
            number: 0,
        }
    }
}

impl State {
    /// How many messages wait that a record tells of.
    fn waiting(&self) -> usize {
        self.here.iter().filter(|delivery| is_kept(delivery)).count() + self.there.len()
    }
}
