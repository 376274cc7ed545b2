//! Prefetch windows: how many messages may be at a client at once.
//!
//! A consumer has a window of its own (`basic.qos` with `global` false, as it was when the consumer began), and shares
//! that of its channel (`global` true, which may change at any time). The queue's dispatcher takes places, in its task;
//! the connection gives them back, in its own: a window is two counters, and nobody waits for a lock.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A limit of 0 is none.
#[derive(Debug, Default)]
pub struct Window {
    limit: AtomicU32,
    used: AtomicU32,
    /// Somebody found no place, and is to be woken when there is one.
    wanted: AtomicBool,
}

impl Window {
    pub fn new(limit: u32) -> Window {
        Window { limit: AtomicU32::new(limit), ..Window::default() }
    }

    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// Changes the limit. More may be used than a smaller one allows: then there is no place until enough came back.
    /// Returns whether whoever waits for a place is to be woken.
    #[must_use]
    pub fn set_limit(&self, limit: u32) -> bool {
        self.limit.store(limit, Ordering::SeqCst);
        self.wake()
    }

    /// How many places there are now. `u32::MAX`: as many as one likes. Finding none is remembered: the next that gives
    /// one back is told to wake.
    pub fn free(&self) -> u32 {
        let free = self.places();
        if free > 0 {
            return free;
        }
        self.wanted.store(true, Ordering::SeqCst);
        // One may have come back before that was to be seen.
        self.places()
    }

    /// Whether there is no place now.
    pub fn is_full(&self) -> bool {
        self.places() == 0
    }

    /// Takes a place, if there is one.
    pub fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::SeqCst);
        if limit == 0 {
            self.used.fetch_add(1, Ordering::SeqCst);
            return true;
        }
        let take = |used| (used < limit).then_some(used + 1);
        self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }

    /// Gives places back. Returns whether whoever waits for one is to be woken.
    #[must_use]
    pub fn give(&self, places: u32) -> bool {
        if places == 0 {
            return false;
        }
        let before = self.used.fetch_sub(places, Ordering::SeqCst);
        debug_assert!(before >= places, "a place was given back that nobody took");
        self.wake()
    }

    fn wake(&self) -> bool {
        self.wanted.load(Ordering::SeqCst) && self.places() > 0 && self.wanted.swap(false, Ordering::SeqCst)
    }

    fn places(&self) -> u32 {
        match self.limit.load(Ordering::SeqCst) {
            0 => u32::MAX,
            limit => limit.saturating_sub(self.used.load(Ordering::SeqCst)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_taken_than_allowed() {
        let window = Window::new(2);
        assert!(window.take() && !window.is_full() && window.take() && !window.take());
        assert!(window.is_full());
        assert_eq!(window.free(), 0);
        assert!(window.give(1));
        assert_eq!((window.free(), window.is_full()), (1, false));
        assert!(!window.give(1), "nobody waits any more");
    }

    #[test]
    fn the_limit_changes_under_use() {
        let window = Window::new(3);
        assert!(window.take() && window.take() && window.take());
        assert!(!window.set_limit(1));
        assert_eq!(window.free(), 0);
        assert!(!window.give(2), "one is still used, and one is allowed");
        assert!(window.give(1));
        assert_eq!(window.free(), 1);
        assert!(window.take() && !window.take());
        assert_eq!(window.free(), 0);
        assert!(window.set_limit(0));
        assert_eq!(window.free(), u32::MAX);
    }

    #[test]
    fn without_a_limit_use_is_counted_all_the_same() {
        let window = Window::new(0);
        (0..10).for_each(|_| assert!(window.take()));
        assert!(!window.set_limit(5));
        assert_eq!(window.free(), 0);
        assert!(window.give(6));
        assert_eq!(window.free(), 1);
    }
}
