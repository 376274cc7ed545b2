//! Signs of life: heartbeats, and offset commits, which count as such.

use super::error::GroupError;
use super::group::Group;
use super::state::GroupState;

impl Group {
    /// A member says that it is alive, and hears whether it must join again.
    pub fn heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now_ms: i64,
    ) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        self.check_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        self.renew_session(member_id, now_ms);
        if self.state == GroupState::PreparingRebalance { Err(GroupError::RebalanceInProgress) } else { Ok(()) }
    }

    /// Whether offsets may be committed. A negative generation is a client without membership (a tool, a consumer that
    /// assigns itself), which may commit while the group has no members.
    pub fn check_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now_ms: i64,
    ) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        if generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return Err(GroupError::UnknownMember);
        }
        self.check_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        if self.state == GroupState::CompletingRebalance {
            // It knows the new generation but not its assignment yet, so what it commits is from before.
            return Err(GroupError::RebalanceInProgress);
        }
        self.renew_session(member_id, now_ms);
        Ok(())
    }

    /// Whether offsets may be committed in a transaction. Producers of old clients do not say for which member they commit,
    /// and the others may commit while the group rebalances: the transaction's fencing keeps two from doing it.
    pub fn check_transactional_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now_ms: i64,
    ) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        let is_nobody = member_id.is_empty() && instance_id.is_none();
        if generation < 0 && (is_nobody || self.state == GroupState::Empty) {
            return Ok(());
        }
        self.check_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        self.renew_session(member_id, now_ms);
        Ok(())
    }
}
