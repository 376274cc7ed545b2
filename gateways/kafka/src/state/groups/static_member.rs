//! A static member comes back under its instance id: it gets a new member id and its predecessor's place.

use super::effect::{Effect, Ticket};
use super::error::{GroupError, StoreError};
use super::group::{Group, Storing};
use super::join::JoinRequest;
use super::member::Member;
use super::state::GroupState;

/// A replacement that waits until it is stored, and what undoes it.
#[derive(Debug)]
pub(super) struct Replacement {
    member_id: String,
    predecessor: Member,
    /// The leader before the replacement.
    leader: Option<String>,
    skip_assignment_known: bool,
}

impl Group {
    pub(super) fn replace_static_member(
        &mut self,
        old_id: String,
        new_id: String,
        request: JoinRequest,
        ticket: Ticket,
        now_ms: i64,
    ) {
        let leader = self.leader.clone();
        let skip_assignment_known = request.skip_assignment_known;
        let reason = format!(
            "static member {new_id} replaces {old_id}: {}",
            request.reason.as_deref().unwrap_or("no reason given")
        );
        let Some(predecessor) = self.take_place(&old_id, &new_id, GroupError::FencedInstance) else {
            return self.refuse_join(ticket, GroupError::UnknownMember, new_id);
        };
        self.renew_session(&new_id, now_ms);
        self.update_member(&new_id, request, ticket);
        match self.state {
            // A restart of a member with nothing changed disturbs nobody: it takes its old assignment.
            GroupState::Stable if self.elect_protocol() == self.protocol => {
                self.storing = Some(Storing::Replacement(Box::new(Replacement {
                    member_id: new_id,
                    predecessor,
                    leader,
                    skip_assignment_known,
                })));
                let record = self.to_record();
                self.effects.push(Effect::Store(record));
            }
            // The leader may be assigning to the old id just now, so the generation is of no use.
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(&reason, now_ms),
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(now_ms),
            GroupState::Empty | GroupState::Dead => debug_assert!(false, "a group without members has no static ones"),
        }
    }

    /// Moves the member `old_id` to `new_id`, answering what it had parked with `error`. Returns it as it was.
    fn take_place(&mut self, old_id: &str, new_id: &str, error: GroupError) -> Option<Member> {
        self.refuse_waiting(old_id, error);
        let old = self.members.remove(old_id)?;
        let mut new = old.clone();
        new.id = new_id.to_owned();
        new.session_deadline_ms = None;
        if let Some(instance_id) = &new.instance_id {
            self.static_members.insert(instance_id.clone(), new_id.to_owned());
        }
        if self.is_leader(old_id) {
            self.leader = Some(new_id.to_owned());
        }
        self.pending_syncs.remove(old_id);
        self.members.insert(new_id.to_owned(), new);
        Some(old)
    }

    pub(super) fn replacement_stored(&mut self, replacement: Replacement, result: Result<(), StoreError>, now_ms: i64) {
        let Replacement { member_id, predecessor, leader, skip_assignment_known } = replacement;
        if let Err(error) = result {
            // Nothing happened: the old id stands again, though its holder has been told that it is fenced.
            let old_id = predecessor.id.clone();
            self.take_place(&member_id, &old_id, error.told());
            self.members.insert(old_id.clone(), predecessor);
            self.renew_session(&old_id, now_ms);
            return;
        }
        let Some(ticket) = self.members.get_mut(&member_id).and_then(|member| member.awaiting_join.take()) else {
            return;
        };
        let mut joined = self.joined(&member_id);
        if skip_assignment_known {
            joined.skip_assignment = self.is_leader(&member_id);
        } else {
            // An older client that finds itself the leader would assign anew, which nobody waits for. So it is told
            // of the leader before it, and believes to be a follower.
            joined.leader = leader.unwrap_or_default();
            joined.members = Vec::new();
        }
        self.effects.push(Effect::JoinAnswer(ticket, Ok(joined)));
    }
}
