//! A group as it is stored, and as it comes back.
//!
//! ```text
//! value of `group/<namespace>/<group>`:
//!   version u8 = 1 │ GroupRecord in postcard
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::config::GroupConfig;
use super::group::Group;
use super::member::Member;
use super::protocol::Protocol;
use super::state::GroupState;

/// Consumer groups' records, under the same keys, have another.
const RECORD_VERSION: u8 = 1;

/// What of a group must survive the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub generation: i32,
    pub leader: Option<String>,
    /// Since when it is Empty or Stable, ms since the Unix epoch.
    pub state_since_ms: i64,
    /// None: the group is Empty; else it is Stable.
    pub members: Vec<MemberRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    pub id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: u32,
    pub session_timeout_ms: u32,
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the group's record has the unknown version {0:?}")]
    Version(Option<u8>),
    #[error("the group's record cannot be read: {0}")]
    Damaged(postcard::Error),
}

impl GroupRecord {
    pub fn encode(&self) -> Result<Bytes, RecordError> {
        postcard::to_extend(self, vec![RECORD_VERSION]).map(Bytes::from).map_err(RecordError::Damaged)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.split_first() {
            Some((&RECORD_VERSION, rest)) => postcard::from_bytes(rest).map_err(RecordError::Damaged),
            other => Err(RecordError::Version(other.map(|(version, _)| *version))),
        }
    }
}

impl Group {
    /// A group as it was stored: Stable if it has members, whose sessions all start anew.
    pub fn restore(id: String, config: GroupConfig, record: GroupRecord, now_ms: i64) -> Self {
        let mut group = Group::new(id, config, now_ms);
        group.state = if record.members.is_empty() { GroupState::Empty } else { GroupState::Stable };
        group.state_since_ms = record.state_since_ms;
        group.protocol_type = record.protocol_type;
        group.protocol = record.protocol;
        group.generation = record.generation;
        for stored in record.members {
            if let Some(instance_id) = &stored.instance_id {
                group.static_members.insert(instance_id.clone(), stored.id.clone());
            }
            group.members.insert(stored.id.clone(), stored.into_member());
        }
        group.leader = record.leader.filter(|leader| group.members.contains_key(leader));
        if group.leader.is_none() {
            group.leader = group.members.keys().next().cloned();
        }
        group.subscribed_topics = group.compute_subscribed_topics();
        let ids: Vec<String> = group.members.keys().cloned().collect();
        for id in ids {
            group.renew_session(&id, now_ms);
        }
        group
    }

    pub(super) fn to_record(&self) -> GroupRecord {
        GroupRecord {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            generation: self.generation,
            leader: self.leader.clone(),
            state_since_ms: self.state_since_ms,
            members: self.members.values().map(MemberRecord::from).collect(),
        }
    }

    /// The record of this generation once it is Stable with these assignments.
    pub(super) fn to_stable_record(&self, assignments: &BTreeMap<String, Bytes>, now_ms: i64) -> GroupRecord {
        let mut record = self.to_record();
        record.state_since_ms = now_ms;
        for member in &mut record.members {
            member.assignment = assignments.get(&member.id).cloned().unwrap_or_default();
        }
        record
    }
}

impl From<&Member> for MemberRecord {
    fn from(member: &Member) -> Self {
        MemberRecord {
            id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
            assignment: member.assignment.clone(),
        }
    }
}

impl MemberRecord {
    fn into_member(self) -> Member {
        Member {
            id: self.id,
            instance_id: self.instance_id,
            client_id: self.client_id,
            client_host: self.client_host,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            protocols: self.protocols,
            assignment: self.assignment,
            is_new: false,
            awaiting_join: None,
            awaiting_sync: None,
            session_deadline_ms: None,
        }
    }
}
