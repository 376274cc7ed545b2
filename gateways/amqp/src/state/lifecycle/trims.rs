//! What is given back to a queue that may have no more than so many: what would be too many goes before anybody gets it, as in
//! RabbitMQ, where a requeue drops the head and then looks for consumers.
//!
//! ```text
//! returned ─► with what is ready: too many? ─► the oldest go: those that are ready, and those that are about to come back
//!                                                            └─► the rest is given back
//! ```
//! Without a turn at the queue: what comes in meanwhile is dropped behind it ([`Lifecycle::relieved`]).

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use core_rpc::{Core, PartitionId, SettleRange, Settlement};

use super::{Lifecycle, Reason, Shared};
use crate::state::topology::Queue;

/// What is settled in one partition.
pub type Ranges = (PartitionId, Vec<SettleRange>);

/// Whoever knows how much of what is given back may come back.
pub trait Trims: Send + Sync {
    /// `ranges` are about to be settled by `holder`; returned is what is to be settled instead.
    fn trim<'a>(
        &'a self,
        queue: &'a Arc<Queue>,
        holder: &'a str,
        ranges: Vec<Ranges>,
    ) -> Pin<Box<dyn Future<Output = Vec<Ranges>> + Send + 'a>>;
}

fn is_given_back(range: &SettleRange) -> bool {
    matches!(range.settlement, Settlement::Release | Settlement::Fail)
}

/// Of a room that lives no longer for it: the queues of a gateway know each other already.
pub(super) struct Trimmer<C>(pub(super) Weak<Shared<C>>);

impl<C: Core> Trims for Trimmer<C> {
    fn trim<'a>(
        &'a self,
        queue: &'a Arc<Queue>,
        holder: &'a str,
        ranges: Vec<Ranges>,
    ) -> Pin<Box<dyn Future<Output = Vec<Ranges>> + Send + 'a>> {
        Box::pin(async move {
            match self.0.upgrade() {
                Some(shared) => Lifecycle { shared }.trim(queue, holder, ranges).await,
                None => ranges,
            }
        })
    }
}

impl<C: Core> Lifecycle<C> {
    async fn trim(&self, queue: &Arc<Queue>, holder: &str, ranges: Vec<Ranges>) -> Vec<Ranges> {
        let back = |(partition, ranges): &Ranges| {
            let back = ranges.iter().filter(|range| is_given_back(range));
            (*partition, back.map(|range| (range.first, range.last + 1)).collect())
        };
        let back: Vec<(PartitionId, Vec<(u64, u64)>)> = ranges.iter().map(back).collect();
        let Some(excess) = self.excess_with(queue, &back).await else { return ranges };
        let ready = excess.iter().filter(|spot| !spot.is_returned).count() as u64;
        if ready > 0 {
            self.drop_ready(queue, ready).await;
        }
        let mut dropped: HashMap<PartitionId, Vec<u64>> = HashMap::new();
        for spot in excess.iter().filter(|spot| spot.is_returned) {
            dropped.entry(spot.partition).or_default().push(spot.offset);
        }
        if dropped.is_empty() {
            return ranges;
        }
        dropped.values_mut().for_each(|offsets| offsets.sort_unstable());
        // With a way for dead letters they are settled with their letters; without, with the others.
        let without_way = queue.config().dead_letter_exchange.is_none();
        let left = ranges.into_iter().map(|(partition, ranges)| {
            let gone = dropped.get(&partition).map_or(&[][..], Vec::as_slice);
            (partition, ranges.into_iter().flat_map(|range| split(range, gone, without_way)).collect())
        });
        let left: Vec<Ranges> = left.collect();
        if !without_way {
            self.dead_letter(queue, holder, dropped.into_iter().collect(), Reason::MaxLength).await;
        }
        left
    }
}

/// A range without those of it that are gone; `keep`: they are rejected.
fn split(range: SettleRange, gone: &[u64], keep: bool) -> Vec<SettleRange> {
    if !is_given_back(&range) {
        return vec![range];
    }
    let mut parts = Vec::new();
    let mut first = range.first;
    for offset in gone.iter().copied().filter(|offset| (range.first..=range.last).contains(offset)) {
        if first < offset {
            parts.push(SettleRange { first, last: offset - 1, ..range });
        }
        if keep {
            parts.push(SettleRange::new(offset, offset, Settlement::Reject));
        }
        first = offset + 1;
    }
    if first <= range.last {
        parts.push(SettleRange { first, ..range });
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_cut_out() {
        let shown = |range: SettleRange, gone: &[u64], keep| -> Vec<(u64, u64, Settlement)> {
            split(range, gone, keep).iter().map(|range| (range.first, range.last, range.settlement)).collect()
        };
        let back = SettleRange::new(3, 9, Settlement::Fail);
        assert_eq!(shown(back, &[1, 12], true), [(3, 9, Settlement::Fail)]);
        assert_eq!(shown(back, &[3, 5, 9], false), [(4, 4, Settlement::Fail), (6, 8, Settlement::Fail)]);
        let with = [(3, 3, Settlement::Reject), (4, 9, Settlement::Fail)];
        assert_eq!(shown(back, &[3], true), with);
        let done = SettleRange::new(3, 9, Settlement::Accept);
        assert_eq!(shown(done, &[4], true), [(3, 9, Settlement::Accept)]);
    }
}
