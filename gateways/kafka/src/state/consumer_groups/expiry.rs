//! What happens when members do nothing: they are out.

use super::group::ConsumerGroup;
use super::member::MemberId;

impl ConsumerGroup {
    /// Puts out whose time is over. To be called at [`ConsumerGroup::next_deadline_ms`]; early or late does no harm.
    pub fn tick(&mut self, now_ms: i64) {
        let is_due = |at_ms: Option<i64>| at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        let late: Vec<(MemberId, &str)> = self
            .members
            .values()
            .filter(|member| is_due(member.deadlines.first_ms()))
            .map(|member| {
                let reason = match member.deadlines {
                    deadlines if is_due(deadlines.session_ms) => "its session ended",
                    deadlines if is_due(deadlines.revocation_ms) => "it did not give its partitions up in time",
                    deadlines if is_due(deadlines.join_ms) => "it did not join again in time",
                    _ => "it did not sync in time",
                };
                (member.id.clone(), reason)
            })
            .collect();
        for (id, reason) in &late {
            tracing::info!(group = self.id, member = &**id, reason, "removed");
            self.remove_member(id);
        }
        if !late.is_empty() {
            self.bump_epoch();
        }
        self.earliest_deadline_ms = self.members.values().filter_map(|member| member.deadlines.first_ms()).min();
    }
}
