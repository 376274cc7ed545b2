//! Offsets gathered into ranges, to be settled together. Pure.

use core_rpc::{SettleRange, Settlement};

/// What is to be settled in one partition, in order.
#[derive(Debug, Default)]
pub struct Marks {
    ranges: Vec<SettleRange>,
}

impl Marks {
    /// Adds one offset. Those that come rising, as they mostly do, become one range.
    pub fn push(&mut self, offset: u64, settlement: Settlement) {
        self.push_range(offset, offset, settlement);
    }

    /// `last` is inclusive.
    pub fn push_range(&mut self, first: u64, last: u64, settlement: Settlement) {
        match self.ranges.last_mut() {
            Some(range) if range.settlement == settlement && range.last + 1 == first => range.last = last,
            Some(range) if range.settlement == settlement && last + 1 == range.first => range.first = first,
            _ => self.ranges.push(SettleRange::new(first, last, settlement)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    pub fn take(&mut self) -> Vec<SettleRange> {
        std::mem::take(&mut self.ranges)
    }

    pub fn append(&mut self, ranges: Vec<SettleRange>) {
        if self.ranges.is_empty() {
            self.ranges = ranges;
            return;
        }
        ranges.into_iter().for_each(|range| self.push_range(range.first, range.last, range.settlement));
    }
}
