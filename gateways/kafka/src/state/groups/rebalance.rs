//! A rebalance: gather the members, then form the next generation of those who came.

use super::effect::Effect;
use super::error::GroupError;
use super::group::{Group, JoinTimer, Storing};
use super::state::GroupState;

impl Group {
    /// Starts a rebalance, or ends the one under way if everybody is there.
    pub(super) fn rebalance(&mut self, reason: &str, now_ms: i64) {
        match self.state {
            GroupState::Empty | GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare_rebalance(reason, now_ms);
            }
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(now_ms),
            GroupState::Dead => {}
        }
    }

    pub(super) fn prepare_rebalance(&mut self, reason: &str, now_ms: i64) {
        if self.state == GroupState::CompletingRebalance {
            self.withdraw_assignments(GroupError::RebalanceInProgress, now_ms);
        }
        self.pending_syncs.clear();
        self.sync_deadline_ms = None;

        let is_first = self.state == GroupState::Empty;
        self.enter(GroupState::PreparingRebalance, now_ms);
        tracing::info!(group = self.id, generation = self.generation, reason, "rebalancing");
        if is_first {
            // Members of a new group come one after another; without a delay each would cause a rebalance of its own.
            let delay_ms = self.config.initial_rebalance_delay_ms;
            let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms);
            self.member_added_in_delay = false;
            self.delay_first_join(delay_ms, remaining_ms, now_ms);
        } else if self.all_joined() {
            self.complete_join(now_ms);
        } else {
            self.wait_for_joins(now_ms);
        }
    }

    fn delay_first_join(&mut self, delay_ms: u32, remaining_ms: u32, now_ms: i64) {
        let at_ms = now_ms.saturating_add(i64::from(delay_ms));
        self.join_timer = Some(JoinTimer::Initial { at_ms, delay_ms, remaining_ms });
        self.note_deadline(at_ms);
    }

    fn wait_for_joins(&mut self, now_ms: i64) {
        let at_ms = now_ms.saturating_add(i64::from(self.rebalance_timeout_ms()));
        self.join_timer = Some(JoinTimer::Rebalance { at_ms });
        self.note_deadline(at_ms);
    }

    pub(super) fn complete_join_if_all_joined(&mut self, now_ms: i64) {
        // The first rebalance keeps its delay though all that are known are there.
        let gathers = self.state == GroupState::PreparingRebalance && self.previous_state != GroupState::Empty;
        if gathers && self.all_joined() {
            self.complete_join(now_ms);
        }
    }

    /// The join timer is over.
    pub(super) fn join_timer_fired(&mut self, timer: JoinTimer, now_ms: i64) {
        match timer {
            JoinTimer::Initial { delay_ms, remaining_ms, .. } if self.member_added_in_delay && remaining_ms != 0 => {
                self.member_added_in_delay = false;
                let next_ms = self.config.initial_rebalance_delay_ms.min(remaining_ms);
                self.delay_first_join(next_ms, remaining_ms.saturating_sub(delay_ms), now_ms);
            }
            _ => self.complete_join(now_ms),
        }
    }

    /// Forms the next generation of the members that joined. Dynamic members that did not are out; static ones keep
    /// their place until their session ends.
    pub(super) fn complete_join(&mut self, now_ms: i64) {
        self.join_timer = None;
        let late: Vec<String> = self
            .members
            .values()
            .filter(|member| member.awaiting_join.is_none() && member.instance_id.is_none())
            .map(|member| member.id.clone())
            .collect();
        for id in &late {
            tracing::info!(group = self.id, member = id, "removed: it did not join in time");
            self.remove_member(id, GroupError::UnknownMember);
        }
        if self.members.is_empty() {
            return self.become_empty(now_ms);
        }
        if !self.elect_leader_that_joined() {
            // Only absent static members are left: wait on, until one comes or their sessions end.
            return self.wait_for_joins(now_ms);
        }
        self.next_generation();
        self.protocol = self.elect_protocol();
        self.subscribed_topics = self.compute_subscribed_topics();
        self.enter(GroupState::CompletingRebalance, now_ms);
        tracing::info!(group = self.id, generation = self.generation, members = self.members.len(), "formed");
        self.answer_joins(now_ms);
        let at_ms = now_ms.saturating_add(i64::from(self.rebalance_timeout_ms()));
        self.sync_deadline_ms = Some(at_ms);
        self.note_deadline(at_ms);
    }

    fn become_empty(&mut self, now_ms: i64) {
        self.next_generation();
        self.protocol = None;
        self.leader = None;
        self.subscribed_topics = self.compute_subscribed_topics();
        self.enter(GroupState::Empty, now_ms);
        tracing::info!(group = self.id, generation = self.generation, "is now empty");
        self.storing = Some(Storing::Empty);
        let record = self.to_record();
        self.effects.push(Effect::Store(record));
    }

    /// After the last number comes 1 again.
    fn next_generation(&mut self) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_syncs.clear();
    }

    /// A leader that did not join passes the lead to a member that did. False if none did.
    fn elect_leader_that_joined(&mut self) -> bool {
        let joined = |id: &String| self.members.get(id).is_some_and(|member| member.awaiting_join.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        match self.members.values().find(|member| member.awaiting_join.is_some()) {
            Some(member) => {
                self.leader = Some(member.id.clone());
                true
            }
            None => false,
        }
    }

    fn answer_joins(&mut self, now_ms: i64) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
                if let Some(ticket) = member.awaiting_join.take() {
                    self.effects.push(Effect::JoinAnswer(ticket, Ok(joined)));
                }
            }
            self.renew_session(&id, now_ms);
            self.pending_syncs.insert(id);
        }
    }
}
