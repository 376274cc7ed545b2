//! One timer for all groups: when each wants to be looked at, and a task that waits for the first.

use std::sync::Arc;

use core_rpc::Core;

use super::Groups;
use super::slot::{Loaded, Slot};

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
        self.shared.deadlines.add(at_ms, slot);
    }

    /// Ticks groups at their deadlines, for ever.
    pub(super) async fn run_timer(&self) {
        let clock = &self.shared.clock;
        loop {
            let instant_of = |at_ms| (at_ms > clock.now_ms()).then(|| clock.instant_of(at_ms));
            self.fire(self.shared.deadlines.due(instant_of).await);
        }
    }

    /// A task does it, since the slot may be locked while its record is being stored, and others are due as well.
    fn fire(&self, slot: Arc<Slot>) {
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
