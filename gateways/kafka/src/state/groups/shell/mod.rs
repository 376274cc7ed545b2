//! The shell around the groups: loading and storing, parked requests, one timer for all.
//!
//! ```text
//! handler ─► Groups ─► slot (one per group, a lock) ─► Group (pure) ─► effects ─┬─► parked requests
//!               ▲                                                              └─► the core's meta
//!             timer: a heap of deadlines, one entry per group that has any
//! ```
//! What happens to one group happens in order, under its slot's lock, the storing of its record included. A group
//! with nobody in it is a small entry of a map; it has no task.

mod admin;
mod clock;
mod consumer;
mod coordinated;
mod lifetime;
mod offsets;
mod ownership;
mod retention;
mod slot;
mod store;
mod timer;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use core_rpc::{Core, META_KEY_BYTES_MAX, MetaError};
use dashmap::DashMap;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::config::GroupConfig;
use super::effect::{JoinRefused, Joined, Synced, Ticket};
use super::error::GroupError;
use super::join::JoinRequest;
use super::leave::Leaver;
use super::sync::SyncRequest;
use crate::state::brokers::Brokers;
use crate::state::consumer_groups::TopicImage;
use crate::state::deadlines::Deadlines;
use crate::state::internal_topics::Journal;

pub use admin::ListedGroup;
pub use consumer::Reader;
pub use lifetime::read as read_lifetime;
pub use offsets::{Commit, Committer};

use clock::Clock;
use coordinated::Coordinated;
use slot::{Parked, Slot};

/// How long to wait before asking a core again that could not answer.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The type of classic groups, as ListGroups names it.
const CLASSIC: &str = "classic";

/// The groups of a namespace that this gateway coordinates. Cheap to clone; every clone is the same.
pub struct Groups<C> {
    shared: Arc<Shared<C>>,
}

impl<C> Clone for Groups<C> {
    fn clone(&self) -> Self {
        Groups { shared: self.shared.clone() }
    }
}

struct Shared<C> {
    core: C,
    namespace: String,
    config: GroupConfig,
    /// Which of the groups are this gateway's.
    brokers: Brokers,
    /// The topics that the groups may read.
    topics: Arc<dyn TopicImage>,
    /// Where changes are told to whoever reads the internal topic.
    journal: Journal,
    clock: Clock,
    slots: DashMap<String, Arc<Slot>>,
    /// When a slot wants to be ticked, earliest first. An entry may be outdated; a tick too many does no harm.
    deadlines: Deadlines<Slot>,
    tickets: AtomicU64,
}

