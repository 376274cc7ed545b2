//! One timer for all groups: a heap of deadlines, and a task that sleeps until the first.

use std::cmp::Ordering;
use std::sync::{Arc, Weak};

use core_rpc::Core;

use super::Groups;
use super::slot::{Loaded, Slot};

pub(super) struct Deadline {
    at_ms: i64,
    slot: Weak<Slot>,
}

/// Reversed, as the standard heap gives the greatest first.
impl Ord for Deadline {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at_ms.cmp(&self.at_ms)
    }
}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Deadline {
    fn eq(&self, other: &Self) -> bool {
        self.at_ms == other.at_ms
    }
}

impl Eq for Deadline {}

impl<C: Core> Groups<C> {
    pub(super) fn is_due(&self, loaded: &Loaded) -> bool {
        loaded.group.next_deadline_ms().is_some_and(|at_ms| at_ms <= self.shared.clock.now_ms())
    }

    /// Makes sure that the group is ticked at its next deadline. A later one than is in the heap already is left to the
    /// tick that comes first: heartbeats, which only move deadlines back, cost nothing here.
    pub(super) fn schedule(&self, slot: &Arc<Slot>, loaded: &mut Loaded) {
        let Some(at_ms) = loaded.group.next_deadline_ms() else { return };
        if loaded.timer_at_ms.is_some_and(|known_ms| known_ms <= at_ms) {
            return;
        }
        loaded.timer_at_ms = Some(at_ms);
        let mut deadlines = self.shared.deadlines.lock();
        let is_first = deadlines.peek().is_none_or(|first| at_ms < first.at_ms);
        deadlines.push(Deadline { at_ms, slot: Arc::downgrade(slot) });
        drop(deadlines);
        if is_first {
            self.shared.deadline_added.notify_one();
        }
    }

    /// Ticks groups at their deadlines, for ever.
    pub(super) async fn run_timer(&self) {
        loop {
            let first_ms = self.shared.deadlines.lock().peek().map(|first| first.at_ms);
            let added = self.shared.deadline_added.notified();
            match first_ms {
                None => added.await,
                Some(at_ms) if at_ms > self.shared.clock.now_ms() => {
                    tokio::select! {
                        () = tokio::time::sleep_until(self.shared.clock.instant_of(at_ms)) => {}
                        () = added => {}
                    }
                }
                Some(_) => self.fire_first(),
            }
        }
    }

    /// A task does it, since the slot may be locked while its record is being stored, and others are due as well.
    fn fire_first(&self) {
        let first = self.shared.deadlines.lock().pop();
        let Some(slot) = first.and_then(|first| first.slot.upgrade()) else { return };
        let groups = self.clone();
        tokio::spawn(async move {
            let mut locked = slot.state.clone().lock_owned().await;
            if let Some(loaded) = locked.as_mut() {
                loaded.timer_at_ms = None;
                let effects = match groups.is_due(loaded) {
                    true => loaded.group.tick(groups.shared.clock.now_ms()),
                    false => Vec::new(),
                };
                // An error was logged; what expired is found again by the next tick.
                let _not_stored = groups.settle(&slot, locked, effects).await;
            }
            groups.remove_if_vacant(slot);
        });
    }
}
