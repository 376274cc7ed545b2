//! JoinGroup: a member comes, comes back, or changes what it supports.

use super::effect::{Effect, Ticket};
use super::error::GroupError;
use super::group::Group;
use super::protocol::{Protocol, without_repeated_names};
use super::state::GroupState;

/// What a member asks for when it joins.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// Empty: the member has no id yet.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub protocol_type: String,
    /// In order of preference.
    pub protocols: Vec<Protocol>,
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for this member.
    pub rebalance_timeout_ms: u32,
    /// The version of the request lets a new member be sent back with its id first (4 and later).
    pub member_id_required: bool,
    /// The version of the request knows `skip_assignment` (9 and later).
    pub skip_assignment_known: bool,
    /// A text never used before, for a new member's id.
    pub fresh: String,
    /// The client's words, for the log.
    pub reason: Option<String>,
}

impl Group {
    /// A member joins. It is answered at once, or when the rebalance has all members.
    pub fn join(&mut self, mut request: JoinRequest, ticket: Ticket, now_ms: i64) -> Vec<Effect> {
        debug_assert!(self.storing.is_none());
        request.protocols = without_repeated_names(request.protocols);
        if let Err((error, member_id)) = self.check_join(&request) {
            self.refuse_join(ticket, error, member_id);
        } else if !self.has_room_for(&request.member_id) {
            // A member of a group that shrank its limit is put out by this.
            self.remove_member(&request.member_id, GroupError::GroupFull);
            self.refuse_join(ticket, GroupError::GroupFull, String::new());
            self.complete_join_if_all_joined(now_ms);
        } else if request.member_id.is_empty() {
            self.join_as_new(request, ticket, now_ms);
        } else {
            self.join_as_known(request, ticket, now_ms);
        }
        std::mem::take(&mut self.effects)
    }

    /// The error, and the member id that goes with it.
    fn check_join(&self, request: &JoinRequest) -> Result<(), (GroupError, String)> {
        let refuse = |error| Err((error, request.member_id.clone()));
        if self.id.is_empty() {
            return refuse(GroupError::InvalidGroupId);
        }
        if let Err(error) = self.config.check_session_timeout(request.session_timeout_ms) {
            return refuse(error);
        }
        if self.state == GroupState::Dead {
            return refuse(GroupError::CoordinatorNotAvailable);
        }
        Ok(())
    }

    /// While a rebalance gathers members only those that have joined it count: whoever comes first stays.
    fn has_room_for(&self, member_id: &str) -> bool {
        match self.state {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                let waiting = |id: &str| self.members.get(id).is_some_and(|member| member.awaiting_join.is_some());
                let waiting_count = self.members.values().filter(|member| member.awaiting_join.is_some()).count();
                waiting(member_id) || waiting_count < self.config.members_max
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.members.contains_key(member_id) || self.members.len() < self.config.members_max
            }
        }
    }

    fn join_as_new(&mut self, request: JoinRequest, ticket: Ticket, now_ms: i64) {
        if !self.accepts_protocols(&request.protocol_type, &request.protocols) {
            return self.refuse_join(ticket, GroupError::InconsistentProtocol, String::new());
        }
        let prefix = request.instance_id.as_deref().unwrap_or(&request.client_id);
        let member_id = format!("{prefix}-{}", request.fresh);
        if let Some(instance_id) = &request.instance_id {
            match self.static_members.get(instance_id).cloned() {
                Some(old_id) => self.replace_static_member(old_id, member_id, request, ticket, now_ms),
                None => self.add_and_rebalance(member_id, request, ticket, now_ms),
            }
        } else if request.member_id_required {
            // A client whose first answer is lost would join again and again as somebody new. So it first gets an id,
            // which costs the group nothing if it is never used.
            let lapses_ms = now_ms.saturating_add(i64::from(request.session_timeout_ms));
            self.pending_joins.insert(member_id.clone(), lapses_ms);
            self.note_deadline(lapses_ms);
            self.refuse_join(ticket, GroupError::MemberIdRequired, member_id);
        } else {
            self.add_and_rebalance(member_id, request, ticket, now_ms);
        }
    }

    fn join_as_known(&mut self, request: JoinRequest, ticket: Ticket, now_ms: i64) {
        let member_id = request.member_id.clone();
        if !self.accepts_protocols(&request.protocol_type, &request.protocols) {
            return self.refuse_join(ticket, GroupError::InconsistentProtocol, member_id);
        }
        // An id still pending was given to a dynamic member; with an instance id it is somebody else's.
        if request.instance_id.is_none() && self.pending_joins.contains_key(&member_id) {
            return self.add_and_rebalance(member_id, request, ticket, now_ms);
        }
        if let Err(error) = self.check_member(&member_id, request.instance_id.as_deref()) {
            return self.refuse_join(ticket, error, member_id);
        }
        let unchanged = self.members.get(&member_id).is_some_and(|member| member.protocols == request.protocols);
        let rebalance = match self.state {
            GroupState::PreparingRebalance => true,
            // The same again: it did not get our answer.
            GroupState::CompletingRebalance => !unchanged,
            // The leader joins again when something outside the group changed, such as a topic's partitions.
            GroupState::Stable => !unchanged || self.is_leader(&member_id),
            GroupState::Empty | GroupState::Dead => {
                return self.refuse_join(ticket, GroupError::UnknownMember, member_id);
            }
        };
        if rebalance {
            let reason =
                format!("member {member_id} joined again: {}", request.reason.as_deref().unwrap_or("no reason given"));
            self.update_member(&member_id, request, ticket);
            self.rebalance(&reason, now_ms);
        } else {
            let joined = self.joined(&member_id);
            self.effects.push(Effect::JoinAnswer(ticket, Ok(joined)));
        }
    }

    fn add_and_rebalance(&mut self, member_id: String, request: JoinRequest, ticket: Ticket, now_ms: i64) {
        if self.state == GroupState::PreparingRebalance && self.previous_state == GroupState::Empty {
            self.member_added_in_delay = true;
        }
        let reason = format!("new member {member_id}: {}", request.reason.as_deref().unwrap_or("no reason given"));
        self.add_member(member_id, request, ticket, now_ms);
        self.rebalance(&reason, now_ms);
    }

    /// Takes over what the member now says of itself, and parks its request.
    pub(super) fn update_member(&mut self, member_id: &str, request: JoinRequest, ticket: Ticket) {
        // An earlier request of the same member comes from a connection it gave up.
        self.refuse_waiting(member_id, GroupError::RebalanceInProgress);
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.protocols = request.protocols;
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.session_timeout_ms = u32::try_from(request.session_timeout_ms).unwrap_or(0);
        member.client_id = request.client_id;
        member.client_host = request.client_host;
        member.awaiting_join = Some(ticket);
    }
}
