//! How many bytes wait in a queue that is limited by them: the body size of each message from the floor on, by offset. Pure.
//!
//! The core knows how many messages are ready, not how large their bodies are; so for a queue with `x-max-length-bytes` the gateway
//! keeps their sizes, 8 bytes each, as running totals.

use std::collections::VecDeque;

/// Sizes of the messages from `first` on.
#[derive(Clone, Debug, Default)]
pub struct Sizes {
    first: u64,
    /// The running total before each message, and one behind the last.
    totals: VecDeque<u64>,
}

impl Sizes {
    /// Nothing known, beginning at this offset.
    pub fn new(first: u64) -> Self {
        Sizes { first, totals: VecDeque::from([0]) }
    }

    /// The first offset whose size is not known.
    pub fn next(&self) -> u64 {
        self.first + self.totals.len().saturating_sub(1) as u64
    }

    /// Notes the size of the message at [`Sizes::next`].
    pub fn push(&mut self, body_bytes: u64) {
        let total = self.totals.back().copied().unwrap_or(0);
        self.totals.push_back(total + body_bytes);
    }

    /// Forgets what lies before the floor.
    pub fn forget_before(&mut self, floor: u64) {
        if floor >= self.next() {
            *self = Sizes::new(floor);
            return;
        }
        while self.first < floor {
            self.totals.pop_front();
            self.first += 1;
        }
    }

    /// Bytes of the messages from `first` to before `end`, as far as they are known.
    pub fn bytes(&self, first: u64, end: u64) -> u64 {
        let total = |offset: u64| {
            let at = offset.clamp(self.first, self.next()) - self.first;
            self.totals.get(at as usize).copied().unwrap_or(0)
        };
        total(end.max(first)) - total(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_add_up() {
        let mut sizes = Sizes::new(10);
        for bytes in [1, 20, 300, 4000] {
            sizes.push(bytes);
        }
        assert_eq!(sizes.next(), 14);
        assert_eq!(sizes.bytes(10, 14), 4321);
        assert_eq!(sizes.bytes(11, 13), 320);
        assert_eq!(sizes.bytes(0, 11), 1);
        assert_eq!(sizes.bytes(13, 99), 4000);
        assert_eq!(sizes.bytes(12, 12), 0);
        sizes.forget_before(12);
        assert_eq!((sizes.bytes(0, 99), sizes.next()), (4300, 14));
        sizes.push(5);
        assert_eq!(sizes.bytes(13, 15), 4005);
        sizes.forget_before(99);
        assert_eq!((sizes.bytes(0, 200), sizes.next()), (0, 99));
    }
}
