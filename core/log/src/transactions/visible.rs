//! What the readers of a partition must know of transactions.

use std::collections::{BTreeMap, VecDeque};

use core_rpc::AbortedTransaction;

/// The published open transactions of a partition, and the aborted ones that can still be read.
#[derive(Debug, Default)]
pub struct Visible {
    /// By the offset of its first batch: the bytes that had been published before it.
    open: BTreeMap<u64, u64>,
    /// By the offset of its marker.
    aborted: VecDeque<Aborted>,
}

#[derive(Clone, Copy, Debug)]
struct Aborted {
    transaction: AbortedTransaction,
    /// The least first offset of this and all later ones: where a search can stop.
    first_of_rest: u64,
}

impl Visible {
    /// A batch of the transaction that begins at `first_offset` is being published, after so many bytes.
    pub fn opened(&mut self, first_offset: u64, bytes_before: u64) {
        self.open.entry(first_offset).or_insert(bytes_before);
    }

    /// The transaction that begins here is ended.
    pub fn closed(&mut self, first_offset: u64) {
        self.open.remove(&first_offset);
    }

    /// Remembers an aborted transaction; its marker lies behind those of all before.
    pub fn aborted(&mut self, transaction: AbortedTransaction) {
        let first = transaction.first_offset;
        for earlier in self.aborted.iter_mut().rev().take_while(|earlier| earlier.first_of_rest > first) {
            earlier.first_of_rest = first;
        }
        self.aborted.push_back(Aborted { transaction, first_of_rest: first });
    }

    /// Where the earliest open transaction begins, and the bytes published before it.
    pub fn first_open(&self) -> Option<(u64, u64)> {
        self.open.first_key_value().map(|(offset, bytes)| (*offset, *bytes))
    }

    /// The aborted transactions that overlap the offsets from `from` to before `until`, by their first offset.
    pub fn aborted_between(&self, from: u64, until: u64) -> Vec<AbortedTransaction> {
        let at = self.aborted.partition_point(|aborted| aborted.transaction.last_offset < from);
        let reachable = self.aborted.range(at..).take_while(|aborted| aborted.first_of_rest < until);
        let mut found: Vec<_> = reachable.map(|aborted| aborted.transaction).collect();
        found.retain(|transaction| transaction.first_offset < until);
        found.sort_unstable_by_key(|transaction| transaction.first_offset);
        found
    }

    /// Forgets aborted transactions whose marker lies before the partition's start.
    pub fn advance_start(&mut self, start: u64) {
        while self.aborted.front().is_some_and(|aborted| aborted.transaction.last_offset < start) {
            self.aborted.pop_front();
        }
    }

    /// Forgets some aborted transactions.
    pub fn forget(&mut self, is_gone: impl Fn(&AbortedTransaction) -> bool) {
        let mut kept = self.all_aborted();
        kept.retain(|aborted| !is_gone(aborted));
        self.aborted.clear();
        kept.into_iter().for_each(|aborted| self.aborted(aborted));
    }

    /// For a snapshot: the aborted transactions, in order.
    pub fn all_aborted(&self) -> Vec<AbortedTransaction> {
        self.aborted.iter().map(|aborted| aborted.transaction).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_earliest_open_transaction_is_first() {
        let mut visible = Visible::default();
        assert_eq!(visible.first_open(), None);
        visible.opened(10, 100);
        visible.opened(20, 200);
        visible.opened(10, 300);
        assert_eq!(visible.first_open(), Some((10, 100)));
        visible.closed(10);
        assert_eq!(visible.first_open(), Some((20, 200)));
        visible.closed(20);
        assert_eq!(visible.first_open(), None);
    }

    proptest! {
        #[test]
        fn searches_find_what_a_scan_finds(
            lengths in proptest::collection::vec((1u64..5, 0u64..60), 0..50), start in 0u64..100, from in 0u64..200, length in 0u64..50,
        ) {
            let mut visible = Visible::default();
            let mut last_offset = 0;
            let mut all = Vec::new();
            for (producer_id, (step, reach)) in lengths.into_iter().enumerate() {
                last_offset += step;
                let first_offset = last_offset.saturating_sub(reach + 1);
                all.push(AbortedTransaction { producer_id: producer_id as i64, first_offset, last_offset });
                visible.aborted(all[producer_id]);
            }
            visible.advance_start(start);
            visible.forget(|one| one.producer_id % 3 == 1);
            let until = from + length;
            let mut expected: Vec<_> = all.into_iter()
                .filter(|one| one.producer_id % 3 != 1)
                .filter(|one| one.last_offset >= start && one.last_offset >= from && one.first_offset < until).collect();
            let mut found = visible.aborted_between(from, until);
            prop_assert!(found.is_sorted_by_key(|one| one.first_offset));
            let key = |one: &AbortedTransaction| (one.first_offset, one.producer_id);
            expected.sort_unstable_by_key(key);
            found.sort_unstable_by_key(key);
            prop_assert_eq!(found, expected);
        }
    }
}
