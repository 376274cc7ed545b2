//! One group: its fields, and the small moves that every event is made of.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::config::GroupConfig;
use super::effect::{Effect, JoinRefused, Joined, JoinedMember, Synced, Ticket};
use super::error::GroupError;
use super::join::JoinRequest;
use super::member::Member;
use super::state::GroupState;

/// A group as a state machine. Times are milliseconds that never go back, near the Unix epoch's.
#[derive(Debug)]
pub struct Group {
    pub(super) id: String,
    pub(super) config: GroupConfig,
    pub(super) state: GroupState,
    /// The state before this one; a rebalance out of Empty waits longer for members.
    pub(super) previous_state: GroupState,
    pub(super) state_since_ms: i64,
    /// None until the first member joins.
    pub(super) protocol_type: Option<String>,
    /// The current generation's; None while it has no members.
    pub(super) protocol: Option<String>,
    pub(super) generation: i32,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    /// Instance id to member id.
    pub(super) static_members: BTreeMap<String, String>,
    /// Ids given out with `MemberIdRequired`, and when they lapse.
    pub(super) pending_joins: BTreeMap<String, i64>,
    /// Members of this generation that have not sent SyncGroup.
    pub(super) pending_syncs: BTreeSet<String>,
    pub(super) join_timer: Option<JoinTimer>,
    pub(super) sync_deadline_ms: Option<i64>,
    /// Somebody new came while the first rebalance was delayed: delay it once more.
    pub(super) member_added_in_delay: bool,
    pub(super) subscribed_topics: Option<BTreeSet<String>>,
    /// What [`Effect::Store`] waits for; no other event may come until it is settled.
    pub(super) storing: Option<Storing>,
    /// No deadline is before this. Deadlines that move later leave it behind; [`Group::tick`] catches it up.
    pub(super) earliest_deadline_ms: Option<i64>,
    pub(super) effects: Vec<Effect>,
}

/// When the waiting for joins ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum JoinTimer {
    /// The delay of a first rebalance, and how much longer it may be stretched afterwards.
    Initial {
        at_ms: i64,
        delay_ms: u32,
        remaining_ms: u32,
    },
    Rebalance {
        at_ms: i64,
    },
}

impl JoinTimer {
    pub(super) fn at_ms(self) -> i64 {
        match self {
            JoinTimer::Initial { at_ms, .. } | JoinTimer::Rebalance { at_ms } => at_ms,
        }
    }
}

/// What to do when the record is stored.
#[derive(Debug)]
pub(super) enum Storing {
    /// The group became Empty; nobody waits.
    Empty,
    /// The group came over from the consumer protocol; nobody waits.
    Migrated,
    /// The leader's assignments, by member id.
    Assignments(BTreeMap<String, Bytes>),
    /// A static member came back under a new id.
    Replacement(Box<super::static_member::Replacement>),
}

impl Group {
    /// A group that nobody has joined yet.
    pub fn new(id: String, config: GroupConfig, now_ms: i64) -> Self {
        Group {
            id,
            config,
            state: GroupState::Empty,
            previous_state: GroupState::Dead,
            state_since_ms: now_ms,
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_joins: BTreeMap::new(),
            pending_syncs: BTreeSet::new(),
            join_timer: None,
            sync_deadline_ms: None,
            member_added_in_delay: false,
            subscribed_topics: None,
            storing: None,
            earliest_deadline_ms: None,
            effects: Vec::new(),
        }
    }

