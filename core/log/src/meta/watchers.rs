//! Who waits for changes: each is woken for those under its prefix, and sleeps through all others.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Default)]
pub struct Watchers {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stopped: bool,
    last: u64,
    waiting: HashMap<u64, Waiting>,
}

struct Waiting {
    prefix: String,
    wake: Arc<Notify>,
    /// Something under the prefix has changed since the watcher looked.
    is_hit: bool,
    /// Up to this revision nothing has, as far as it was told.
    passed: u64,
}

/// One that waits; no longer when dropped.
pub struct Watcher<'a> {
    watchers: &'a Watchers,
    id: u64,
    wake: Arc<Notify>,
}

impl Watchers {
    /// Registers one that wants to know what changes under `prefix`. It must look at the space afterwards, not before.
    pub fn add(&self, prefix: String) -> Watcher<'_> {
        let wake = Arc::new(Notify::new());
        let mut state = self.state.lock();
        state.last += 1;
        let id = state.last;
        state.waiting.insert(id, Waiting { prefix, wake: wake.clone(), is_hit: false, passed: 0 });
        Watcher { watchers: self, id, wake }
    }

    /// The space shows what became of these keys, and is at `revision`.
    pub fn tell(&self, keys: &[String], revision: u64) {
        self.wake(revision, |prefix| keys.iter().any(|key| key.starts_with(prefix)));
    }

    /// The space is another.
    pub fn tell_all(&self, revision: u64) {
        self.wake(revision, |_| true);
    }

    /// Nothing will change any more.
    pub fn stop(&self) {
        self.state.lock().stopped = true;
        self.tell_all(0);
    }

    fn wake(&self, revision: u64, is_of_interest: impl Fn(&str) -> bool) {
        for waiting in self.state.lock().waiting.values_mut().filter(|waiting| !waiting.is_hit) {
            if is_of_interest(&waiting.prefix) {
                waiting.is_hit = true;
                waiting.wake.notify_one();
            } else {
                waiting.passed = revision;
            }
        }
    }
}

impl Watcher<'_> {
    /// To be asked before each look at the space: up to which revision nothing is to be seen, or None if nothing will change any
    /// more.
    pub fn begin_look(&self) -> Option<u64> {
        let mut state = self.watchers.state.lock();
        if state.stopped {
            return None;
        }
        let waiting = state.waiting.get_mut(&self.id)?;
        waiting.is_hit = false;
        Some(waiting.passed)
    }

    /// Until something has changed that was not there to be seen at the last look.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        self.watchers.state.lock().waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_woken(watcher: &Watcher<'_>) -> bool {
        pin!(watcher.changed()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn only_what_lies_under_the_prefix_wakes() {
        let watchers = Watchers::default();
        let watcher = watchers.add("a/".into());
        assert_eq!(watcher.begin_look(), Some(0));
        watchers.tell(&["b/1".to_owned(), "a".to_owned()], 2);
        assert!(!is_woken(&watcher));
        watchers.tell(&["b/1".to_owned(), "a/1".to_owned()], 4);
        assert!(is_woken(&watcher) && !is_woken(&watcher));
    }

    #[test]
    fn nothing_is_passed_over_before_it_was_looked_at() {
        let watchers = Watchers::default();
        let watcher = watchers.add("a/".into());
        watchers.tell(&["b/1".to_owned()], 1);
        watchers.tell(&["a/1".to_owned()], 2);
        watchers.tell(&["b/1".to_owned()], 3);
        assert_eq!(watcher.begin_look(), Some(1));
        watchers.tell(&["b/1".to_owned()], 4);
        assert_eq!(watcher.begin_look(), Some(4));
    }

    #[test]
    fn a_stop_wakes_all_and_lets_nobody_wait() {
        let watchers = Watchers::default();
        let watcher = watchers.add("a/".into());
        watchers.stop();
        assert!(is_woken(&watcher));
        assert_eq!(watcher.begin_look(), None);
        assert_eq!(watchers.add("b/".into()).begin_look(), None);
        drop(watcher);
        assert!(watchers.state.lock().waiting.is_empty());
    }
}
