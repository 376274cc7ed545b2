//! LeaveGroup: members go, by themselves or put out by an operator.

use super::effect::Effect;
use super::error::GroupError;
use super::group::Group;
use super::state::GroupState;

/// Who leaves: a member id, or only an instance id where an operator removes a static member.
#[derive(Clone, Debug)]
pub struct Leaver {
    pub member_id: String,
    pub instance_id: Option<String>,
    /// The client's words, for the log.
    pub reason: Option<String>,
}

impl Group {
    /// Answers for each leaver, in order; the rest of the group rebalances once.
    pub fn leave(&mut self, leavers: &[Leaver], now_ms: i64) -> (Vec<Result<(), GroupError>>, Vec<Effect>) {
        debug_assert!(self.storing.is_none());
        let member_count = self.members.len();
        let results: Vec<_> = leavers.iter().map(|leaver| self.leave_one(leaver)).collect();
        if self.members.len() < member_count {
            self.rebalance("members left", now_ms);
        } else {
            // Perhaps an id went that was given out but never used.
            self.complete_join_if_all_joined(now_ms);
        }
        (results, std::mem::take(&mut self.effects))
    }

    fn leave_one(&mut self, leaver: &Leaver) -> Result<(), GroupError> {
        if self.state == GroupState::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        let member_id = match (&leaver.instance_id, leaver.member_id.as_str()) {
            (Some(instance_id), "") => {
                self.static_members.get(instance_id).cloned().ok_or(GroupError::UnknownMember)?
            }
            (_, member_id) if self.pending_joins.contains_key(member_id) => member_id.to_owned(),
            (instance_id, member_id) => {
                self.check_member(member_id, instance_id.as_deref())?;
                member_id.to_owned()
            }
        };
        let reason = leaver.reason.as_deref().unwrap_or("no reason given");
        tracing::info!(group = self.id, member = member_id, reason, "member left");
        self.remove_member(&member_id, GroupError::UnknownMember);
        Ok(())
    }
}
