//! What happens when nobody does anything: sessions end, rebalances stop waiting.

use super::effect::Effect;
use super::error::{GroupError, StoreError};
use super::group::{Group, Storing};
use super::state::GroupState;

#[derive(Debug)]
enum Due {
    Join,
    Sync,
    Session(String),
    PendingJoin(String),
}

impl Group {
    /// Does what is due, earliest first. To be called at [`Group::next_deadline_ms`]; early or late does no harm.
    /// It stops at an [`Effect::Store`]: what else is due comes with the next call.
    pub fn tick(&mut self, now_ms: i64) -> Vec<Effect> {
        debug_assert!(self.storing.is_none());
        while self.storing.is_none()
            && let Some((at_ms, due)) = self.first_deadline()
            && at_ms <= now_ms
        {
            self.expire(due, now_ms);
        }
        self.earliest_deadline_ms = self.first_deadline().map(|(at_ms, _)| at_ms);
        std::mem::take(&mut self.effects)
    }

    /// The record of the last [`Effect::Store`] is stored, or is not.
    pub fn stored(&mut self, result: Result<(), StoreError>, now_ms: i64) -> Vec<Effect> {
        if result == Err(StoreError::Superseded) {
            return self.unload();
        }
        match self.storing.take() {
            // If this was not stored, the generation before it is restored after a restart, and its members' sessions
            // end again: nobody is harmed.
            Some(Storing::Empty | Storing::Migrated) | None => {}
            Some(Storing::Assignments(assignments)) => self.assignments_stored(assignments, result, now_ms),
            Some(Storing::Replacement(replacement)) => self.replacement_stored(*replacement, result, now_ms),
        }
        std::mem::take(&mut self.effects)
    }

    fn first_deadline(&self) -> Option<(i64, Due)> {
        let join = self.join_timer.map(|timer| (timer.at_ms(), Due::Join));
        let sync = self.sync_deadline_ms.map(|at_ms| (at_ms, Due::Sync));
        let session = self
            .members
            .values()
            .filter_map(|member| member.session_deadline_ms.map(|at_ms| (at_ms, &member.id)))
            .min()
            .map(|(at_ms, id)| (at_ms, Due::Session(id.clone())));
        let pending = self
            .pending_joins
            .iter()
            .map(|(id, at_ms)| (*at_ms, id))
            .min()
            .map(|(at_ms, id)| (at_ms, Due::PendingJoin(id.clone())));
        [join, sync, session, pending].into_iter().flatten().min_by_key(|(at_ms, _)| *at_ms)
    }

    fn expire(&mut self, due: Due, now_ms: i64) {
        match due {
            Due::Join => {
                if let Some(timer) = self.join_timer.take() {
                    self.join_timer_fired(timer, now_ms);
                }
            }
            Due::Sync => self.expire_syncs(now_ms),
            Due::Session(id) => self.expire_session(&id, now_ms),
            Due::PendingJoin(id) => {
                self.pending_joins.remove(&id);
                self.complete_join_if_all_joined(now_ms);
            }
        }
    }

    fn expire_session(&mut self, member_id: &str, now_ms: i64) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.session_deadline_ms = None;
        if member.is_excused_from_heartbeat() {
            return;
        }
        tracing::info!(group = self.id, member = member_id, "removed: its session ended");
        self.remove_member(member_id, GroupError::UnknownMember);
        self.rebalance("a session ended", now_ms);
    }

    /// Members that got the generation but never asked for their assignment are gone.
    fn expire_syncs(&mut self, now_ms: i64) {
        self.sync_deadline_ms = None;
        let late = std::mem::take(&mut self.pending_syncs);
        if late.is_empty() || !matches!(self.state, GroupState::CompletingRebalance | GroupState::Stable) {
            return;
        }
        for id in &late {
            tracing::info!(group = self.id, member = id, "removed: it did not sync in time");
            self.remove_member(id, GroupError::UnknownMember);
        }
        self.prepare_rebalance("members did not sync in time", now_ms);
    }
}
