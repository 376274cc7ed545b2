//! SyncGroup: the leader brings the assignments, everybody takes their own.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::effect::{Effect, Ticket};
use super::error::{GroupError, StoreError};
use super::group::{Group, Storing};
use super::state::GroupState;

#[derive(Clone, Debug)]
pub struct SyncRequest {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
    /// None: the version of the request does not say (before 5).
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// (member id, assignment); only the leader's are looked at.
    pub assignments: Vec<(String, Bytes)>,
}

impl Group {
    /// A member asks for its assignment. It is answered when the leader's are stored.
    pub fn sync(&mut self, request: SyncRequest, ticket: Ticket, now_ms: i64) -> Vec<Effect> {
        debug_assert!(self.storing.is_none());
        match self.check_sync(&request) {
            Err(error) => self.effects.push(Effect::SyncAnswer(ticket, Err(error))),
            Ok(()) if self.state == GroupState::Stable => self.answer_with_assignment(&request.member_id, ticket),
            Ok(()) => self.park_sync(request, ticket, now_ms),
        }
        std::mem::take(&mut self.effects)
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), GroupError> {
        let differs = |theirs: &Option<String>, ours: &Option<String>| theirs.is_some() && theirs != ours;
        match self.state {
            GroupState::Dead => return Err(GroupError::CoordinatorNotAvailable),
            GroupState::Empty => return Err(GroupError::UnknownMember),
            _ => self.check_member(&request.member_id, request.instance_id.as_deref())?,
        }
        if request.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol, &self.protocol) {
            return Err(GroupError::InconsistentProtocol);
        }
        if self.state == GroupState::PreparingRebalance {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    fn answer_with_assignment(&mut self, member_id: &str, ticket: Ticket) {
        self.note_synced(member_id);
        if let Some(member) = self.members.get(member_id) {
            let synced = self.synced(member);
            self.effects.push(Effect::SyncAnswer(ticket, Ok(synced)));
        }
    }

    fn park_sync(&mut self, request: SyncRequest, ticket: Ticket, now_ms: i64) {
        self.note_synced(&request.member_id);
        // As with joins: an earlier request comes from a connection given up.
        self.refuse_waiting(&request.member_id, GroupError::RebalanceInProgress);
        if let Some(member) = self.members.get_mut(&request.member_id) {
            member.awaiting_sync = Some(ticket);
        }
        if !self.is_leader(&request.member_id) {
            return;
        }
        let mut theirs: BTreeMap<String, Bytes> = request.assignments.into_iter().collect();
        // Nothing for those it forgot, and nobody who is not a member.
        let assignments: BTreeMap<String, Bytes> =
            self.members.keys().map(|id| (id.clone(), theirs.remove(id).unwrap_or_default())).collect();
        let record = self.to_stable_record(&assignments, now_ms);
        self.storing = Some(Storing::Assignments(assignments));
        self.effects.push(Effect::Store(record));
    }

    fn note_synced(&mut self, member_id: &str) {
        self.pending_syncs.remove(member_id);
        if self.pending_syncs.is_empty() {
            self.sync_deadline_ms = None;
        }
    }

    pub(super) fn assignments_stored(
        &mut self,
        assignments: BTreeMap<String, Bytes>,
        result: Result<(), StoreError>,
        now_ms: i64,
    ) {
        if let Err(error) = result {
            self.withdraw_assignments(error.told(), now_ms);
            return self.prepare_rebalance("the assignments could not be stored", now_ms);
        }
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = assignment;
            }
        }
        self.enter(GroupState::Stable, now_ms);
        let waiting: Vec<(String, Ticket)> = self
            .members
            .values_mut()
            .filter_map(|member| member.awaiting_sync.take().map(|ticket| (member.id.clone(), ticket)))
            .collect();
        for (id, ticket) in waiting {
            self.answer_with_assignment(&id, ticket);
            // Its session may have run out while it waited for us.
            self.renew_session(&id, now_ms);
        }
    }

    /// The generation ends before it was stable: nobody has an assignment, and whoever waits for one hears `error`.
    pub(super) fn withdraw_assignments(&mut self, error: GroupError, now_ms: i64) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.assignment = Bytes::new();
            if let Some(ticket) = member.awaiting_sync.take() {
                self.effects.push(Effect::SyncAnswer(ticket, Err(error)));
                self.renew_session(&id, now_ms);
            }
        }
    }
}
