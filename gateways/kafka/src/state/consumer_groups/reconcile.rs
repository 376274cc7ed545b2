//! A member's next step from what it has towards its target.

use core_rpc::PartitionId;

use super::group::ConsumerGroup;
use super::member::{MemberId, MemberState};
use super::partitions::Partitions;

/// Where a member stands after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    state: MemberState,
    epoch: i32,
    assigned: Partitions,
    revoking: Partitions,
}

impl ConsumerGroup {
    /// Moves a member towards its target as far as it can go now. `owned`: what it says it has; None: it did not say.
    pub(super) fn reconcile(&mut self, member_id: &MemberId, owned: Option<&Partitions>, now_ms: i64) {
        let Some(member) = self.members.get(member_id) else { return };
        if member.is_reconciled_to(self.assignment_epoch) {
            return;
        }
        let epoch = match member.state {
            MemberState::Stable | MemberState::Unreleased => member.epoch,
            // Not before it has given all up.
            MemberState::Unrevoked if still_owns(owned, &member.revoking) => return,
            MemberState::Unrevoked => member.epoch + 1,
        };
        let step = self.next_step(member_id, epoch, &member.assigned, &member.target, owned);
        let stays = (member.state, member.epoch) == (step.state, step.epoch)
            && member.assigned == step.assigned
            && member.revoking == step.revoking;
        if stays {
            return;
        }
        self.is_unstored = true;
        self.release(member_id);
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.previous_epoch = member.epoch;
        member.epoch = step.epoch;
        member.state = step.state;
        member.assigned = step.assigned;
        member.revoking = step.revoking;
        // A classic member has its rejoin's deadline instead.
        let is_timed = member.state == MemberState::Unrevoked && member.classic.is_none();
        member.deadlines.revocation_ms =
            is_timed.then(|| now_ms.saturating_add(i64::from(member.rebalance_timeout_ms)));
        let deadline_ms = member.deadlines.revocation_ms;
        self.hold(member_id);
        if let Some(at_ms) = deadline_ms {
            self.note_deadline(at_ms);
        }
    }

    fn next_step(
        &self,
        member_id: &MemberId,
        epoch: i32,
        has: &Partitions,
        target: &Partitions,
        owned: Option<&Partitions>,
    ) -> Step {
        let mut assigned = has.intersection(target);
        let revoking = has.difference(target);
        if !revoking.is_empty() && still_owns(owned, &revoking) {
            return Step { state: MemberState::Unrevoked, epoch, assigned, revoking };
        }
        let is_free = |partition: &PartitionId| self.held.get(partition).is_none_or(|holder| holder == member_id);
        let (free, unreleased): (Vec<_>, Vec<_>) = target.difference(&assigned).iter().partition(is_free);
        assigned.extend(free);
        let state = if unreleased.is_empty() { MemberState::Stable } else { MemberState::Unreleased };
        Step { state, epoch: self.assignment_epoch, assigned, revoking: Partitions::default() }
    }

    /// Whether partitions of its target are still others'.
    pub(super) fn waits_for_others(&self, member_id: &MemberId) -> bool {
        let Some(member) = self.members.get(member_id) else { return false };
        let missing = member.target.difference(&member.assigned);
        let is_others = |partition: PartitionId| self.held.get(&partition).is_some_and(|holder| holder != member_id);
        missing.iter().any(is_others)
    }

    /// Writes down that a member holds what it has and what it has to give up.
    pub(super) fn hold(&mut self, member_id: &MemberId) {
        let Some(member) = self.members.get(member_id) else { return };
        for partition in member.assigned.iter().chain(member.revoking.iter()) {
            let before = self.held.insert(partition, member_id.clone());
            debug_assert!(before.is_none_or(|holder| holder == *member_id), "a partition has two holders");
        }
    }

    /// The opposite of [`ConsumerGroup::hold`].
    pub(super) fn release(&mut self, member_id: &MemberId) {
        let Some(member) = self.members.get(member_id) else { return };
        for partition in member.assigned.iter().chain(member.revoking.iter()) {
            if self.held.get(&partition) == Some(member_id) {
                self.held.remove(&partition);
            }
        }
    }
}

/// Whether a member that says it has `owned` has any of `revoking`. One that does not say may have all.
fn still_owns(owned: Option<&Partitions>, revoking: &Partitions) -> bool {
    owned.is_none_or(|owned| revoking.iter().any(|partition| owned.contains(partition)))
}
