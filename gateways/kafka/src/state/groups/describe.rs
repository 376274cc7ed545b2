//! A group as operators see it.

use bytes::Bytes;

use super::error::GroupError;
use super::group::Group;
use super::state::GroupState;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    pub state: GroupState,
    /// Empty if no member ever joined.
    pub protocol_type: String,
    /// The protocol in use; empty unless Stable.
    pub protocol: String,
    pub members: Vec<MemberDescription>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    pub id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// For the protocol in use; empty unless Stable.
    pub metadata: Bytes,
    /// Empty unless Stable.
    pub assignment: Bytes,
}

impl Group {
    pub fn describe(&self) -> GroupDescription {
        let stable_protocol = self.protocol.as_deref().filter(|_| self.state == GroupState::Stable);
        GroupDescription {
            state: self.state,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: stable_protocol.unwrap_or_default().to_owned(),
            members: self
                .members
                .values()
                .map(|member| MemberDescription {
                    id: member.id.clone(),
                    instance_id: member.instance_id.clone(),
                    client_id: member.client_id.clone(),
                    client_host: member.client_host.clone(),
                    metadata: stable_protocol.map(|protocol| member.metadata(protocol)).unwrap_or_default(),
                    assignment: stable_protocol.map(|_| member.assignment.clone()).unwrap_or_default(),
                })
                .collect(),
        }
    }

    pub fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    /// Whether the group may be deleted.
    pub fn check_delete(&self) -> Result<(), GroupError> {
        match self.state {
            GroupState::Empty => Ok(()),
            GroupState::Dead => Err(GroupError::GroupNotFound),
            _ => Err(GroupError::GroupNotEmpty),
        }
    }

    /// Whether offsets may be deleted at all; [`Group::is_subscribed_to`] says which.
    pub fn check_offset_delete(&self) -> Result<(), GroupError> {
        match self.state {
            GroupState::Empty => Ok(()),
            GroupState::Dead => Err(GroupError::GroupNotFound),
            // We could not tell what it reads.
            _ if !self.is_of_consumers() => Err(GroupError::GroupNotEmpty),
            _ => Ok(()),
        }
    }

    /// From which commit or moment on its offsets age. None: they do not age now.
    pub fn offsets_age_from(&self) -> Option<OffsetAge> {
        match (self.state, &self.protocol_type) {
            // Nobody ever joined: each offset ages by itself.
            (_, None) => Some(OffsetAge::SinceCommit),
            (GroupState::Empty, Some(_)) => Some(OffsetAge::Since(self.state_since_ms)),
            // Of a topic that it no longer reads.
            (GroupState::Stable, Some(_)) if self.subscribed_topics.is_some() => Some(OffsetAge::SinceCommit),
            _ => None,
        }
    }
}

/// From when on an offset's retention counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAge {
    SinceCommit,
    /// Ms since the Unix epoch.
    Since(i64),
}