    pub fn state(&self) -> GroupState {
        self.state
    }

    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Nothing would be lost if this group were forgotten, but for its stored record.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, GroupState::Empty | GroupState::Dead)
            && self.members.is_empty()
            && self.pending_joins.is_empty()
            && self.storing.is_none()
    }

    /// Nothing happens by itself before this; [`Group::tick`] is due then.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.earliest_deadline_ms
    }

    /// Gives the group up, as another gateway coordinates it now: whoever waits is sent there.
    pub fn unload(&mut self) -> Vec<Effect> {
        self.storing = None;
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in &ids {
            self.refuse_waiting(id, GroupError::NotCoordinator);
        }
        self.members.clear();
        self.static_members.clear();
        self.pending_joins.clear();
        self.pending_syncs.clear();
        self.join_timer = None;
        self.sync_deadline_ms = None;
        self.earliest_deadline_ms = None;
        self.leader = None;
        self.state = GroupState::Dead;
        std::mem::take(&mut self.effects)
    }

    pub(super) fn enter(&mut self, state: GroupState, now_ms: i64) {
        self.previous_state = self.state;
        self.state = state;
        self.state_since_ms = now_ms;
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// The longest rebalance timeout of its members.
    pub(super) fn rebalance_timeout_ms(&self) -> u32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    pub(super) fn all_joined(&self) -> bool {
        self.pending_joins.is_empty() && self.members.values().all(|member| member.awaiting_join.is_some())
    }

    /// Whether a request may speak for a member.
    pub(super) fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(GroupError::UnknownMember),
                Some(current) if current != member_id => return Err(GroupError::FencedInstance),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(GroupError::UnknownMember) }
    }

    // Deadlines.

    pub(super) fn note_deadline(&mut self, at_ms: i64) {
        self.earliest_deadline_ms = Some(self.earliest_deadline_ms.map_or(at_ms, |earliest| earliest.min(at_ms)));
    }

    /// The member is alive now: its session starts anew.
    pub(super) fn renew_session(&mut self, member_id: &str, now_ms: i64) {
        if let Some(member) = self.members.get(member_id) {
            let timeout_ms = member.session_timeout_ms;
            self.expect_heartbeat(member_id, now_ms, timeout_ms);
        }
    }

    pub(super) fn expect_heartbeat(&mut self, member_id: &str, now_ms: i64, timeout_ms: u32) {
        let at_ms = now_ms.saturating_add(i64::from(timeout_ms));
        if let Some(member) = self.members.get_mut(member_id) {
            member.session_deadline_ms = Some(at_ms);
            self.note_deadline(at_ms);
        }
    }

    // Members.

    pub(super) fn add_member(&mut self, member_id: String, request: JoinRequest, ticket: Ticket, now_ms: i64) {
        if let Some(instance_id) = &request.instance_id {
            let earlier = self.static_members.insert(instance_id.clone(), member_id.clone());
            debug_assert!(earlier.is_none(), "a known static member is replaced, not added");
        }
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type);
        }
        if self.leader.is_none() {
            self.leader = Some(member_id.clone());
        }
        self.pending_joins.remove(&member_id);
        let member = Member {
            id: member_id.clone(),
            instance_id: request.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: u32::try_from(request.session_timeout_ms).unwrap_or(0),
            protocols: request.protocols,
            assignment: Bytes::new(),
            is_new: true,
            awaiting_join: Some(ticket),
            awaiting_sync: None,
            session_deadline_ms: None,
        };
        self.members.insert(member_id.clone(), member);
        self.expect_heartbeat(&member_id, now_ms, self.config.new_member_join_timeout_ms);
    }

    /// Removes a member, telling it `error` if it waits. The lead passes to another member, if there is one.
    pub(super) fn remove_member(&mut self, member_id: &str, error: GroupError) {
        self.refuse_waiting(member_id, error);
        if let Some(member) = self.members.remove(member_id)
            && let Some(instance_id) = member.instance_id
        {
            self.static_members.remove(&instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_joins.remove(member_id);
        self.pending_syncs.remove(member_id);
    }

    // Answers.

    /// Answers whatever request the member has parked.
    pub(super) fn refuse_waiting(&mut self, member_id: &str, error: GroupError) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        // Only a member that stays one should come back with its id.
        let stays = matches!(error, GroupError::FencedInstance | GroupError::RebalanceInProgress);
        let told_id = if stays { member_id } else { "" };
        if let Some(ticket) = member.awaiting_join.take() {
            let refused = JoinRefused { error, member_id: told_id.to_owned() };
            self.effects.push(Effect::JoinAnswer(ticket, Err(refused)));
        }
        if let Some(ticket) = member.awaiting_sync.take() {
            self.effects.push(Effect::SyncAnswer(ticket, Err(error)));
        }
    }

    pub(super) fn refuse_join(&mut self, ticket: Ticket, error: GroupError, member_id: String) {
        self.effects.push(Effect::JoinAnswer(ticket, Err(JoinRefused { error, member_id })));
    }

    /// The current generation, as `member_id` may know it.
    pub(super) fn joined(&self, member_id: &str) -> Joined {
        let members = if self.is_leader(member_id) { self.joined_members() } else { Vec::new() };
        Joined {
            member_id: member_id.to_owned(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            members,
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        self.members
            .values()
            .map(|member| JoinedMember {
                member_id: member.id.clone(),
                instance_id: member.instance_id.clone(),
                metadata: member.metadata(protocol),
            })
            .collect()
    }

    pub(super) fn synced(&self, member: &Member) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: member.assignment.clone(),
        }
    }
}
