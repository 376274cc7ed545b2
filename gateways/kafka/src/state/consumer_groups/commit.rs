//! Who may commit and read offsets.

use super::group::ConsumerGroup;
use super::member::Member;
use crate::state::groups::GroupError;

/// Who commits, or reads.
#[derive(Clone, Copy, Debug)]
pub struct Committing<'a> {
    /// None, or empty in a commit: a client without membership.
    pub member_id: Option<&'a str>,
    /// Negative: a client without membership.
    pub epoch: i32,
}

impl ConsumerGroup {
    /// A client without membership may commit while there are no members.
    pub fn check_commit(&self, committing: Committing) -> Result<(), GroupError> {
        if committing.epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        self.check_epoch(committing)
    }

    /// Anybody may read; but who says that he is a member must be one, and know his epoch.
    pub fn check_read(&self, committing: Committing) -> Result<(), GroupError> {
        if committing.epoch < 0 && committing.member_id.is_none() {
            return Ok(());
        }
        self.check_epoch(committing)
    }

    fn check_epoch(&self, Committing { member_id, epoch }: Committing) -> Result<(), GroupError> {
        let member = member_id.and_then(|id| self.members.get(id)).ok_or(GroupError::UnknownMember)?;
        if member.epoch == epoch { Ok(()) } else { Err(stale(member)) }
    }
}

fn stale(member: &Member) -> GroupError {
    match member.classic {
        Some(_) => GroupError::IllegalGeneration,
        None => GroupError::StaleEpoch,
    }
}
