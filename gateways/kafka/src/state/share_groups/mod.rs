//! Share groups (KIP-932): who is in them and who reads what ([`group`], [`assignor`]: pure, time passed in), the sessions
//! in which members fetch ([`sessions`]), and a thin shell around both.
//!
//! What must survive is the core's: a share group's lease maps say what was delivered and acknowledged. Its members are kept in
//! memory by the gateway that coordinates it. After a failover they are unknown, are told so, and join again; nobody
//! owns a partition, so nothing has to wait for that.

pub mod assignor;
pub mod group;
pub mod sessions;
mod shell;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use core_rpc::TopicId;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use group::{Heartbeat, HeartbeatAnswer, HeartbeatError, ShareGroup, ShareGroupDescription};
pub use sessions::ShareSessions;

/// The most records of a partition between the first that is not settled and the last that was delivered: Kafka's
/// `group.share.partition.max.record.locks`.
pub const RECORD_LOCKS_MAX: u64 = 2000;

/// A record that was delivered so often is not delivered again: Kafka's `group.share.delivery.count.limit`.
pub const DELIVERIES_MAX: u32 = 5;

/// The most members of a group: Kafka's `group.share.max.size`.
pub const MEMBERS_MAX: usize = 200;

/// What members subscribe to, as it is now: the topics of these names that there are, with their partitions.
pub type FindTopic<'a> = &'a dyn Fn(&str) -> Option<(TopicId, u32)>;

/// The members of the share groups that this gateway coordinates. Cheap to clone.
#[derive(Clone, Default)]
pub struct ShareGroups {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    groups: Mutex<HashMap<String, ShareGroup>>,
    /// A member may have an earlier deadline than all others.
    deadline_added: Notify,
}

impl ShareGroups {
    /// Begins to look after sessions that run out, until `stop`.
    pub fn start(stop: CancellationToken) -> ShareGroups {
        let groups = ShareGroups::default();
        let timer = groups.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = timer.run_timer() => {}
            }
        });
        groups
    }

    pub fn heartbeat(
        &self,
        group: &str,
        heartbeat: Heartbeat,
        topics: FindTopic<'_>,
    ) -> Result<HeartbeatAnswer, HeartbeatError> {
        let mut groups = self.shared.groups.lock();
        let is_join = heartbeat.is_join();
        if is_join {
            groups.entry(group.to_owned()).or_default();
        }
        let kept = groups.get_mut(group).ok_or(HeartbeatError::UnknownGroup)?;
        let answer = kept.heartbeat(heartbeat, Instant::now().into_std(), topics);
        if kept.is_empty() && answer.is_err() {
            groups.remove(group);
        }
        drop(groups);
        if is_join {
            // Other heartbeats only move deadlines back.
            self.shared.deadline_added.notify_one();
        }
        answer
    }

    /// The group, if anybody is or was in it since this gateway coordinates it.
    pub fn describe(&self, group: &str) -> Option<ShareGroupDescription> {
        self.shared.groups.lock().get(group).map(ShareGroup::describe)
    }

    /// Whether somebody is in it.
    pub fn has_members(&self, group: &str) -> bool {
        self.shared.groups.lock().get(group).is_some_and(|group| !group.is_empty())
    }

    /// All groups, and whether somebody is in them.
    pub fn list(&self) -> Vec<(String, bool)> {
        self.shared.groups.lock().iter().map(|(id, group)| (id.clone(), !group.is_empty())).collect()
    }

    /// Forgets a group. False: somebody is in it.
    pub fn delete(&self, group: &str) -> bool {
        let mut groups = self.shared.groups.lock();
        if groups.get(group).is_some_and(|group| !group.is_empty()) {
            return false;
        }
        groups.remove(group);
        true
    }

    async fn run_timer(&self) {
        loop {
            let now = Instant::now().into_std();
            let next = {
                let mut groups = self.shared.groups.lock();
                groups.values_mut().for_each(|group| group.expire(now));
                groups.values().filter_map(ShareGroup::next_deadline).min()
            };
            let wait = next.map_or(Duration::from_secs(3600), |next| next.saturating_duration_since(now));
            let _ = tokio::time::timeout(wait, self.shared.deadline_added.notified()).await;
        }
    }
}
