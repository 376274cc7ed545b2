//! One group: its fields, and the small moves that every event is made of.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use core_rpc::PartitionId;

use super::assignor::Assignor;
use super::member::{Member, MemberId};
use super::record::ConsumerGroupRecord;
use super::subscription::Subscriptions;
use crate::state::groups::GroupError;

/// A group as a state machine. Times are milliseconds that never go back.
#[derive(Debug)]
pub struct ConsumerGroup {
    pub(super) id: String,
    pub(super) epoch: i32,
    /// The group epoch for which the members' targets were made.
    pub(super) assignment_epoch: i32,
    /// What made them.
    pub(super) assignor: Assignor,
    pub(super) members: BTreeMap<MemberId, Member>,
    /// Instance id to member id.
    pub(super) static_members: BTreeMap<String, MemberId>,
    /// Who has a partition, or has not given it up yet.
    pub(super) held: HashMap<PartitionId, MemberId>,
    pub(super) subscriptions: Subscriptions,
    /// Something changed that must be stored before it is told.
    pub(super) is_unstored: bool,
    /// No deadline is before this. Deadlines that move later leave it behind; [`ConsumerGroup::tick`] catches it up.
    pub(super) earliest_deadline_ms: Option<i64>,
}

/// What is configured for a group, at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerSettings {
    pub session_timeout_ms: u32,
    pub heartbeat_interval_ms: u32,
    pub members_max: usize,
}

/// What is set for one group instead of what is configured for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerTimes {
    pub session_timeout_ms: Option<u32>,
    pub heartbeat_interval_ms: Option<u32>,
}

impl ConsumerSettings {
    /// These, but for what is set for the group.
    pub fn with(self, times: ConsumerTimes) -> Self {
        ConsumerSettings {
            session_timeout_ms: times.session_timeout_ms.unwrap_or(self.session_timeout_ms),
            heartbeat_interval_ms: times.heartbeat_interval_ms.unwrap_or(self.heartbeat_interval_ms),
            ..self
        }
    }
}

impl ConsumerGroup {
    /// A group without members whose epochs go on from `epoch`.
    pub fn new(id: String, epoch: i32) -> Self {
        ConsumerGroup {
            id,
            epoch,
            assignment_epoch: epoch,
            assignor: Assignor::default(),
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            held: HashMap::new(),
            subscriptions: Subscriptions::default(),
            is_unstored: false,
            earliest_deadline_ms: None,
        }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// There are members, and all of them speak the classic protocol.
    pub fn is_all_classic(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(|member| member.classic.is_some())
    }

    /// The record to store before anything is answered; None: nothing changed since the last.
    pub fn take_changed(&mut self) -> Option<ConsumerGroupRecord> {
        std::mem::take(&mut self.is_unstored).then(|| self.to_record())
    }

    pub(super) fn bump_epoch(&mut self) {
        // After the last number comes 1 again, as with generations.
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        self.is_unstored = true;
    }

    pub(super) fn has_room_for(&self, member_id: &str, members_max: usize) -> Result<(), GroupError> {
        let fits = self.members.len() < members_max || self.members.contains_key(member_id);
        if fits { Ok(()) } else { Err(GroupError::GroupFull) }
    }

    /// The member of an instance id, if `member_id` is still the one that stands for it.
    pub(super) fn check_instance(&self, instance_id: &str, member_id: &str) -> Result<(), GroupError> {
        match self.static_members.get(instance_id) {
            None => Err(GroupError::UnknownMember),
            Some(current) if **current != *member_id => Err(GroupError::FencedInstance),
            Some(_) => Ok(()),
        }
    }

    pub(super) fn add_member(&mut self, member_id: &str, instance_id: Option<&str>) -> MemberId {
        let id: MemberId = Arc::from(member_id);
        let mut member = Member::new(id.clone());
        member.instance_id = instance_id.map(str::to_owned);
        if let Some(instance_id) = instance_id {
            self.static_members.insert(instance_id.to_owned(), id.clone());
        }
        self.members.insert(id.clone(), member);
        self.is_unstored = true;
        id
    }

    /// A static member comes back as `new_id`: it takes over what its predecessor has and was to have.
    pub(super) fn replace_member(&mut self, old_id: &MemberId, new_id: &str) -> MemberId {
        self.release(old_id);
        let id: MemberId = Arc::from(new_id);
        let mut member = self.members.remove(old_id).unwrap_or_else(|| Member::new(id.clone()));
        member.id = id.clone();
        member.epoch = 0;
        member.previous_epoch = 0;
        member.deadlines = Default::default();
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), id.clone());
        }
        self.members.insert(id.clone(), member);
        self.hold(&id);
        self.is_unstored = true;
        id
    }

    /// The member is out: what it had is free, and the others are to get it.
    pub(super) fn remove_member(&mut self, member_id: &MemberId) {
        self.release(member_id);
        let Some(member) = self.members.remove(member_id) else { return };
        if let Some(instance_id) = &member.instance_id
            && self.static_members.get(instance_id) == Some(member_id)
        {
            self.static_members.remove(instance_id);
        }
        self.subscriptions.is_outdated = true;
        self.is_unstored = true;
    }

    // Deadlines.

    /// Nothing happens by itself before this; [`ConsumerGroup::tick`] is due then.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.earliest_deadline_ms
    }

    pub(super) fn note_deadline(&mut self, at_ms: i64) {
        self.earliest_deadline_ms = Some(self.earliest_deadline_ms.map_or(at_ms, |earliest| earliest.min(at_ms)));
    }

    /// The member is alive now: its session starts anew.
    pub(super) fn renew_session(&mut self, member_id: &str, timeout_ms: u32, now_ms: i64) {
        let at_ms = now_ms.saturating_add(i64::from(timeout_ms));
        if let Some(member) = self.members.get_mut(member_id) {
            member.deadlines.session_ms = Some(at_ms);
            self.note_deadline(at_ms);
        }
    }
}

#[cfg(test)]
impl ConsumerGroup {
    /// What must always hold.
    pub(super) fn check(&self) {
        let mut count = 0;
        for (id, member) in &self.members {
            assert_eq!(*id, member.id);
            for partition in member.assigned.iter().chain(member.revoking.iter()) {
                assert_eq!(self.held.get(&partition), Some(id), "{partition:?}");
                count += 1;
            }
            if let Some(instance_id) = &member.instance_id {
                assert_eq!(self.static_members.get(instance_id), Some(id));
            }
            let first_ms = member.deadlines.first_ms();
            assert!(first_ms.is_none() || self.earliest_deadline_ms <= first_ms);
        }
        assert_eq!(count, self.held.len());
        assert!(self.static_members.values().all(|id| self.members.contains_key(id)));
    }
}
