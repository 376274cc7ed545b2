//! What a group wants done: answers to parked requests, and a record to store.

use bytes::Bytes;

use super::error::GroupError;
use super::record::GroupRecord;

/// Names a request that waits for its answer. The shell hands them out; each is answered exactly once.
pub type Ticket = u64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    JoinAnswer(Ticket, Result<Joined, JoinRefused>),
    SyncAnswer(Ticket, Result<Synced, GroupError>),
    /// Store this durably, then call [`super::Group::stored`] before any other event. Always the last effect of an event.
    Store(GroupRecord),
}

/// A member is in: the group's generation as the member may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub member_id: String,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    /// The leader must not compute assignments: those of the generation stand.
    pub skip_assignment: bool,
    /// Only for the leader.
    pub members: Vec<JoinedMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    /// The member's metadata for the chosen protocol.
    pub metadata: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRefused {
    pub error: GroupError,
    /// The id to go on with: a new one with `MemberIdRequired`, else the caller's or none.
    pub member_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Bytes,
}
