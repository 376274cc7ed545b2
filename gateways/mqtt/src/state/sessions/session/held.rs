//! Where a message is that a session has: here, or in the log.

use codec_mqtt::QoS;

use crate::state::sessions::delivery::{Delivery, Place, ShareLease, SubscriptionIds};
use crate::state::sessions::places::{IdTable, Places, Reference};

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

/// Messages that lie one behind the other and are wanted alike, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub first: Waiting,
    /// At least one.
    pub count: u32,
}

impl Run {
    /// Puts it behind others, as a part of the last where it can be.
    pub fn join(self, runs: &mut Vec<Run>) {
        if let Some(last) = runs.last_mut()
            && last.first.place.partition == self.first.place.partition
            && last.first.place.offset.checked_add(last.count.into()) == Some(self.first.place.offset)
            && (last.first.qos, last.first.retain) == (self.first.qos, self.first.retain)
            && last.first.subscription_ids == self.first.subscription_ids
            && let Some(count) = last.count.checked_add(self.count)
        {
            last.count = count;
            return;
        }
        runs.push(self);
    }

    /// Without its first messages. None: nothing is left.
    pub fn without(self, first: u64) -> Option<Run> {
        let count = u32::try_from(u64::from(self.count).checked_sub(first)?).ok().filter(|count| *count > 0)?;
        let place = self.first.place;
        let place = Place { offset: place.offset.saturating_add(first), ..place };
        Some(Run { first: Waiting { place, ..self.first }, count })
    }

    /// One after the other.
    pub fn into_each(self) -> impl Iterator<Item = Waiting> {
        let Run { first, count } = self;
        (0..u64::from(count)).map(move |behind| {
            let place = Place { offset: first.place.offset.saturating_add(behind), ..first.place };
            Waiting { place, ..first.clone() }
        })
    }
}

/// What a reference of a session means.
pub(super) fn run(reference: Reference, places: &Places, ids: &IdTable) -> Run {
    let first = Waiting {
        place: places.place(reference),
        qos: reference.qos(),
        retain: reference.retain(),
        subscription_ids: ids.list(reference.ids()),
    };
    Run { first, count: u32::try_from(reference.count()).unwrap_or(u32::MAX) }
}

impl Held {
    pub fn qos(&self) -> QoS {
        match self {
            Held::Here(delivery) => delivery.qos,
            Held::There(waiting) => waiting.qos,
        }
    }

    pub(super) fn share(&self) -> Option<&ShareLease> {
        match self {
            Held::Here(delivery) => delivery.share.as_ref(),
            Held::There(_) => None,
        }
    }

    /// None: it lies nowhere.
    pub(super) fn waiting(&self) -> Option<Waiting> {
        match self {
            Held::There(waiting) => Some(waiting.clone()),
            Held::Here(delivery) => waits(delivery),
        }
    }
}

/// Where a message is. None: it lies nowhere.
pub(super) fn waits(delivery: &Delivery) -> Option<Waiting> {
    let subscription_ids = delivery.subscription_ids.clone();
    Some(Waiting { place: delivery.message.place?, qos: delivery.qos, retain: delivery.retain, subscription_ids })
}

/// Whether a message that waits is the session's to keep when its client is away.
pub(super) fn is_kept(delivery: &Delivery) -> bool {
    delivery.share.is_none() && delivery.qos > QoS::AtMostOnce && delivery.message.place.is_some()
}