impl<C: Core> Groups<C> {
    /// Loads the groups that are stored and this gateway's to coordinate, giving their members a fresh session, and starts the timer. Waits until the
    /// core answers. The tasks end with `stop`.
    pub async fn start(
        core: C,
        namespace: String,
        config: GroupConfig,
        brokers: Brokers,
        topics: Arc<dyn TopicImage>,
        journal: Journal,
        stop: CancellationToken,
    ) -> Result<Self, MetaError> {
        let groups = Groups {
            shared: Arc::new(Shared {
                core,
                namespace,
                config,
                brokers: brokers.clone(),
                topics,
                journal,
                clock: Clock::start(),
                slots: DashMap::new(),
                deadlines: Deadlines::default(),
                tickets: AtomicU64::new(0),
            }),
        };
        // From before the loading on, so that no change is missed.
        let changes = brokers.changes();
        loop {
            match groups.load_all().await {
                Ok(()) => break,
                Err(MetaError::Unavailable) => tokio::time::sleep(RETRY_AFTER).await,
                Err(error) => return Err(error),
            }
        }
        let (timer, sweeper, owner) = (groups.clone(), groups.clone(), groups.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = timer.run_timer() => {}
                () = sweeper.run_retention() => {}
                () = owner.run_ownership(changes) => {}
            }
        });
        Ok(groups)
    }

    pub fn config(&self) -> &GroupConfig {
        &self.shared.config
    }

    /// Joins a member; returns when the rebalance has all members.
    pub async fn join(&self, group: &str, request: JoinRequest) -> Result<Joined, JoinRefused> {
        let member_id = request.member_id.clone();
        let refuse = |error| JoinRefused { error, member_id };
        if let Err(error) = self.check_id(group) {
            return Err(refuse(error));
        }
        let (answer, answered) = oneshot::channel();
        let (image, settings) = (&*self.shared.topics, self.consumer_settings());
        let joining =
            self.with_group(group, |loaded, now_ms| match loaded.group.as_classic(image, self.shared.config, now_ms) {
                Ok(group) => {
                    let ticket = self.shared.next_ticket();
                    loaded.parked.insert(ticket, Parked::Join(answer));
                    (None, group.join(request, ticket, now_ms))
                }
                Err(group) => {
                    let joined = match self.shared.config.check_session_timeout(request.session_timeout_ms) {
                        Ok(()) => group.classic_join(request, image, &settings, now_ms),
                        Err(error) => Err(JoinRefused { error, member_id: request.member_id }),
                    };
                    (Some(joined), Vec::new())
                }
            });
        match joining.await {
            Ok(Some(joined)) => joined,
            // The sender is only dropped where the whole gateway is.
            Ok(None) => answered.await.unwrap_or_else(|_| Err(refuse(GroupError::CoordinatorNotAvailable))),
            Err(error) => Err(refuse(error)),
        }
    }

    /// Returns a member's assignment, when the leader's are stored.
    pub async fn sync(&self, group: &str, request: SyncRequest) -> Result<Synced, GroupError> {
        self.check_id(group)?;
        let (answer, answered) = oneshot::channel();
        let syncing = self.with_group(group, |loaded, now_ms| match &mut loaded.group {
            Coordinated::Classic(group) => {
                let ticket = self.shared.next_ticket();
                loaded.parked.insert(ticket, Parked::Sync(answer));
                (None, group.sync(request, ticket, now_ms))
            }
            Coordinated::Consumer(group) => {
                let synced = group.classic_sync(
                    &request.member_id,
                    request.instance_id.as_deref(),
                    request.generation,
                    (request.protocol_type.as_deref(), request.protocol.as_deref()),
                    &*self.shared.topics,
                    now_ms,
                );
                (Some(synced), Vec::new())
            }
        });
        match syncing.await? {
            Some(synced) => synced,
            None => answered.await.unwrap_or(Err(GroupError::CoordinatorNotAvailable)),
        }
    }

    pub async fn heartbeat(
        &self,
        group: &str,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        self.check_id(group)?;
        self.with_group(group, |loaded, now_ms| {
            let beaten = match &mut loaded.group {
                Coordinated::Classic(group) => group.heartbeat(member_id, instance_id, generation, now_ms),
                Coordinated::Consumer(group) => group.classic_heartbeat(member_id, instance_id, generation, now_ms),
            };
            (beaten, Vec::new())
        })
        .await?
    }

    /// Answers for each leaver, in order.
    pub async fn leave(&self, group: &str, leavers: &[Leaver]) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        self.check_id(group)?;
        self.with_group(group, |loaded, now_ms| match &mut loaded.group {
            Coordinated::Classic(group) => group.leave(leavers, now_ms),
            Coordinated::Consumer(group) => (group.classic_leave(leavers), Vec::new()),
        })
        .await
    }

    /// Membership needs a name, one that fits the record's key. Offsets may be kept under any, even the empty one, as
    /// old clients do.
    fn check_id(&self, group: &str) -> Result<(), GroupError> {
        let fits = self.key(group).len() <= META_KEY_BYTES_MAX;
        if fits && !group.is_empty() { Ok(()) } else { Err(GroupError::InvalidGroupId) }
    }
}

impl<C> Shared<C> {
    fn next_ticket(&self) -> Ticket {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }
}
