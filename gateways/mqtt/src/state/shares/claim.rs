//! A message of QoS 2 becomes its member's before it is sent: from then on nobody else may get it [MQTT-4.8.2-5], and the member gets it
//! again when it is back [MQTT-4.8.2-4], whatever dies meanwhile.
//!
//! So it is settled in the commit that records the member's session, which says under which identifier it is sent
//! ([`sessions::store`](crate::state::sessions::store)). Where the topic is one that other protocols' clients made, and does not lie
//! with the sessions, the record goes first, and what was not settled behind it is taken back ([`is_settled`]). Two members may get a
//! message only if the gateway dies between the two, or if the core does and another member is done with the message before the
//! gateway has asked.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use core_rpc::{GroupName, LeaseView, PartitionId, RangeState, SettleRange, Settlement};
use gateway_runtime::Marks;

use super::Shares;
use super::settler::holder;
use super::share::Share;
use crate::state::sessions::{Place, ShareLease};

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

    /// It is done, but for these.
    pub fn kept(&self, others: &HashSet<Place>) {
        let own = self.leases.iter().filter(|lease| !others.contains(&lease.place));
        self.share.keep(&own.cloned().collect::<Vec<_>>());
    }

    /// Where the messages lie, in the order in which they were claimed.
    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.leases.iter().map(|lease| lease.place)
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

/// Whether all of a range is settled, as far as the view goes. What it does not show counts as settled.
pub fn is_settled(view: &LeaseView, range: &SettleRange) -> bool {
    let open = |first: u64, last: u64| first <= range.last && range.first <= last;
    let is_new = range.last >= view.next;
    !is_new && !view.ranges.iter().any(|shown| shown.state != RangeState::Settled && open(shown.first, shown.last))
}

#[cfg(test)]
mod tests {
    use core_rpc::RangeView;

    use super::*;

    #[test]
    fn what_is_settled_is_so_in_whole() {
        let shown = |first, last, state| RangeView { first, last, state, acquisitions: 1, failures: 0 };
        let leased = RangeState::Leased { holder: "somebody".into() };
        let ranges =
            vec![shown(10, 12, leased), shown(13, 15, RangeState::Settled), shown(16, 17, RangeState::Available)];
        let view = LeaseView { floor: 10, next: 18, ranges, ..LeaseView::default() };
        let is_settled = |first, last| is_settled(&view, &SettleRange::new(first, last, Settlement::Accept));
        assert!(is_settled(3, 9) && is_settled(13, 15) && is_settled(14, 14));
        assert!(!is_settled(9, 10) && !is_settled(12, 13) && !is_settled(15, 16) && !is_settled(17, 17));
        assert!(!is_settled(18, 18) && !is_settled(13, 18));
    }
}
