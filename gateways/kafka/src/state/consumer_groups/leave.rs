//! Members go: for good, or for a while.

use super::group::ConsumerGroup;
use super::member::{AWAY, MemberId};
use super::partitions::Partitions;
use crate::state::groups::{GroupError, Leaver};

/// A member that leaves by a heartbeat.
#[derive(Clone, Debug)]
pub struct Departure {
    pub member_id: String,
    pub instance_id: Option<String>,
    /// A static member that will be back: until its session ends, what it has stays its own.
    pub comes_back: bool,
}

impl ConsumerGroup {
    /// A member of the consumer protocol leaves.
    pub fn leave(&mut self, departure: &Departure) -> Result<(), GroupError> {
        let Departure { member_id, instance_id, comes_back } = departure;
        if let Some(instance_id) = instance_id {
            self.check_instance(instance_id, member_id)?;
        }
        let member = self.members.get_mut(member_id.as_str()).ok_or(GroupError::UnknownMember)?;
        let id = member.id.clone();
        tracing::info!(group = self.id, member = member_id, comes_back, "leaves");
        if !*comes_back {
            self.remove_member(&id);
            self.bump_epoch();
            return Ok(());
        }
        self.release(&id);
        if let Some(member) = self.members.get_mut(&id) {
            member.epoch = AWAY;
            // It has given up all, so nobody need wait for these.
            member.revoking = Partitions::default();
            member.deadlines.revocation_ms = None;
        }
        self.hold(&id);
        self.is_unstored = true;
        Ok(())
    }

    /// Members of the classic protocol leave, by themselves or put out by an operator. Answers in order.
    pub fn classic_leave(&mut self, leavers: &[Leaver]) -> Vec<Result<(), GroupError>> {
        let results: Vec<_> = leavers
            .iter()
            .map(|leaver| {
                let id = self.check_classic_leave(leaver)?;
                tracing::info!(group = self.id, member = &*id, reason = leaver.reason, "leaves");
                self.remove_member(&id);
                Ok(())
            })
            .collect();
        if results.iter().any(Result::is_ok) {
            self.bump_epoch();
        }
        results
    }

    fn check_classic_leave(&self, leaver: &Leaver) -> Result<MemberId, GroupError> {
        let member_id = match &leaver.instance_id {
            Some(instance_id) if leaver.member_id.is_empty() => {
                self.static_members.get(instance_id).map(|id| id.to_string()).ok_or(GroupError::UnknownMember)?
            }
            Some(instance_id) => {
                self.check_instance(instance_id, &leaver.member_id)?;
                leaver.member_id.clone()
            }
            None => leaver.member_id.clone(),
        };
        Ok(self.classic_member(&member_id)?.id.clone())
    }
}
