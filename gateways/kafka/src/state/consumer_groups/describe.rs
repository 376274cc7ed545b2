//! A group as operators see it.

use std::sync::Arc;

use super::assignor::Assignor;
use super::group::ConsumerGroup;
use super::partitions::Partitions;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerGroupState {
    /// No members. It may have offsets.
    Empty,
    /// The target assignment is older than the group.
    Assigning,
    /// Members are on their way to their targets.
    Reconciling,
    /// Every member has what it is to have.
    Stable,
}

impl ConsumerGroupState {
    /// The name that clients and tools see.
    pub fn name(self) -> &'static str {
        match self {
            ConsumerGroupState::Empty => "Empty",
            ConsumerGroupState::Assigning => "Assigning",
            ConsumerGroupState::Reconciling => "Reconciling",
            ConsumerGroupState::Stable => "Stable",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupDescription {
    pub state: ConsumerGroupState,
    pub epoch: i32,
    pub assignment_epoch: i32,
    pub assignor: Assignor,
    pub members: Vec<ConsumerMemberDescription>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMemberDescription {
    pub id: String,
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub epoch: i32,
    pub client_id: String,
    pub client_host: String,
    pub topics: Arc<[String]>,
    pub regex: Option<String>,
    pub assigned: Partitions,
    pub target: Partitions,
    pub is_classic: bool,
}

impl ConsumerGroup {
    pub fn state(&self) -> ConsumerGroupState {
        if self.members.is_empty() {
            ConsumerGroupState::Empty
        } else if self.epoch != self.assignment_epoch {
            ConsumerGroupState::Assigning
        } else if self.members.values().all(|member| member.is_reconciled_to(self.assignment_epoch)) {
            ConsumerGroupState::Stable
        } else {
            ConsumerGroupState::Reconciling
        }
    }

    pub fn describe(&self) -> ConsumerGroupDescription {
        let members = self.members.values().map(|member| ConsumerMemberDescription {
            id: member.id.to_string(),
            instance_id: member.instance_id.clone(),
            rack_id: member.rack_id.clone(),
            epoch: member.epoch,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            topics: member.topics.clone(),
            regex: member.regex.clone(),
            assigned: member.assigned.clone(),
            target: member.target.clone(),
            is_classic: member.classic.is_some(),
        });
        ConsumerGroupDescription {
            state: self.state(),
            epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor: self.preferred_assignor(),
            members: members.collect(),
        }
    }
}
