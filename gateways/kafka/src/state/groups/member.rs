//! One member of a group.

use bytes::Bytes;

use super::effect::Ticket;
use super::protocol::Protocol;

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: String,
    /// Set for a static member: the identity that outlives `id`.
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) rebalance_timeout_ms: u32,
    pub(super) session_timeout_ms: u32,
    /// In the member's order of preference; names are unique.
    pub(super) protocols: Vec<Protocol>,
    /// Empty until the leader's first assignment.
    pub(super) assignment: Bytes,
    /// Its first join is not answered yet.
    pub(super) is_new: bool,
    pub(super) awaiting_join: Option<Ticket>,
    pub(super) awaiting_sync: Option<Ticket>,
    /// None: nothing is expected of it now (it waits for us).
    pub(super) session_deadline_ms: Option<i64>,
}

impl Member {
    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|own| own.name == protocol)
    }

    /// Its metadata for a protocol; empty if it does not support it.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|own| own.name == protocol).map(|own| own.metadata.clone()).unwrap_or_default()
    }

    /// A member that waits for our answer cannot heartbeat, so it is taken to be alive. Not so a new one: a peer that
    /// gave up its first join would stay in the group for ever.
    pub(super) fn is_excused_from_heartbeat(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }
}
