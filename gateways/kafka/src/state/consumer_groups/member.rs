//! One member of a consumer group.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::assignor::Assignor;
use super::partitions::Partitions;
use crate::state::groups::Protocol;

/// A member's id. Shared, as every partition that it holds names it.
pub(super) type MemberId = Arc<str>;

/// The epoch of a static member that left for a while.
pub(super) const AWAY: i32 = -2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum MemberState {
    /// It has all of the target of its epoch.
    Stable,
    /// It has to give partitions up, and has not said yet that it did.
    Unrevoked,
    /// It waits for partitions that other members have not given up.
    Unreleased,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: MemberId,
    /// Set for a static member: the identity that outlives `id`.
    pub(super) instance_id: Option<String>,
    pub(super) rack_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    /// How long it may take to give partitions up.
    pub(super) rebalance_timeout_ms: u32,
    /// Sorted, without repetitions. Shared, as members of a group mostly subscribe to the same.
    pub(super) topics: Arc<[String]>,
    pub(super) regex: Option<String>,
    /// The assignor that it would like.
    pub(super) assignor: Option<Assignor>,
    pub(super) epoch: i32,
    /// The epoch before: a heartbeat with it is one whose answer was lost.
    pub(super) previous_epoch: i32,
    pub(super) state: MemberState,
    pub(super) assigned: Partitions,
    /// It has to give these up; they stay its own until then.
    pub(super) revoking: Partitions,
    /// What it is to have in the end.
    pub(super) target: Partitions,
    /// Set for a member that speaks the classic protocol.
    pub(super) classic: Option<ClassicFacts>,
    pub(super) deadlines: Deadlines,
}

/// What only members of the classic protocol say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClassicFacts {
    pub(super) session_timeout_ms: u32,
    /// In the member's order of preference.
    pub(super) protocols: Vec<Protocol>,
}

/// When a member is out, unless it does something before. Ms, None: nothing is waited for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deadlines {
    pub(super) session_ms: Option<i64>,
    /// Until then it must have given partitions up; void once its epoch is another.
    pub(super) revocation_ms: Option<i64>,
    /// Classic: until then it must have joined again.
    pub(super) join_ms: Option<i64>,
    /// Classic: until then it must have asked for its assignment.
    pub(super) sync_ms: Option<i64>,
}

impl Deadlines {
    pub(super) fn first_ms(&self) -> Option<i64> {
        [self.session_ms, self.revocation_ms, self.join_ms, self.sync_ms].into_iter().flatten().min()
    }
}

impl Member {
    /// A member of which nothing is known yet.
    pub(super) fn new(id: MemberId) -> Self {
        Member {
            id,
            instance_id: None,
            rack_id: None,
            client_id: String::new(),
            client_host: String::new(),
            rebalance_timeout_ms: 0,
            topics: Arc::from([]),
            regex: None,
            assignor: None,
            epoch: 0,
            previous_epoch: 0,
            state: MemberState::Stable,
            assigned: Partitions::default(),
            revoking: Partitions::default(),
            target: Partitions::default(),
            classic: None,
            deadlines: Deadlines::default(),
        }
    }

    pub(super) fn is_reconciled_to(&self, assignment_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == assignment_epoch
    }
}

/// A subscription as members keep it.
pub(super) fn sorted(mut topics: Vec<String>) -> Arc<[String]> {
    topics.sort_unstable();
    topics.dedup();
    topics.into()
}
