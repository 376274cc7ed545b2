//! What goes to a subscriber: a message that many share, and how this one wants it.

use std::sync::Arc;

use codec_mqtt::{QoS, SharedPublish, SubscriptionId};
use core_rpc::PartitionId;

/// Where a message lies in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub partition: PartitionId,
    pub offset: u64,
}

/// One message, as it was published, shared by all who get it.
#[derive(Debug)]
pub struct Message {
    /// None: it lies nowhere (`$SYS`), and is only for who is there now.
    pub place: Option<Place>,
    pub qos: QoS,
    pub retain: bool,
    /// Who published it, for subscriptions that do not want their own (see [`crate::translate::publisher`]). 0: nobody.
    pub publisher: u64,
    /// From then on nobody may get it, ms since the Unix epoch.
    pub expires_ms: Option<i64>,
    pub publish: SharedPublish,
}

impl Message {
    /// What is left until it expires, in seconds, rounded up: None, if it does not; `Some(0)`, if it has.
    pub fn expires_in_s(&self, now_ms: i64) -> Option<u32> {
        let left_ms = self.expires_ms?.saturating_sub(now_ms).max(0);
        Some(u32::try_from((left_ms + 999) / 1000).unwrap_or(u32::MAX))
    }

    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms)
    }
}

/// How a subscription wants what matches it (3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub subscription_id: Option<SubscriptionId>,
}

/// The identifiers of the subscriptions that a message matched. Most have none or one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum SubscriptionIds {
    #[default]
    None,
    One(SubscriptionId),
    Many(Arc<[SubscriptionId]>),
}

impl SubscriptionIds {
    pub fn as_slice(&self) -> &[SubscriptionId] {
        match self {
            SubscriptionIds::None => &[],
            SubscriptionIds::One(id) => std::slice::from_ref(id),
            SubscriptionIds::Many(ids) => ids,
        }
    }

    fn with(self, id: SubscriptionId) -> SubscriptionIds {
        match self {
            SubscriptionIds::None => SubscriptionIds::One(id),
            more => SubscriptionIds::Many(more.as_slice().iter().copied().chain([id]).collect()),
        }
    }
}

/// A message for one session.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub message: Arc<Message>,
    /// The lower of what was published and what was subscribed to.
    pub qos: QoS,
    /// As the subscriber gets it.
    pub retain: bool,
    pub subscription_ids: SubscriptionIds,
    /// What is settled when the subscriber has it, if it is a shared subscription's.
    pub share: Option<ShareLease>,
}

/// A message that a member of a shared subscription holds (see [`crate::state::shares`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareLease {
    /// Which of this gateway's shares.
    pub share: u64,
    pub place: Place,
    /// Which of the share's acquisitions of that place: a late word about an earlier one settles nothing.
    pub turn: u64,
}

impl Delivery {
    /// Of a message that was just published, for a session whose subscriptions want it so. The session gets it once, as well
    /// as the best of them wants it, and with all their identifiers (3.3.4). None: none of them wants it.
    pub fn merge(message: &Arc<Message>, wishes: &[Wish], is_own: bool) -> Option<Delivery> {
        let mut merged: Option<Delivery> = None;
        for wish in wishes.iter().filter(|wish| !(is_own && wish.no_local)) {
            let delivery = merged.get_or_insert_with(|| Delivery {
                message: message.clone(),
                qos: QoS::AtMostOnce,
                retain: false,
                subscription_ids: SubscriptionIds::None,
                share: None,
            });
            delivery.qos = delivery.qos.max(wish.qos.min(message.qos));
            delivery.retain |= wish.retain_as_published && message.retain;
            if let Some(id) = wish.subscription_id {
                delivery.subscription_ids = std::mem::take(&mut delivery.subscription_ids).with(id);
            }
        }
        merged
    }
}
