//! A message of QoS 2 becomes its member's before it is sent: from then on nobody else may get it [MQTT-4.8.2-5], and the member gets it
//! again when it is back [MQTT-4.8.2-4], whatever dies meanwhile.
//!
//! So it is settled in the commit that records the member's session, which says under which identifier it is sent
//! ([`sessions::store`](crate::state::sessions::store)). Where the topic is one that other protocols' clients made, and does not lie
//! with the sessions, the record goes first: if the gateway dies between the two, another member may get the message too.

use std::collections::BTreeMap;
use std::sync::Arc;

use core_rpc::{GroupName, PartitionId, SettleRange, Settlement};
use gateway_runtime::Marks;

use super::Shares;
use super::settler::holder;
use super::share::Share;
use crate::state::sessions::ShareLease;

/// Messages of one share that are about to be their member's own.
#[derive(Clone, Debug)]
pub struct Claim {
    share: Arc<Share>,
    leases: Vec<ShareLease>,
    /// Under which name they are held.
    pub holder: String,
}

impl Shares {
    /// None: they are not held any more, or not of one share.
    pub fn claim(&self, leases: Vec<ShareLease>) -> Option<Claim> {
        let of = leases.first()?.share;
        let share = self.by_id.read().get(&of).cloned()?;
        let session = share.holds(&leases).filter(|_| leases.iter().all(|lease| lease.share == of))?;
        Some(Claim { share, leases, holder: holder(&self.holder_prefix, session) })
    }
}

impl Claim {
    pub fn group(&self) -> &GroupName {
        &self.share.group
    }

    /// Whether both can be settled at once.
    pub fn is_with(&self, other: &Claim) -> bool {
        Arc::ptr_eq(&self.share, &other.share) && self.holder == other.holder
    }

    /// It is done.
    pub fn kept(&self) {
        self.share.keep(&self.leases);
    }
}

/// What is to be settled of claims.
pub fn settles<'a>(claims: impl IntoIterator<Item = &'a Claim>) -> Vec<(PartitionId, Vec<SettleRange>)> {
    let mut offsets: BTreeMap<PartitionId, Vec<u64>> = BTreeMap::new();
    for lease in claims.into_iter().flat_map(|claim| &claim.leases) {
        offsets.entry(lease.place.partition).or_default().push(lease.place.offset);
    }
    let ranges = |(partition, mut offsets): (PartitionId, Vec<u64>)| {
        offsets.sort_unstable();
        let mut marks = Marks::default();
        offsets.into_iter().for_each(|offset| marks.push(offset, Settlement::Accept));
        (partition, marks.take())
    };
    offsets.into_iter().map(ranges).collect()
}
