//! When things want to be looked at: a heap of deadlines, and who waits for the first of them.
//!
//! Not `gateway_runtime::Deadlines`: heartbeats move deadlines back all the time, so outdated entries stay instead of being taken out.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Deadlines, earliest first. An entry may be outdated; a look too many does no harm.
pub struct Deadlines<T> {
    heap: Mutex<BinaryHeap<Deadline<T>>>,
    /// An earlier deadline than all others was added.
    added: Notify,
}

struct Deadline<T> {
    at_ms: i64,
    thing: Weak<T>,
}

impl<T> Default for Deadlines<T> {
    fn default() -> Self {
        Deadlines { heap: Mutex::default(), added: Notify::new() }
    }
}

impl<T> Deadlines<T> {
    /// The thing wants to be looked at then.
    pub fn add(&self, at_ms: i64, thing: &Arc<T>) {
        let mut heap = self.heap.lock();
        let is_first = heap.peek().is_none_or(|first| at_ms < first.at_ms);
        heap.push(Deadline { at_ms, thing: Arc::downgrade(thing) });
        drop(heap);
        if is_first {
            self.added.notify_one();
        }
    }

    /// Waits for the first that is due and still there. `instant_of` says when a time comes; None if it has.
    pub async fn due(&self, instant_of: impl Fn(i64) -> Option<Instant>) -> Arc<T> {
        loop {
            let first_ms = self.heap.lock().peek().map(|first| first.at_ms);
            // What is added before this waits is remembered.
            let added = self.added.notified();
            match first_ms.map(&instant_of) {
                None => added.await,
                Some(Some(instant)) => {
                    tokio::select! {
                        () = sleep_until(instant) => {}
                        () = added => {}
                    }
                }
                Some(None) => {
                    let first = self.heap.lock().pop();
                    if let Some(thing) = first.and_then(|first| first.thing.upgrade()) {
                        return thing;
                    }
                }
            }
        }
    }
}

/// Reversed, as the standard heap gives the greatest first.
impl<T> Ord for Deadline<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at_ms.cmp(&self.at_ms)
    }
}

impl<T> PartialOrd for Deadline<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Deadline<T> {
    fn eq(&self, other: &Self) -> bool {
        self.at_ms == other.at_ms
    }
}

impl<T> Eq for Deadline<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn the_earliest_that_is_still_there_comes_first() {
        let begun = Instant::now();
        let instant_of = move |at_ms: i64| {
            let instant = begun + Duration::from_millis(at_ms as u64);
            (instant > Instant::now()).then_some(instant)
        };
        let deadlines = Arc::new(Deadlines::default());
        let [gone, late, early] = [1, 2, 3].map(Arc::new);
        deadlines.add(5, &gone);
        deadlines.add(60, &late);
        drop(gone);
        let waiting = tokio::spawn({
            let deadlines = deadlines.clone();
            async move { (*deadlines.due(instant_of).await, *deadlines.due(instant_of).await) }
        });
        tokio::task::yield_now().await;
        deadlines.add(30, &early);
        assert_eq!(waiting.await.unwrap(), (3, 2));
        assert!(begun.elapsed() >= Duration::from_millis(60));
    }
}
